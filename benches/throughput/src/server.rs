//! A server on loopback with its own thread. It checks the protocol and the header of every request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// The counts of the server.
#[derive(Clone, Default)]
pub struct Counts {
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
}

impl Counts {
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Requests with an unexpected protocol or header.
    pub fn bad(&self) -> u64 {
        self.bad.load(Ordering::Relaxed)
    }

    fn respond(&self, request: &Request<Incoming>, version: Version, stamp: &str) -> Response<Full<Bytes>> {
        let arrived = request.headers().get(AUTHORIZATION).is_some_and(|value| value == stamp);
        let good = arrived && request.version() == version;
        (if good { &self.good } else { &self.bad }).fetch_add(1, Ordering::Relaxed);
        Response::new(Full::from(r#"{"status":"ok"}"#))
    }
}

/// Starts the server. It runs until the process ends.
pub fn start(version: Version, stamp: &'static str) -> (SocketAddr, Counts) {
    let counts = Counts::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let shared = counts.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket");
                let counts = shared.clone();
                tokio::task::spawn_local(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let response = counts.respond(&request, version, stamp);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let stream = TokioIo::new(stream);
                    // It returns an error if the client closes the connection first.
                    let _ = if version == Version::HTTP_2 {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                    } else {
                        http1::Builder::new().serve_connection(stream, service).await
                    };
                });
            }
        });
    });
    (address, counts)
}
