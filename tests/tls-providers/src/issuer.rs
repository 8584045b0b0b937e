//! An issuer and an API on loopback, over TLS. The crate's sandbox is not used, because it turns on a provider itself.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::Acceptor;
use rustls::{NamedGroup, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tower_bearer_auth::BoxError;

pub struct Issuer {
    pub origin: String,
    pub ca_pem: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    tokens: AtomicUsize,
    requests: AtomicUsize,
    connections: AtomicUsize,
    hybrid: AtomicUsize,
}

/// The counts since the last call.
#[derive(Debug)]
pub struct Counted {
    pub tokens: usize,
    pub requests: usize,
    pub connections: usize,
    /// Connections that offered X25519MLKEM768, which rustls supports with aws-lc-rs and not with ring.
    pub hybrid: usize,
}

impl Issuer {
    pub async fn start(provider: CryptoProvider) -> Result<Self, BoxError> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::try_from(made.key_pair.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let origin = format!("https://{}", listener.local_addr()?);
        let seen = Arc::new(Seen::default());
        let counts = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (config, counts) = (Arc::clone(&config), Arc::clone(&counts));
                // An error here shows at the client.
                tokio::spawn(async move { serve(tcp, config, &counts).await });
            }
        });
        Ok(Self { origin, ca_pem: made.cert.pem(), seen })
    }

    pub fn count(&self) -> Counted {
        Counted {
            tokens: self.seen.tokens.swap(0, Relaxed),
            requests: self.seen.requests.swap(0, Relaxed),
            connections: self.seen.connections.swap(0, Relaxed),
            hybrid: self.seen.hybrid.swap(0, Relaxed),
        }
    }
}

async fn serve(tcp: TcpStream, config: Arc<ServerConfig>, seen: &Seen) -> Result<(), BoxError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let groups = start.client_hello().named_groups().map(<[_]>::to_vec).unwrap_or_default();
    seen.connections.fetch_add(1, Relaxed);
    seen.hybrid.fetch_add(usize::from(groups.contains(&NamedGroup::X25519MLKEM768)), Relaxed);
    let stream = TokioIo::new(start.into_stream(config).await?);
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(&request, seen)));
    Ok(http1::Builder::new().serve_connection(stream, service).await?)
}

fn respond(request: &Request<Incoming>, seen: &Seen) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/token" => {
            seen.tokens.fetch_add(1, Relaxed);
            (StatusCode::OK, r#"{"access_token":"stamped","token_type":"Bearer","expires_in":1800}"#)
        }
        _ if request.headers().get(AUTHORIZATION).is_some_and(|value| value == "Bearer stamped") => {
            seen.requests.fetch_add(1, Relaxed);
            (StatusCode::OK, "")
        }
        _ => (StatusCode::UNAUTHORIZED, ""),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
