//! The HTTP service that sends token requests.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tower::util::BoxCloneService;
use tower::{Service, ServiceExt as _};

use crate::error::BoxError;

type Erased = BoxCloneService<Request<Bytes>, Response<ResponseBody>, BoxError>;

/// The HTTP service that sends token requests, whatever its type. Cloning shares the service.
///
/// Each token request uses its own clone of the service and drives it to readiness first.
#[derive(Clone)]
pub struct TokenClient {
    // A service that is `Clone` and `Send` need not be `Sync`, but a provider must be.
    service: Arc<Mutex<Erased>>,
}

impl TokenClient {
    /// Takes an HTTP service: this crate's [`HttpClient`](super::HttpClient), hyper-util's client, or a tower stack.
    ///
    /// Its request body is any type that is made from [`Bytes`], for example `http_body_util::Full<Bytes>` or `reqwest::Body`.
    ///
    /// The service must not follow redirects: one that follows them sends the client's secret to the host in the redirect. It may
    /// be wrapped in this crate's own layer, which passes token requests through.
    pub fn new<S, B, T>(service: S) -> Self
    where
        S: Service<Request<B>, Response = Response<T>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: From<Bytes> + 'static,
        T: Body + Send + 'static,
        T::Error: Into<BoxError>,
    {
        let service = service
            .map_request(|request: Request<Bytes>| request.map(B::from))
            .map_response(|response: Response<T>| response.map(ResponseBody::new))
            .map_err(Into::into);
        Self { service: Arc::new(Mutex::new(BoxCloneService::new(service))) }
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, BoxError> {
        let service = self.service.lock().clone();
        service.oneshot(request).await
    }
}

#[cfg(feature = "http-client")]
impl From<super::HttpClient> for TokenClient {
    fn from(client: super::HttpClient) -> Self {
        Self::new(client)
    }
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").finish_non_exhaustive()
    }
}

/// The body of a token endpoint's response, as it arrives.
pub struct ResponseBody {
    inner: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
}

impl ResponseBody {
    pub(super) fn new<T>(body: T) -> Self
    where
        T: Body + Send + 'static,
        T::Error: Into<BoxError>,
    {
        let body =
            body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))).map_err(Into::into);
        Self { inner: Box::pin(body) }
    }
}

impl Body for ResponseBody {
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

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
