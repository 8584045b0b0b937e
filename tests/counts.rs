//! What one request, a burst of requests and an idle user cost: allocations, bytes and token requests.
//!
//! The counts have a binary of their own, so that other tests do not warm up what this process allocates once.
//!
//! `tests/golden/counts.txt` has an upper bound for each count. Change it by hand only: a failing test prints the lines
//! as they are now. If a count falls, lower its bound in the same commit. The benchmarks measure the same at full size,
//! see `BENCHMARKS.md`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::task::noop_waker_ref;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};
#[cfg(feature = "shared")]
use tower_bearer_auth::TokenProvider;
use tower_bearer_auth::replay::Bodies;
use tower_bearer_auth::{
    BearerAuth, BearerAuthLayer, BoxError, Error, ExtensionKey, IssuedToken, RequestKey, TokenSource, replay,
};
use tower_http::auth::AddAuthorizationLayer;

mod support;
use support::issuer::{Issuer, Outcome};

const BOUNDS: &str = include_str!("golden/counts.txt");
const ORIGIN: &str = "https://api.example.com";
const TOKEN: &str = "opaque-token-of-43-characters-0123456789abc";
const STAMP: &str = "Bearer opaque-token-of-43-characters-0123456789abc";

/// Fails if a count is above its bound, if it has no bound, or if a bound of `section` has no count.
fn check(section: &str, counted: &[(String, u64)]) {
    let bounds: Vec<(&str, u64)> = BOUNDS
        .lines()
        .filter(|line| line.starts_with(&format!("{section}: ")))
        .map(|line| {
            let (name, number) = line.rsplit_once(" = ").expect("`NAME = NUMBER`");
            (name.trim_end(), number.parse().expect("a number"))
        })
        .collect();
    let mut failures = Vec::new();
    for (name, count) in counted {
        println!("{name:68} = {count}");
        match bounds.iter().find(|(bounded, _)| bounded == name) {
            None => failures.push(format!("{name}: {count}, without a bound")),
            Some((_, bound)) if count > bound => failures.push(format!("{name}: {count}, above the bound of {bound}")),
            Some(_) => {}
        }
    }
    for (name, _) in &bounds {
        if !counted.iter().any(|(known, _)| known == name) {
            failures.push(format!("{name}: a bound, but not counted"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Asserts that the header arrives, and responds with 200.
#[derive(Clone, Default)]
struct Api {
    seen: Arc<AtomicU64>,
}

impl<B> Service<Request<B>> for Api {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let header = request.headers().get(AUTHORIZATION).expect("the header did not arrive");
        assert_eq!(header.as_bytes().strip_prefix(b"Bearer "), Some(TOKEN.as_bytes()));
        self.seen.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Response::new(Empty::new())))
    }
}

/// An issuer that returns the same token for every key after `latency`, or fails.
fn scripted_issuer<K: RequestKey>(latency: Duration, up: bool) -> Issuer<K> {
    let issuer = Issuer::keyed().without_history();
    issuer.set_latency(latency);
    issuer.script_always(if up { Outcome::Return(TOKEN) } else { Outcome::Fail(Error::transient("down")) });
    issuer
}

const LATENCY: Duration = Duration::from_millis(200);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn request<B>(body: B) -> Request<B> {
    Request::get("https://api.example.com/things?page=2")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "counts")
        .body(body)
        .unwrap()
}

/// A request with `count` headers. Clients make names and values from strings, so these are made from strings too.
fn request_with_headers(count: usize) -> Request<Full<Bytes>> {
    let mut request = request(Full::default());
    for number in request.headers().len()..count {
        let name = HeaderName::try_from(format!("x-header-{number}")).unwrap();
        request.headers_mut().insert(name, HeaderValue::try_from(format!("the value of header {number}")).unwrap());
    }
    request
}

/// The same, with a value that is cloned and not copied as text.
fn request_with_a_sensitive_header(count: usize) -> Request<Full<Bytes>> {
    let mut request = request_with_headers(count - 1);
    let mut value = HeaderValue::from_static("a session");
    value.set_sensitive(true);
    request.headers_mut().insert(COOKIE, value);
    request
}

/// Counts the request that one service of `layer` sends after `before` other requests. The first one marks the token as
/// accepted. With the second one the service caches the token for itself.
fn after<L, S, B>(before: usize, layer: &L, request: impl Fn() -> Request<B>) -> AllocationInfo
where
    L: Layer<Api, Service = S>,
    S: Service<Request<B>>,
{
    let api = Api::default();
    let mut service = layer.layer(api.clone());
    let mut send = |request| {
        let ready = service.poll_ready(&mut Context::from_waker(noop_waker_ref()));
        assert!(matches!(ready, Poll::Ready(Ok(()))));
        assert!(service.call(request).now_or_never().expect("nothing to wait for").is_ok());
    };
    for _ in 0..before {
        send(request());
    }
    let request = request();
    let counted = measure(|| send(request));
    assert_eq!(api.seen.load(Ordering::Relaxed), before as u64 + 1);
    counted
}

type SentFuture = <BearerAuth<Api, Issuer<()>> as Service<Request<Full<Bytes>>>>::Future;

/// Counts a request that is sent while `others` wait for their responses.
fn in_flight(others: usize, layer: &BearerAuthLayer<Issuer<()>>) -> AllocationInfo {
    let mut service = layer.layer(Api::default());
    let begin = |service: &mut BearerAuth<Api, Issuer<()>>, others: usize| {
        let requests: Vec<_> = (0..others).map(|_| request_with_headers(10)).collect();
        requests.into_iter().map(|request| service.call(request)).collect::<Vec<_>>()
    };
    // As many buffers as requests are sent at once.
    drop(begin(&mut service, others + 2));
    let _others = begin(&mut service, others);
    let request = request_with_headers(10);
    measure(|| assert!(service.call(request).now_or_never().expect("nothing to wait for").is_ok()))
}

/// Counts a request through a clone of the service, with the clone.
fn cloned_for_each<R: Bodies<Full<Bytes>>>(layer: &BearerAuthLayer<Issuer<()>, R>) -> AllocationInfo {
    let service = layer.layer(Api::default());
    let send = |request| {
        assert!(service.clone().call(request).now_or_never().expect("nothing to wait for").is_ok());
    };
    // The third clone creates the cells that all clones share.
    for _ in 0..4 {
        send(request_with_headers(2));
    }
    let request = request_with_headers(2);
    measure(|| send(request))
}

/// Counts a request that begins on one thread and completes on another, where it is also dropped. `from` is what has begun on
/// the other thread, and completes on this one before.
fn from_thread_to_thread(from: usize, layer: &BearerAuthLayer<Issuer<()>>) -> u64 {
    let begin = || {
        let mut service = layer.layer(Api::default());
        service.call(request_with_headers(10))
    };
    let complete = |future: SentFuture| assert!(future.now_or_never().expect("nothing to wait for").is_ok());
    std::thread::scope(|scope| {
        let there = scope.spawn(|| (0..from).map(|_| begin()).collect::<Vec<_>>()).join().unwrap();
        there.into_iter().for_each(complete);
        let mut service = layer.layer(Api::default());
        let request = request_with_headers(10);
        let mut future = None;
        let begun = measure(|| future = Some(service.call(request)));
        let completed = scope.spawn(move || {
            // A worker thread has completed others before.
            complete(begin());
            measure(|| complete(future.unwrap()))
        });
        begun.count_total + completed.join().unwrap().count_total
    })
}

fn warm<K: RequestKey>(keys: impl IntoIterator<Item = K>) -> BearerAuthLayer<Issuer<K>> {
    let source = TokenSource::builder(scripted_issuer::<K>(Duration::ZERO, true)).build();
    runtime().block_on(async {
        for key in keys {
            source.warm_up_for(&key).await.unwrap();
        }
    });
    source.layer().allow_origin(ORIGIN).unwrap()
}

/// The same with a token from a shared store.
#[cfg(feature = "shared")]
fn warm_shared() -> BearerAuthLayer<impl TokenProvider<Key = ()>> {
    use tower_bearer_auth::shared::{Identity, MemoryStore, SealingKey, Shared};

    let provider = tower_bearer_auth::from_fn(|| async { IssuedToken::bearer(TOKEN) });
    let provider = provider.identified_by(Identity::new("https://issuer.example"));
    let key = SealingKey::new(std::array::from_fn(|at| at as u8)).unwrap();
    let shared = Shared::builder(provider, MemoryStore::new()).sealing_key(key).build().unwrap();
    let source = TokenSource::new(shared);
    runtime().block_on(source.warm_up()).unwrap();
    source.layer().allow_origin(ORIGIN).unwrap()
}

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

#[test]
fn a_stamped_request_allocates_no_more_than_its_bound() {
    let empty = || request(Full::<Bytes>::default());
    let small = || request(Full::<Bytes>::from("sixteen bytes it"));
    let boxed = || small().map(|body| -> Boxed { body.map_err(|never| match never {}).boxed_unsync() });
    let user = || {
        let mut request = empty();
        request.extensions_mut().insert(7_u64);
        request
    };
    let there = || {
        let mut request = empty();
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static(STAMP));
        request
    };
    let wrap: fn(replay::ReplayBody<Boxed>) -> Boxed = |body| body.boxed_unsync();
    let one = warm([()]);
    let many = warm((0..1_000).map(ExtensionKey::<u64>));
    #[cfg(feature = "shared")]
    let shared = warm_shared();
    #[cfg(not(feature = "shared"))]
    let shared = one.clone();
    let counted = [
        ("static header", after(2, &AddAuthorizationLayer::bearer(TOKEN), empty)),
        ("off, the second", after(1, &one.clone().bodies(replay::Off), empty)),
        ("off", after(2, &one.clone().bodies(replay::Off), empty)),
        ("keyed, off", after(2, &many.clone().bodies(replay::Off), user)),
        ("shared, off", after(2, &shared.bodies(replay::Off), empty)),
        ("empty", after(2, &one, empty)),
        ("empty, 10 headers", after(2, &one, || request_with_headers(10))),
        ("empty, 20 headers", after(2, &one, || request_with_headers(20))),
        ("empty, 40 headers, one of them sensitive", after(2, &one, || request_with_a_sensitive_header(40))),
        ("empty, 16 at once", in_flight(15, &one)),
        ("off, the service cloned", cloned_for_each(&one.clone().bodies(replay::Off))),
        ("empty, the service cloned", cloned_for_each(&one)),
        ("empty, an extension of the user", after(2, &one, user)),
        ("keyed, empty", after(2, &many, user)),
        ("cloned", after(2, &one.clone().bodies(replay::Cloned), small)),
        ("if not present", after(2, &one.clone().if_not_present(), there)),
        ("buffered", after(2, &one.clone().bodies(replay::Buffered::new(64 * 1024, wrap)), boxed)),
    ];
    let rows = counted.map(|(way, counted)| {
        [
            (format!("stamped: {way}, allocations"), counted.count_total),
            (format!("stamped: {way}, bytes"), counted.bytes_total),
        ]
    });
    let mut rows = rows.as_flattened().to_vec();
    for (way, from) in [("as many come back", 1), ("none comes back", 0)] {
        let allocations = std::thread::scope(|scope| scope.spawn(|| from_thread_to_thread(from, &one)).join().unwrap());
        rows.push((format!("stamped: empty, to another thread, {way}, allocations"), allocations));
    }
    check("stamped", &rows);
}

