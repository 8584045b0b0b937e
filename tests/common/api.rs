//! An API in this process, for virtual time. It keeps every request that reaches it, byte for byte.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tower::Service;
use tower_bearer_auth::BoxError;

type Judge = dyn Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync;

/// Answers as its judge says, once a request's body has arrived.
#[derive(Clone)]
pub(crate) struct Api {
    seen: Arc<Mutex<Vec<Arc<Request<Bytes>>>>>,
    judge: Arc<Judge>,
}

impl Api {
    pub(crate) fn new(judge: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self { seen: Arc::default(), judge: Arc::new(judge) }
    }

    /// Every sending, in order of arrival.
    pub(crate) fn sends(&self) -> Vec<Arc<Request<Bytes>>> {
        self.seen.lock().clone()
    }
}

impl<B> Service<Request<B>> for Api
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let request = Arc::new(Request::from_parts(head, body));
            api.seen.lock().push(Arc::clone(&request));
            // The answer takes a turn of the scheduler, as one over a network does.
            tokio::task::yield_now().await;
            Ok((api.judge)(&request))
        })
    }
}

/// A 401 with `challenge`, or with none where that is empty.
pub(crate) fn refused(challenge: &str) -> Response<Full<Bytes>> {
    let mut response = answer(StatusCode::UNAUTHORIZED);
    if !challenge.is_empty() {
        response.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
    }
    response
}

pub(crate) fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(status.to_string())));
    *response.status_mut() = status;
    response
}

/// The token that a request carries, without its scheme.
pub(crate) fn bearer(request: &Request<Bytes>) -> &str {
    let mut values = request.headers().get_all("authorization").iter();
    let value = values.next().map_or("", |value| value.to_str().unwrap());
    assert!(values.next().is_none(), "one Authorization header at most");
    value.strip_prefix("Bearer ").unwrap_or_default()
}

/// What says that the token was invalid (RFC 6750 section 3.1).
pub(crate) const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";
