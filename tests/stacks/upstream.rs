//! A resource server of the test's own, over TLS by the sandbox's authority: it answers and reads while the body goes on.

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

/// One request as it arrived, while it goes on.
pub(crate) struct Exchange {
    pub(crate) head: http::request::Parts,
    pub(crate) body: Incoming,
    /// The head of the answer, and its body frame by frame. Dropping the second ends the body.
    pub(crate) answer: tokio::sync::oneshot::Sender<Response<()>>,
    pub(crate) frames: mpsc::Sender<Bytes>,
}

impl Exchange {
    /// The next piece of the request's body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        let frame = within("a piece of the request", self.body.frame()).await?;
        Some(frame.unwrap().into_data().unwrap())
    }

    /// Sends the head of an answer.
    pub(crate) fn begin(self, head: Response<()>) -> (mpsc::Sender<Bytes>, Incoming) {
        self.answer.send(head).unwrap();
        (self.frames, self.body)
    }
}

/// A server whose requests the test takes one by one.
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
                    let service = service_fn(move |request| converse(arrive.clone(), request));
                    // A client that goes away ends its connection, and that is all.
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
                });
            }
        });
        Self { origin, arrivals }
    }

    pub(crate) async fn next(&mut self) -> Exchange {
        within("a request at the upstream", self.arrivals.recv()).await.unwrap()
    }

    /// Takes one request and answers it with 200 and this header.
    pub(crate) async fn answer(&mut self, headers: HeaderMap) -> http::request::Parts {
        let exchange = self.next().await;
        let mut head = Response::new(());
        *head.headers_mut() = headers;
        exchange.answer.send(head).unwrap();
        exchange.head
    }
}

/// TLS by the sandbox's authority. The cryptography is named: two may be compiled in, and none be the default.
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

async fn converse(
    arrive: mpsc::Sender<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let ((answer, answered), (frames, receiver)) = (tokio::sync::oneshot::channel(), mpsc::channel(16));
    let exchange = Exchange { head, body, answer, frames };
    if arrive.send(exchange).await.is_err() {
        return Ok(Response::new(Full::default().boxed()));
    }
    let frames = futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece: Bytes| (Ok(Frame::data(piece)), receiver))
    });
    let head = answered.await.unwrap_or_default();
    Ok(head.map(|()| BodyExt::boxed(StreamBody::new(frames))))
}