#[test]
fn a_stamped_request_allocates_no_more_than_a_static_header_and_a_copy_of_the_head() {
    let empty = || request(Full::<Bytes>::default());
    let small = || request(Full::<Bytes>::from("sixteen bytes it"));
    let one = warm([()]);
    let count = |counted: AllocationInfo| counted.count_total;
    let fixed = count(after(2, &AddAuthorizationLayer::bearer(TOKEN), empty));
    let off = count(after(2, &one.clone().bodies(replay::Off), empty));
    assert!(off <= fixed, "{off} > {fixed}");

    let sample = request(());
    let copy = count(measure(|| {
        drop((sample.method().clone(), sample.uri().clone(), sample.headers().clone(), sample.extensions().clone()));
    }));
    for (way, kept) in [
        ("empty", count(after(2, &one, empty))),
        ("cloned", count(after(2, &one.clone().bodies(replay::Cloned), small))),
    ] {
        assert!(kept <= off + copy, "{way}: {kept} > {off} + {copy}");
    }
    // `Empty` cannot keep this body, so the head is not copied either.
    assert_eq!(count(after(2, &one, small)), off);
}

// Without it, each request looks up the cache and marks the token as accepted.
#[test]
fn the_second_request_of_a_service_keeps_the_grant_for_later_ones() {
    let layer = warm([()]).bodies(replay::Off);
    let allocations = |before| after(before, &layer, || request(Full::<Bytes>::default())).count_total;
    assert!(allocations(1) > 0);
    assert_eq!((allocations(2), allocations(3)), (0, 0));
}

