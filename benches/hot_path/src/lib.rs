//! The compared ways to stamp one request, over a service that does nothing.
//!
//! Every way is a tower layer over the same [`Sink`]. [`checked`] sends one request and asserts the header that arrives, before
//! a measurement starts.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::task::noop_waker_ref;
use http::header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::RwLock;
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::shared::{Identity, MemoryStore, SealingKey, Shared};
use tower_bearer_auth::{
    BearerAuthLayer, BoxError, Error, ExtensionKey, FetchContext, FixedToken, IssuedToken, TokenProvider, TokenSource,
    from_fn,
};
use tower_http::auth::AddAuthorizationLayer;
use tower_layer::Layer;
use tower_service::Service;

const ORIGIN: &str = "https://api.example.com";
const TOKEN: &str = "opaque-token-of-43-characters-0123456789abc";
/// The header value with [`TOKEN`].
pub const STAMP: &str = "Bearer opaque-token-of-43-characters-0123456789abc";

pub type SinkResponse = Response<Empty<Bytes>>;
pub type Plain = Full<Bytes>;
pub type Boxed = UnsyncBoxBody<Bytes, BoxError>;
pub type Wrap = fn(ReplayBody<Boxed>) -> Boxed;

/// The inner service: it drops the request and responds with 200.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    expected: Option<Option<&'static str>>,
}

impl Sink {
    const SILENT: Self = Self { expected: None };
}

impl<B> Service<Request<B>> for Sink {
    type Response = SinkResponse;
    type Error = Infallible;
    type Future = Ready<Result<SinkResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(expected) = self.expected {
            let arrived = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
            assert_eq!(arrived, expected.map(str::as_bytes), "the header differs");
        }
        drop(black_box(request));
        ready(Ok(Response::new(Empty::new())))
    }
}

/// Sends one request. It completes at the first poll.
// With two callers, the compiler would inline different parts of each way.
#[inline(never)]
pub fn send<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>>,
    S::Error: Debug,
{
    let ready = service.poll_ready(&mut Context::from_waker(noop_waker_ref()));
    assert!(matches!(ready, Poll::Ready(Ok(()))), "the inner service is always ready");
    service.call(request).now_or_never().expect("completes at the first poll").expect("a response")
}

/// The service to measure. First sends one request through an identical service and asserts that `expected` arrives.
pub fn checked<L, S, B>(layer: &L, request: Request<B>, expected: Option<&'static str>) -> S
where
    L: Layer<Sink, Service = S>,
    S: Service<Request<B>>,
    S::Error: Debug,
{
    send(&mut layer.layer(Sink { expected: Some(expected) }), request);
    layer.layer(Sink::SILENT)
}

/// The head of the requests. Clients make most header values from strings, so these are too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A `GET` with this many headers.
    Headers(usize),
    /// Two headers, and an extension of the user.
    Extension,
    /// What tonic 0.14 sends to this layer.
    Tonic,
    /// What reqwest 0.13 sends to this layer.
    Reqwest,
}

const HEADERS: [(&str, &str); 20] = [
    ("accept", "application/json"),
    ("user-agent", "hot-path/1.0"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("cache-control", "no-cache"),
    ("content-type", "application/json"),
    ("x-request-id", "01234567-0123-4123-8123-012345678901"),
    ("traceparent", "00-01234567890123456789012345678901-0123456789012345-01"),
    ("x-tenant", "orders"),
    ("origin", "https://www.example.com"),
    ("referer", "https://www.example.com/things?page=1"),
    ("x-forwarded-for", "203.0.113.7, 198.51.100.17"),
    ("x-forwarded-proto", "https"),
    ("if-none-match", "\"0123456789012345678901234567890123456789\""),
    ("via", "1.1 gateway.example.com"),
    ("tracestate", "vendor=0123456789012345"),
    ("baggage", "user=7,region=eu-north-1"),
    ("x-b3-spanid", "0123456789012345"),
    ("x-api-version", "2026-11-28"),
    ("dnt", "1"),
];

impl Head {
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "extension" => Some(Self::Extension),
            "tonic" => Some(Self::Tonic),
            "reqwest" => Some(Self::Reqwest),
            _ => word.parse().ok().filter(|count| *count <= HEADERS.len()).map(Self::Headers),
        }
    }

    #[must_use]
    pub fn empty(self) -> Request<Plain> {
        self.request(Full::default())
    }

    /// With a body of 16 bytes.
    #[must_use]
    pub fn small(self) -> Request<Plain> {
        self.request(Full::from("sixteen bytes it"))
    }

    /// The same in a box.
    #[must_use]
    pub fn boxed(self) -> Request<Boxed> {
        self.small().map(|body| body.map_err(|never| match never {}).boxed_unsync())
    }

    /// A request of one of `users`, in a pseudo-random order.
    #[must_use]
    pub fn user(self, turn: u64, users: u64) -> Request<Plain> {
        let mut request = self.empty();
        request.extensions_mut().insert(User(turn.wrapping_mul(2_654_435_761) % users));
        request
    }

    fn request<B>(self, body: B) -> Request<B> {
        let get = || Request::get("https://api.example.com/things?page=2");
        let get_with = |count: usize| {
            let mut builder = get();
            // In one allocation: the holes of a map that grows let freed blocks merge, and glibc then takes other paths.
            builder.headers_mut().expect("no error").reserve(count + 1);
            HEADERS.iter().take(count).fold(builder, |builder, (name, value)| builder.header(*name, *value))
        };
        let builder = match self {
            Self::Headers(count) => get_with(count),
            Self::Extension => get_with(2).extension(Tag(7)),
            Self::Tonic => Request::post("https://api.example.com/things.Things/List")
                .version(Version::HTTP_2)
                .header("te", HeaderValue::from_static("trailers"))
                .header("content-type", HeaderValue::from_static("application/grpc"))
                .header("user-agent", "tonic/0.14"),
            Self::Reqwest => get().header("accept", HeaderValue::from_static("*/*")).header("user-agent", "orders/1.0"),
        };
        builder.body(body).expect("a request")
    }
}

