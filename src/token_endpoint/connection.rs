//! A connection that knows whether a token request can be repeated: whether an earlier request used it, and whether a byte of
//! the latest response has arrived.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use http::{Extensions, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;

use super::proxy::Connector;
use crate::error::BoxError;

/// Whether the captured connection was used for an earlier request, and no byte of the response to the latest request has
/// arrived.
pub(super) fn is_worth_another(captured: &CaptureConnection) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = &*captured.connection_metadata() {
        connected.get_extras(&mut extras);
    }
    extras.get::<Progress>().is_some_and(|progress| progress.0.load(Ordering::Acquire) == LATER_REQUEST)
}

/// How far the exchange on a connection is. Bytes of TLS itself do not count.
#[derive(Clone, Default)]
struct Progress(Arc<AtomicU8>);

const FIRST_REQUEST: u8 = 0;
const FIRST_RESPONSE: u8 = 1;
const LATER_REQUEST: u8 = 2;
const LATER_RESPONSE: u8 = 3;

impl Progress {
    fn writes(&self) {
        if matches!(self.0.load(Ordering::Acquire), FIRST_RESPONSE | LATER_RESPONSE) {
            self.0.store(LATER_REQUEST, Ordering::Release);
        }
    }

    fn has_read(&self) {
        match self.0.load(Ordering::Acquire) {
            FIRST_REQUEST => self.0.store(FIRST_RESPONSE, Ordering::Release),
            LATER_REQUEST => self.0.store(LATER_RESPONSE, Ordering::Release),
            _ => {}
        }
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connection, above TLS.
pub(super) struct Observed {
    stream: TokioIo<Stream>,
    progress: Progress,
}

impl AsyncRead for Observed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.progress.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // The write may fail, and it may be complete in part. The request has begun in both cases.
        this.progress.writes();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.progress.writes();
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Connection for Observed {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.progress.clone())
    }
}

/// Opens observed connections.
#[derive(Clone)]
pub(super) struct ObservedConnector(pub(super) HttpsConnector<Connector>);

impl Service<Uri> for ObservedConnector {
    type Response = TokioIo<Observed>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, issuer: Uri) -> Self::Future {
        let connecting = self.0.call(issuer);
        Box::pin(async move {
            let stream = TokioIo::new(connecting.await?);
            Ok(TokioIo::new(Observed { stream, progress: Progress::default() }))
        })
    }
}