// R73: the response body of a gRPC call is boxed, because it is polled before it is returned. Nothing else is added.
#[cfg(feature = "grpc")]
#[test]
fn a_grpc_call_allocates_one_more_with_the_layer_for_trailers() {
    use http_body::Frame;
    use tower_bearer_auth::{BearerAuth, grpc};

    /// One message, and trailers with status 0. Reading it allocates nothing.
    struct Message(Option<Bytes>, Option<http::HeaderMap>);

    impl http_body::Body for Message {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let data = self.0.take().map(Frame::data);
            Poll::Ready(data.or_else(|| self.1.take().map(Frame::trailers)).map(Ok))
        }
    }

    let call = || {
        let head = Request::post("https://api.example.com/test.Service/Method").header("te", "trailers");
        let head = head.header("content-type", "application/grpc").header(USER_AGENT, "tonic/0.14.2");
        head.body(Full::<Bytes>::default()).unwrap()
    };
    let server = || {
        tower::service_fn(|_: Request<Full<Bytes>>| {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Message(Some(Bytes::from_static(b"\0\0\0\0\x02ok")), Some(trailers));
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            ready(Ok::<_, Infallible>(response))
        })
    };
    /// Counts the third call of a service.
    fn third<S: Service<Request<Full<Bytes>>>>(mut service: S, call: impl Fn() -> Request<Full<Bytes>>) -> u64 {
        for _ in 0..2 {
            assert!(service.call(call()).now_or_never().is_some_and(|result| result.is_ok()));
        }
        let call = call();
        measure(|| assert!(service.call(call).now_or_never().is_some_and(|result| result.is_ok()))).count_total
    }

    let layer = warm([()]);
    let plain: BearerAuth<_, _, _> = layer.layer(server());
    let plain = third(plain, call);
    let watched = third(grpc::layer(layer).layer(server()), call);
    check(
        "grpc",
        &[
            ("grpc: a call without the layer for trailers, allocations".to_owned(), plain),
            ("grpc: a call with it, allocations".to_owned(), watched),
        ],
    );
    assert_eq!(watched, plain + 1);
}

