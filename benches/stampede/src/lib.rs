//! An issuer and an API that count requests, for the programs in `src/bin/`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hash::Hash;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower_bearer_auth::{BearerAuthLayer, Error, ExtensionKey, FetchContext, IssuedToken, TokenProvider, TokenSource};
use tower_service::Service;

pub const LATENCY: Duration = Duration::from_millis(200);
pub const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);

/// Waits for its latency, then returns a new token of 43 characters, or fails.
#[derive(Clone)]
pub struct Issuer {
    requests: Arc<AtomicU64>,
    latency: Duration,
    lifetime: Duration,
    up: bool,
}

impl Issuer {
    pub fn new(latency: Duration, lifetime: Duration, up: bool) -> Self {
        Self { requests: Arc::default(), latency, lifetime, up }
    }

    /// The number of token requests.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The token of the `number`-th token request.
pub fn token(number: u64) -> String {
    format!("opaque-token-of-43-characters-{number:013}")
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.latency).await;
        if !self.up {
            return Err(Error::transient("the issuer is down"));
        }
        Ok(IssuedToken::bearer(token(number))?.expires_in(self.lifetime))
    }
}

pub fn layer(source: &TokenSource<Issuer>) -> BearerAuthLayer<Issuer> {
    source.layer().allow_origin("https://api.example.com").expect("an origin")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User(pub u64);

/// A provider with one token for each user and no latency.
pub struct Users;

impl TokenProvider for Users {
    type Key = ExtensionKey<User>;

    async fn fetch(
        &self,
        ExtensionKey(User(number)): &ExtensionKey<User>,
        _: &FetchContext,
    ) -> Result<IssuedToken, Error> {
        Ok(IssuedToken::bearer(token(*number))?.expires_in(24 * 2 * HALF_AN_HOUR))
    }
}

/// The inner service: it checks the header, counts the request and responds with 200.
#[derive(Clone, Default)]
pub struct Api {
    received: Arc<AtomicU64>,
    newest: Arc<AtomicU64>,
}

impl Api {
    /// The number of requests.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The number of the newest token that it received.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }
}

pub type ApiResponse = Response<Empty<Bytes>>;
pub type Plain = Full<Bytes>;

impl<B> Service<Request<B>> for Api {
    type Response = ApiResponse;
    type Error = Infallible;
    type Future = Ready<Result<ApiResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let number = header.and_then(|header| header.strip_prefix("Bearer opaque-token-of-43-characters-"));
        let number = number.and_then(|number| number.parse().ok()).expect("a token of the issuer");
        self.newest.fetch_max(number, Ordering::Relaxed);
        self.received.fetch_add(1, Ordering::Relaxed);
        drop(black_box(request));
        ready(Ok(Response::new(Empty::new())))
    }
}

pub fn request() -> Request<Plain> {
    Request::get("https://api.example.com/things?page=2")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "stampede")
        .body(Full::default())
        .expect("a request")
}
