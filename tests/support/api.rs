//! An API in this process, for virtual time. It records every request that it receives.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tower::Service;
use tower_bearer_auth::BoxError;

type Respond = dyn Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync;

/// Responds when the complete body of a request has arrived.
#[derive(Clone)]
pub(crate) struct Api {
    requests: Arc<Mutex<Vec<Arc<Request<Bytes>>>>>,
    respond: Arc<Respond>,
}

impl Api {
    pub(crate) fn new(respond: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self { requests: Arc::default(), respond: Arc::new(respond) }
    }

    /// Every request, replays included, in order of arrival.
    pub(crate) fn sends(&self) -> Vec<Arc<Request<Bytes>>> {
        self.requests.lock().clone()
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
            api.requests.lock().push(Arc::clone(&request));
            // A response over a network is never ready at once either.
            tokio::task::yield_now().await;
            Ok((api.respond)(&request))
        })
    }
}

/// The API as a token endpoint.
#[cfg(feature = "token-endpoint")]
impl From<Api> for tower_bearer_auth::token_endpoint::TokenClient {
    fn from(api: Api) -> Self {
        Self::new::<_, Full<Bytes>, _>(api)
    }
}
