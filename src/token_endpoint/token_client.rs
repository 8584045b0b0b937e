//! The HTTP service that sends token requests, with its type erased.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use parking_lot::Mutex;
use tower::util::BoxCloneService;
use tower::{Service, ServiceExt as _};

use super::response_body::ResponseBody;
use crate::error::BoxError;

type AnyService = BoxCloneService<Request<Bytes>, Response<ResponseBody>, BoxError>;

/// The HTTP service that sends token requests, whatever its type. Cloning shares the service.
///
/// Each token request uses its own clone of the service and drives it to readiness first.
#[derive(Clone)]
pub struct TokenClient {
    // A service that is `Clone` and `Send` need not be `Sync`, but a provider must be.
    service: Arc<Mutex<AnyService>>,
    is_http_client: bool,
}

impl TokenClient {
    /// Wraps an HTTP service: this crate's [`HttpClient`](super::HttpClient), hyper-util's client, or a tower stack.
    ///
    /// The request body `B` is any type that can be made from [`Bytes`], for example `http_body_util::Full<Bytes>` or
    /// `reqwest::Body`.
    ///
    /// The service must not follow redirects: it would send the client's secret to the host that the redirect names.
    /// The service may be wrapped in this crate's own layer, which passes token requests through.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower_bearer_auth::token_endpoint::TokenClient;
    /// use tower_bearer_auth::BoxError;
    ///
    /// let service = tower::service_fn(|_request: Request<Full<Bytes>>| async {
    ///     Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(r#"{"access_token":"abc","token_type":"Bearer"}"#)))
    /// });
    /// let client = TokenClient::new(service);
    /// # drop(client);
    /// ```
    ///
    /// An error of another service than [`HttpClient`](super::HttpClient) may contain the token URL in any spelling. If that URL
    /// has a query, or a path segment that may be a key, the [`Error`](crate::Error) of the call contains only the
    /// [`io::ErrorKind`](std::io::ErrorKind) of the service's error. A path segment may be a key if it has at least 16
    /// characters and a digit.
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
        let is_http_client = is_http_client(TypeId::of::<S>());
        Self { service: Arc::new(Mutex::new(BoxCloneService::new(service))), is_http_client }
    }

    /// Whether the service is this crate's own client, whose errors contain no URL.
    pub(super) fn is_http_client(&self) -> bool {
        self.is_http_client
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, BoxError> {
        let service = self.service.lock().clone();
        service.oneshot(request).await
    }
}

#[cfg(feature = "http-client")]
fn is_http_client(service: TypeId) -> bool {
    service == TypeId::of::<super::HttpClient>()
}

#[cfg(not(feature = "http-client"))]
fn is_http_client(_: TypeId) -> bool {
    false
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient").finish_non_exhaustive()
    }
}
