//! A token endpoint and an API on one port of 127.0.0.1. They count the requests of the tables.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The servers have their own runtime, so that they do not end with an experiment.
static SERVERS: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
});

/// What the token endpoint does.
#[derive(Clone, Copy)]
pub struct Behavior {
    pub after: Duration,
    pub status: StatusCode,
    /// `expires_in`, in seconds.
    pub lives: u64,
}

impl Behavior {
    pub fn good(after: Duration) -> Self {
        Self { after, status: StatusCode::OK, lives: 3600 }
    }

    pub fn unavailable(after: Duration) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::good(after) }
    }
}

pub struct Issuer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Shared {
    behavior: Behavior,
    token_requests: watch::Sender<usize>,
    minted: Mutex<HashSet<String>>,
    revoked: Mutex<HashSet<String>>,
    sends: AtomicUsize,
    gate: Mutex<Gate>,
    /// The number of times that the gate has opened.
    released: watch::Sender<usize>,
}

/// The number of API requests to hold, and the number of them that have arrived.
#[derive(Default)]
struct Gate {
    held: usize,
    arrived: usize,
}

impl Issuer {
    pub fn start(behavior: Behavior) -> Self {
        let shared = Arc::new(Shared {
            behavior,
            token_requests: watch::Sender::new(0),
            minted: Mutex::default(),
            revoked: Mutex::default(),
            sends: AtomicUsize::new(0),
            gate: Mutex::default(),
            released: watch::Sender::new(0),
        });
        let listener = SERVERS.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepting = SERVERS.spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, address, accepting }
    }

    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub fn api_origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of token requests.
    pub fn token_requests(&self) -> usize {
        *self.shared.token_requests.borrow()
    }

    /// The number of API requests.
    pub fn sends(&self) -> usize {
        self.shared.sends.load(Ordering::SeqCst)
    }

    /// Waits until a token request has arrived.
    pub async fn wait_token_request(&self) {
        let mut requests = self.shared.token_requests.subscribe();
        requests.wait_for(|count| *count > 0).await.expect("the issuer is running");
    }

    /// Holds the next `count` API requests until all of them have arrived. Then revokes every token and releases the requests.
    pub fn revoke_under(&self, count: usize) {
        *self.shared.gate.lock().expect("no panic") = Gate { held: count, arrived: 0 };
    }

    pub fn has_minted(&self, token: &str) -> bool {
        self.shared.minted.lock().expect("no panic").contains(token)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&shared), request));
            // A closed connection is not an error here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, "/token") => shared.token(request).await,
        // The path of Microsoft Entra ID.
        (&Method::POST, "/tenant/oauth2/v2.0/token") => shared.token(request).await,
        (&Method::GET, "/things") => shared.things(&request).await,
        _ => plain(StatusCode::NOT_FOUND, "{}"),
    })
}

impl Shared {
    async fn token(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut number = 0;
        self.token_requests.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        if request.into_body().collect().await.is_ok_and(|body| body.to_bytes().is_empty()) {
            return plain(StatusCode::BAD_REQUEST, r#"{"error":"invalid_request"}"#);
        }
        tokio::time::sleep(self.behavior.after).await;
        if self.behavior.status != StatusCode::OK {
            return plain(self.behavior.status, r#"{"error":"temporarily_unavailable"}"#);
        }
        // 43 characters, as in the other benchmarks.
        let token = format!("opaque-token-of-43-characters-{number:013}");
        self.minted.lock().expect("no panic").insert(token.clone());
        let lives = self.behavior.lives;
        plain(StatusCode::OK, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lives}}}"#))
    }

    async fn things(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.sends.fetch_add(1, Ordering::SeqCst);
        if let Some(mut released) = self.held() {
            let _ = released.changed().await;
        }
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let minted = token.is_some_and(|token| self.minted.lock().expect("no panic").contains(token));
        let revoked = token.is_some_and(|token| self.revoked.lock().expect("no panic").contains(token));
        if minted && !revoked {
            return plain(StatusCode::OK, "{}");
        }
        let mut response = plain(StatusCode::UNAUTHORIZED, "{}");
        let challenge = http::HeaderValue::from_static(r#"Bearer error="invalid_token""#);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }
}

impl Shared {
    /// The signal to wait for, if the gate holds this request. The last request opens the gate.
    fn held(&self) -> Option<watch::Receiver<usize>> {
        let mut gate = self.gate.lock().expect("no panic");
        if gate.arrived == gate.held {
            return None;
        }
        gate.arrived += 1;
        if gate.arrived < gate.held {
            return Some(self.released.subscribe());
        }
        let minted = self.minted.lock().expect("no panic").clone();
        self.revoked.lock().expect("no panic").extend(minted);
        self.released.send_modify(|count| *count += 1);
        None
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
