//! An Aeropay without sockets: one function that answers token calls, and keeps what it was asked.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tower::Service;
use tower_bearer_auth::aeropay::{ApiVersion, Environment};
use tower_bearer_auth::{Aeropay, AeropayBuilder};

pub(crate) const SECRET: &str = "S3cret-CANARY \"quoted\" \\ \u{fc}";

/// What one token call looked like.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: http::Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Gives the same answer to every token call.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) calls: Arc<Mutex<Vec<Call>>>,
    status: u16,
    body: Bytes,
}

impl Issuer {
    pub(crate) fn answering(status: u16, body: impl Into<Bytes>) -> Self {
        Self { calls: Arc::default(), status, body: body.into() }
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().len()
    }
}

impl Service<Request<Full<Bytes>>> for Issuer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let this = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            this.calls.lock().push(Call {
                method: head.method,
                url: head.uri.to_string(),
                headers: head.headers,
                body,
            });
            let mut response = Response::new(Full::from(this.body));
            *response.status_mut() = http::StatusCode::from_u16(this.status).unwrap();
            Ok(response)
        }
        .boxed()
    }
}

/// A merchant in the sandbox environment.
pub(crate) fn settings(version: ApiVersion, issuer: Issuer) -> AeropayBuilder {
    Aeropay::builder()
        .api_version(version)
        .environment(Environment::Sandbox)
        .api_key("the-key")
        .api_secret(SECRET)
        .merchant_id(1057)
        .http_client(issuer)
}

pub(crate) fn provider(version: ApiVersion) -> Aeropay {
    let never_asked = Issuer::answering(500, "");
    settings(version, never_asked).build().unwrap()
}
