//! An Aeropay issuer without sockets. It records the token requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use parking_lot::Mutex;
use tower::Service;
use tower_bearer_auth::aeropay::{ApiVersion, Environment};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{Aeropay, AeropayBuilder};

pub(crate) const SECRET: &str = "S3cret-CANARY \"quoted\" \\ \u{fc}";

/// One token request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: http::Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Sends the same response to every token request.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) calls: Arc<Mutex<Vec<Call>>>,
    status: u16,
    body: Bytes,
}

impl Issuer {
    pub(crate) fn responding(status: u16, body: impl Into<Bytes>) -> Self {
        Self { calls: Arc::default(), status, body: body.into() }
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().len()
    }
}

impl Service<Request<Bytes>> for Issuer {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let this = self.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = String::from_utf8(body.to_vec()).unwrap();
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

impl From<Issuer> for TokenClient {
    fn from(issuer: Issuer) -> Self {
        Self::new(issuer)
    }
}

/// The settings for a merchant in the sandbox environment.
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
    let unused = Issuer::responding(500, "");
    settings(version, unused).build().unwrap()
}