const WAITERS: u64 = 1_000;

/// Polls a thousand futures once each while there is no token. Returns the token requests, how many futures succeed in
/// the end, and the bytes that one waiting future holds. The bytes do not include the first future, which also starts
/// the fetch.
fn storm<F, T, E>(issuer: &Issuer<()>, begin: impl FnMut() -> F) -> (u64, u64, u64)
where
    F: Future<Output = Result<T, E>>,
{
    let mut begin = begin;
    let mut waiting: Vec<Pin<Box<F>>> = Vec::with_capacity(WAITERS as usize);
    let (mut held, mut served) = (AllocationInfo::default(), 0);
    // Polls all futures in one go. Without `unconstrained`, tokio's budget would delay their timers.
    runtime().block_on(tokio::task::unconstrained(async {
        let mut wait = || {
            let mut future = Box::pin(begin());
            assert!(future.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_pending());
            waiting.push(future);
        };
        wait();
        held = measure(|| (1..WAITERS).for_each(|_| wait()));
        for future in waiting {
            served += u64::from(future.await.is_ok());
        }
    }));
    (issuer.requests() as u64, served, held.bytes_current as u64 / (WAITERS - 1))
}

#[test]
fn concurrent_requests_for_a_cold_key_cost_no_more_than_their_bounds() {
    let mut rows = Vec::new();
    for (up, outcome) in [(true, "success"), (false, "failure")] {
        let issuer = scripted_issuer::<()>(LATENCY, up);
        // Without patience, the waiters of a failed fetch fail with it.
        let source = TokenSource::builder(issuer.clone()).patience(Duration::ZERO).build();
        let (token_requests, served, a_waiter) = storm(&issuer, || source.token());
        assert_eq!(served, if up { WAITERS } else { 0 });
        rows.push((format!("storm: {WAITERS} on a source, {outcome}, token requests"), token_requests));
        if up {
            rows.push((format!("storm: {WAITERS} on a source, bytes a waiter"), a_waiter));
        }

        let (issuer, api) = (scripted_issuer::<()>(LATENCY, up), Api::default());
        let source = TokenSource::builder(issuer.clone()).patience(Duration::ZERO).build();
        let service = source.layer().allow_origin(ORIGIN).unwrap().layer(api.clone());
        let mut requests: Vec<_> = (0..WAITERS).map(|_| request(Full::<Bytes>::default())).collect();
        let (token_requests, served, a_waiter) = storm(&issuer, || service.clone().call(requests.pop().unwrap()));
        assert_eq!(served, if up { WAITERS } else { 0 });
        assert_eq!(api.seen.load(Ordering::Relaxed), served);
        rows.push((format!("storm: {WAITERS} through the layer, {outcome}, token requests"), token_requests));
        if up {
            rows.push((format!("storm: {WAITERS} through the layer, bytes a waiter"), a_waiter));
        }
        assert!(a_waiter <= 1_024, "{a_waiter} bytes a waiter");
    }
    check("storm", &rows);
}

