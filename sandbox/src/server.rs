//! The accept loop. It listens on loopback only, and every task ends when the server is dropped.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// Which HTTP versions a sandbox serves. Over TLS, ALPN offers the same versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocols {
    /// HTTP/2 and HTTP/1.1. Over TLS, HTTP/2 is preferred.
    #[default]
    Both,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only. Without TLS, the client needs prior knowledge.
    Http2,
}

impl Protocols {
    pub(crate) fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }
}

pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

/// What the server does with the connection.
pub(crate) enum Reply {
    /// Sends the response.
    Response(Response<ReplyBody>),
    /// Closes the connection, with all its streams, without a response.
    Reset,
}

pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// One listener and its connections. Dropping it closes all of them.
pub(crate) struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves HTTP, over TLS if there is an acceptor.
    pub(crate) async fn http<H: Handler>(
        handler: Arc<H>,
        tls: Option<TlsAcceptor>,
        protocols: Protocols,
    ) -> io::Result<Self> {
        let builder = http_builder(protocols);
        Self::raw(tls, move |stream| {
            let (builder, handler) = (builder.clone(), Arc::clone(&handler));
            async move { serve_http(&builder, stream, handler).await }
        })
        .await
    }

    /// Calls `serve` with each accepted stream, after the TLS handshake.
    pub(crate) async fn raw<S, F>(tls: Option<TlsAcceptor>, serve: S) -> io::Result<Self>
    where
        S: Fn(Stream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(accept(listener, count, tls, Arc::new(serve)));
        Ok(Self { address, connections, accepting })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn reset_connections(&self) {
        self.connections.store(0, Ordering::SeqCst);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A stream, after the TLS handshake if there is TLS.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub(crate) type Stream = Box<dyn Duplex>;

async fn accept<S, F>(listener: TcpListener, connections: Arc<AtomicUsize>, tls: Option<TlsAcceptor>, serve: Arc<S>)
where
    S: Fn(Stream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut serving = JoinSet::new();
    // Declared after the set, so that the port is free before the first connection closes.
    let listener = listener;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The process has no free descriptor, or the client has closed the connection. The server goes on.
                Err(_) => {
                    tokio::task::yield_now().await;
                    continue;
                }
            },
            Some(_) = serving.join_next() => continue,
        };
        connections.fetch_add(1, Ordering::SeqCst);
        let (tls, serve) = (tls.clone(), Arc::clone(&serve));
        serving.spawn(async move {
            if let Ok(stream) = handshake(stream, tls).await {
                serve(stream).await;
            }
        });
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Box::new(tls.accept(stream).await?),
        None => Box::new(stream),
    })
}

fn http_builder(protocols: Protocols) -> auto::Builder<TokioExecutor> {
    // The tasks that HTTP/2 spawns for streams end with the connection.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Tests hold up to a thousand streams of one connection at a gate.
    builder.http2().max_concurrent_streams(4096);
    match protocols {
        Protocols::Both => builder,
        Protocols::Http1 => builder.http1_only(),
        Protocols::Http2 => builder.http2_only(),
    }
}

async fn serve_http<H: Handler>(builder: &auto::Builder<TokioExecutor>, stream: Stream, handler: Arc<H>) {
    let reset = Arc::new(Notify::new());
    let service = {
        let reset = Arc::clone(&reset);
        service_fn(move |request| {
            let (handler, reset) = (Arc::clone(&handler), Arc::clone(&reset));
            async move {
                match handler.handle(request).await {
                    Reply::Response(response) => Ok::<_, Infallible>(response),
                    Reply::Reset => {
                        reset.notify_one();
                        pending().await
                    }
                }
            }
        })
    };
    tokio::select! {
        // Many tests break connections on purpose, so an error here is not reported.
        _ = builder.serve_connection(TokioIo::new(stream), service) => {}
        () = reset.notified() => {}
    }
}
