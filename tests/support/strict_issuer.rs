//! A strict token endpoint with plain hyper. It checks the request against RFC 6749 sections 3.2 and 4.4.2, and the
//! test checks the client authentication. It echoes each rejected request in its error response, as a hostile issuer
//! would.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// One token request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) authorization: Vec<String>,
    pub(crate) body: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) accepted: bool,
}

impl ReceivedRequest {
    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that occurs exactly once.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

type Check = dyn Fn(&ReceivedRequest) -> bool + Send + Sync;

pub(crate) struct StrictIssuer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl StrictIssuer {
    /// Starts an issuer. `accepts` checks the client authentication.
    pub(crate) async fn start(accepts: impl Fn(&ReceivedRequest) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (keep, check): (_, Arc<Check>) = (Arc::clone(&seen), Arc::new(accepts));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (keep, check) = (Arc::clone(&keep), Arc::clone(&check));
                let service = service_fn(move |request| respond(request, Arc::clone(&keep), Arc::clone(&check)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn token_url(&self) -> String {
        format!("http://{}/oauth/token", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.seen.lock().clone()
    }
}

async fn respond(
    request: Request<Incoming>,
    keep: Arc<Mutex<Vec<ReceivedRequest>>>,
    check: Arc<Check>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let authorization = head.headers.get_all("authorization").iter();
    let mut seen = ReceivedRequest {
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()).collect(),
        fields: form_urlencoded::parse(body.as_bytes()).into_owned().collect(),
        body,
        accepted: false,
    };
    // Only `resource` may be repeated (RFC 8707 section 2, RFC 6749 section 3.2), and no value may be empty.
    let once = |name: &str| name == "resource" || seen.one(name).is_some();
    let is_valid = head.method == Method::POST
        && head.uri.path() == "/oauth/token"
        && head.uri.query().is_none()
        && head.headers.get("content-type").is_some_and(|value| value == "application/x-www-form-urlencoded")
        && seen.one("grant_type") == Some("client_credentials")
        && seen.fields.iter().all(|(name, value)| !value.is_empty() && once(name));
    seen.accepted = is_valid && check(&seen);
    let echo = serde_json::json!({
        "error": if is_valid { "invalid_client" } else { "invalid_request" },
        "error_description": format!("{seen:?}"),
    });
    let response = if seen.accepted {
        let body = r#"{"access_token":"gT5fV3sE-token","token_type":"Bearer","expires_in":60}"#;
        Response::builder().status(200).body(Full::from(body))
    } else {
        Response::builder()
            .status(if is_valid { 401 } else { 400 })
            .header("www-authenticate", format!("Basic realm=\"{}\"", seen.authorization.join(" ")))
            .body(Full::from(echo.to_string()))
    };
    keep.lock().push(seen);
    Ok(response.unwrap())
}