/// An extension of the user.
#[derive(Clone, Copy, Debug)]
pub struct Tag(pub u64);

/// With tonic's headers, and one message in a box.
pub fn call() -> Request<Boxed> {
    let body = Full::from(&b"\0\0\0\0\x0csixteen-byte"[..]);
    Request::post("https://api.example.com/test.Service/Method")
        .header(TE, "trailers")
        .header(CONTENT_TYPE, "application/grpc")
        .header(USER_AGENT, "tonic/0.14.2")
        .body(body.map_err(|never| match never {}).boxed_unsync())
        .expect("a request")
}

pub struct Bare;

impl<S> Layer<S> for Bare {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        inner
    }
}

/// tower-http's layer with a static token.
pub fn fixed() -> AddAuthorizationLayer {
    AddAuthorizationLayer::bearer(TOKEN)
}

/// This crate's layer with a cached token and the default replay setting.
pub fn ours() -> BearerAuthLayer<FixedToken> {
    let source = TokenSource::new(FixedToken::new(TOKEN).expect("a token"));
    block_on(source.token()).expect("a token");
    source.layer().allow_origin(ORIGIN).expect("an origin")
}

/// As [`ours`], with a token that processes share.
pub fn shared() -> BearerAuthLayer<impl TokenProvider<Key = ()>> {
    let token = || async { Ok(IssuedToken::bearer(TOKEN)?.expires_in(Duration::from_secs(24 * 60 * 60))) };
    let provider = from_fn(token).identified_by(Identity::new("https://issuer.example"));
    let key = SealingKey::new(std::array::from_fn(|at| at as u8)).expect("a key");
    let shared = Shared::builder(provider, MemoryStore::new()).sealing_key(key).build().expect("a provider");
    let source = TokenSource::new(shared);
    block_on(source.token()).expect("a token");
    assert_eq!(source.stats().store_leases, 1, "the store was not used");
    source.layer().allow_origin(ORIGIN).expect("an origin")
}

pub fn buffered() -> Buffered<Wrap> {
    Buffered::new(64 * 1024, |body| body.boxed_unsync())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User(u64);

/// A provider with one token for each user.
pub struct Users;

impl TokenProvider for Users {
    type Key = ExtensionKey<User>;

    async fn fetch(
        &self,
        ExtensionKey(User(number)): &ExtensionKey<User>,
        _: &FetchContext,
    ) -> Result<IssuedToken, Error> {
        let token = IssuedToken::bearer(format!("opaque-token-of-43-characters-{number:013}"))?;
        Ok(token.expires_in(Duration::from_secs(24 * 60 * 60)))
    }
}

/// The header value for the first user of [`Head::user`].
pub const USER_STAMP: &str = "Bearer opaque-token-of-43-characters-0000000000000";

/// This crate's layer with `users` users. Each has a cached token.
pub fn keyed(users: u64) -> BearerAuthLayer<Users> {
    let source = TokenSource::builder(Users).max_keys(usize::try_from(users).expect("that many keys")).build();
    block_on(async {
        for number in 0..users {
            source.warm_up_for(&ExtensionKey(User(number))).await.expect("a token");
        }
    });
    let stats = source.stats();
    assert_eq!((stats.keys, stats.fetches), (users, users), "not every user has a token");
    source.layer().allow_origin(ORIGIN).expect("an origin")
}

/// `layer` over a gRPC server: its responses have a message and trailers with status 0.
pub struct OverGrpc<L>(pub L);

impl<S, L: Layer<GrpcServer<S>>> Layer<S> for OverGrpc<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> L::Service {
        self.0.layer(GrpcServer { inner })
    }
}

#[derive(Clone, Debug)]
pub struct GrpcServer<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for GrpcServer<S>
where
    S: Service<Request<B>, Response = SinkResponse, Future = Ready<Result<SinkResponse, Infallible>>>,
{
    type Response = Response<Message>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Message>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.inner.call(request).into_inner().expect("a response");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = Message { data: Some(Bytes::from_static(b"\0\0\0\0\x02ok")), trailers: Some(trailers) };
        let mut response = response.map(|_| body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        ready(Ok(response))
    }
}

/// A body of one message and trailers. Reading it allocates nothing.
#[derive(Debug)]
pub struct Message {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

/// A common hand-written layer: the token is a string under a lock, and each request formats a header from it.
#[derive(Clone)]
pub struct ByHand<S> {
    token: Arc<RwLock<Option<String>>>,
    inner: S,
}

pub struct ByHandLayer(Arc<RwLock<Option<String>>>);

pub fn by_hand() -> ByHandLayer {
    ByHandLayer(Arc::new(RwLock::new(Some(TOKEN.to_owned()))))
}

impl<S> Layer<S> for ByHandLayer {
    type Service = ByHand<S>;

    fn layer(&self, inner: S) -> ByHand<S> {
        ByHand { token: Arc::clone(&self.0), inner }
    }
}

impl<S, B> Service<Request<B>> for ByHand<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let token = Arc::clone(&self.token);
        Box::pin(async move {
            let value = match token.read().await.as_deref() {
                Some(token) => format!("Bearer {token}"),
                None => return Err("no token".into()),
            };
            request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_str(&value)?);
            inner.call(request).await.map_err(Into::into)
        })
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}
