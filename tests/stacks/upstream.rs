//! A resource server over TLS with a certificate of the sandbox's authority. It responds before the request body has
//! ended.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A request that is still running.
pub(crate) struct Exchange {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Incoming,
    /// Sends the head of the response.
    pub(crate) respond: tokio::sync::oneshot::Sender<Response<()>>,
    /// Sends the frames of the response body. Dropping it ends the body.
    pub(crate) frames: mpsc::Sender<Bytes>,
}

impl Exchange {
    /// The next piece of the request body, or `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        let frame = within("a piece of the request", self.body.frame()).await?;
        Some(frame.unwrap().into_data().unwrap())
    }

    /// Sends the head of the response.
    pub(crate) fn begin(self, head: Response<()>) -> (mpsc::Sender<Bytes>, Incoming) {
        self.respond.send(head).unwrap();
        (self.frames, self.body)
    }
}

/// A server that gives its requests to the test, one by one.
pub(crate) struct Upstream {
    pub(crate) origin: String,
    pub(crate) arrivals: mpsc::Receiver<Exchange>,
}

impl Upstream {
    pub(crate) async fn start(sandbox: &AccessPspSandbox, http: Http) -> Self {
        let tls = acceptor(sandbox, http);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let (arrive, arrivals) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, arrive) = (tls.clone(), arrive.clone());
                tokio::spawn(async move {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    let service = service_fn(move |request| serve(arrive.clone(), request));
                    // The client may close its connection.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
                });
            }
        });
        Self { origin, arrivals }
    }

    pub(crate) async fn next(&mut self) -> Exchange {
        within("a request at the upstream", self.arrivals.recv()).await.unwrap()
    }

    /// Takes one request and responds with 200 and these headers.
    pub(crate) async fn respond(&mut self, headers: HeaderMap) -> http::request::Parts {
        let exchange = self.next().await;
        let mut head = Response::new(());
        *head.headers_mut() = headers;
        exchange.respond.send(head).unwrap();
        exchange.head
    }
}

/// TLS with a certificate of the sandbox's authority. It names its cryptography, because two may be compiled in without
/// a default.
pub(crate) fn acceptor(sandbox: &AccessPspSandbox, http: Http) -> TlsAcceptor {
    let (certificate, key) = sandbox.server_identity_pem().unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = match http {
        Http::One => vec!["http/1.1".into()],
        Http::Two => vec!["h2".into()],
    };
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    arrive: mpsc::Sender<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let ((respond, head_sent), (frames, receiver)) = (tokio::sync::oneshot::channel(), mpsc::channel(16));
    let exchange = Exchange { head, body, respond, frames };
    if arrive.send(exchange).await.is_err() {
        return Ok(Response::new(Full::default().boxed()));
    }
    let frames = futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece: Bytes| (Ok(Frame::data(piece)), receiver))
    });
    let head = head_sent.await.unwrap_or_default();
    Ok(head.map(|()| BodyExt::boxed(StreamBody::new(frames))))
}