/// With this many users, each of the 64 shards of the map is far from the size at which it doubles, however the keys
/// hash.
const USERS: u64 = 64 * 325;

// R31
#[test]
fn an_idle_user_takes_no_more_than_its_bound() {
    let issuer = scripted_issuer::<ExtensionKey<u64>>(Duration::ZERO, true);
    let source = TokenSource::builder(issuer.clone()).max_keys(USERS as usize).build();
    let runtime = runtime();
    runtime.block_on(source.warm_up_for(&ExtensionKey(USERS))).unwrap();
    let held = measure(|| {
        runtime.block_on(async {
            for user in 1..USERS {
                source.warm_up_for(&ExtensionKey(user)).await.unwrap();
            }
        });
    });
    assert_eq!((issuer.requests() as u64, source.stats().keys), (USERS, USERS));
    let token = measure(|| std::mem::forget(IssuedToken::bearer(TOKEN).unwrap()));
    let (user, token) = (held.bytes_current as u64 / (USERS - 1), token.bytes_current as u64);
    assert!(user - token <= 1_024, "{user} bytes a user, {token} of them the token");
    let rows =
        [("idle: a user, bytes beside the token".to_owned(), user - token), ("idle: a token, bytes".to_owned(), token)];
    check("idle", &rows);
}

#[test]
fn every_bound_belongs_to_a_section_that_is_counted() {
    for line in BOUNDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let section = line.split_once(": ").map(|(section, _)| section);
        assert!(matches!(section, Some("stamped" | "grpc" | "storm" | "idle")), "no test counts `{line}`");
    }
}
