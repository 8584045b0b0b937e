//! Any tower HTTP service, behind one type.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tower::util::BoxCloneService;
use tower::{Service, ServiceExt as _};

use crate::error::BoxError;

type Erased = BoxCloneService<Request<Full<Bytes>>, Response<AnswerBody>, BoxError>;

/// The HTTP service that token requests go through, whatever its type. Cloning shares it.
///
/// Each token request uses a clone of the service of its own, and drives it to readiness first.
#[derive(Clone)]
pub struct TokenClient {
    // A service that can be cloned and sent need not be `Sync`, which a provider has to be.
    service: Arc<Mutex<Erased>>,
}

impl TokenClient {
    /// Takes an HTTP service: this crate's [`HttpClient`](super::HttpClient), hyper-util's, or a stack of your own.
    ///
    /// It has to leave redirects to the caller: one that follows them sends the client's secret to wherever it is told
    /// to. It may be wrapped in this crate's own layer, which passes token requests on as they are.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service.map_response(|response: Response<B>| response.map(AnswerBody::new)).map_err(Into::into);
        Self { service: Arc::new(Mutex::new(BoxCloneService::new(service))) }
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<AnswerBody>, BoxError> {
        let service = self.service.lock().clone();
        service.oneshot(request).await
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").finish_non_exhaustive()
    }
}

/// The body of a token endpoint's answer, as it streams in.
pub struct AnswerBody {
    inner: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
}

impl AnswerBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body =
            body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))).map_err(Into::into);
        Self { inner: Box::pin(body) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.inner.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}
