//! The layer returns an error of its own only if it did not send the request.

use std::sync::Arc;
use std::task::Context;

use tower_bearer_auth::replay::{self, Mode};

use super::*;

/// An inner service that fails at a given point and counts requests.
#[derive(Clone)]
struct Fragile {
    sends: Arc<AtomicUsize>,
    readied: Arc<AtomicUsize>,
    /// The result of each send. The last one is repeated.
    results: &'static [Inner],
    /// Whether `poll_ready` fails after the first send.
    unready_after_send: bool,
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Ok,
    Rejected,
    Broken,
}

impl Fragile {
    fn new(results: &'static [Inner]) -> Self {
        Self { sends: Arc::default(), readied: Arc::default(), results, unready_after_send: false }
    }

    fn sends(&self) -> usize {
        self.sends.load(Ordering::SeqCst)
    }
}

impl Service<Request<Body>> for Fragile {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.readied.fetch_add(1, Ordering::SeqCst);
        if self.unready_after_send && self.sends() > 0 {
            return Poll::Ready(Err("the pool is closed".into()));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let sent = self.sends.fetch_add(1, Ordering::SeqCst);
        std::future::ready(match self.results[sent.min(self.results.len() - 1)] {
            Inner::Ok => Ok(response(StatusCode::OK)),
            Inner::Rejected => Ok(rejection(INVALID_TOKEN)),
            Inner::Broken => Err("the connection broke".into()),
        })
    }
}

/// The result of a token request.
#[derive(Clone, Copy, Debug)]
enum Issuer {
    Mints,
    FailsFor(ErrorKind),
    Panics,
    Hangs,
}

async fn fetch(n: usize, first: Issuer, later: Issuer) -> Result<IssuedToken, Error> {
    match if n == 1 { first } else { later } {
        Issuer::Mints => token(n),
        Issuer::FailsFor(kind) => Err(Error::transient("down").with_kind(kind)),
        Issuer::Panics => panic!("a bug in the provider"),
        Issuer::Hangs => pending().await,
    }
}

// R17, R25, R28, R29: the outcome of every path, and how often the request was sent.
#[tokio::test(start_paused = true)]
async fn an_error_of_the_layer_means_that_nothing_was_sent() {
    use ErrorKind::{InsecureUrl, NoOrigin, Panicked, Timeout, Unavailable};
    use Inner::{Broken, Ok as Good, Rejected};
    use Issuer::{FailsFor, Hangs, Mints, Panics};
    /// What the caller gets.
    #[derive(Debug, PartialEq)]
    enum Outcome {
        NotSent(ErrorKind),
        Inner(&'static str),
        Status(u16),
    }
    use Outcome::{NotSent, Status};
    type Row = (&'static str, Issuer, Issuer, &'static [Inner], bool, usize, Outcome);
    let table: &[Row] = &[
        (API, Mints, Mints, &[Good], false, 1, Status(200)),
        ("http://api.example.com/", Mints, Mints, &[Good], false, 0, NotSent(InsecureUrl)),
        (API, FailsFor(Unavailable), Mints, &[Good], false, 1, Status(200)),
        (API, FailsFor(Unavailable), FailsFor(Unavailable), &[Good], false, 0, NotSent(Unavailable)),
        (API, Panics, Mints, &[Good], false, 0, NotSent(Panicked)),
        (API, Hangs, Mints, &[Good], false, 0, NotSent(Timeout)),
        (API, Mints, Mints, &[Broken], false, 1, Outcome::Inner("the connection broke")),
        (API, Mints, Mints, &[Rejected, Good], false, 2, Status(200)),
        (API, Mints, Mints, &[Rejected, Rejected], false, 2, Status(401)),
        (API, Mints, Mints, &[Rejected, Broken], false, 2, Outcome::Inner("the connection broke")),
        (API, Mints, Mints, &[Rejected, Good], true, 1, Outcome::Inner("the pool is closed")),
        (API, Mints, FailsFor(Unavailable), &[Rejected, Good], false, 1, Status(401)),
        (API, Mints, Panics, &[Rejected, Good], false, 1, Status(401)),
        (API, Mints, Hangs, &[Rejected, Good], false, 1, Status(401)),
    ];
    for row in table {
        let (uri, first, later, results, unready, sends, expected) = row;
        let (first, later) = (*first, *later);
        let (provider, _) = issuer(move |n| fetch(n, first, later));
        let inner = Fragile { unready_after_send: *unready, ..Fragile::new(results) };
        let client = BearerAuthLayer::new(provider).allow_origin(API).unwrap().layer_over(inner.clone());
        let outcome = match client.oneshot(get(uri)).await {
            Ok(response) => Status(response.status().as_u16()),
            Err(error) => match Error::find(&*error) {
                Some(error) => NotSent(error.kind()),
                None if error.to_string() == "the pool is closed" => Outcome::Inner("the pool is closed"),
                None => Outcome::Inner("the connection broke"),
            },
        };
        assert_eq!((inner.sends(), &outcome), (*sends, expected), "{row:?}");
        assert_eq!(matches!(outcome, NotSent(_)), inner.sends() == 0, "if and only if nothing was sent");
    }
    let inner = Fragile::new(&[Good]);
    let client = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap()).layer_over(inner.clone());
    let error = client.oneshot(get(API)).await.unwrap_err();
    let found = Error::find(&*error).unwrap();
    assert_eq!((found.kind(), inner.sends()), (NoOrigin, 0));
    assert!(found.hint().unwrap().contains("allow_origin"));
}

// R29
#[tokio::test(start_paused = true)]
async fn a_missing_key_is_an_error_before_any_io() {
    let inner = Fragile::new(&[Inner::Ok]);
    let source = TokenSource::new(Keyed::default());
    source.warm_up_for(&ExtensionKey(1)).await.unwrap();
    let client = source.layer().layer_over(inner.clone());
    let error = client.clone().oneshot(get(API)).await.unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::MissingKey));
    assert_eq!(inner.sends(), 0);
    let everywhere = BearerAuthLayer::new(Keyed { anywhere: true, ..Keyed::default() }).layer_over(inner.clone());
    assert_eq!(kind(&everywhere.oneshot(get(API)).await.unwrap_err()), Some(ErrorKind::NoOrigin));
    assert_eq!((inner.sends(), source.stats().fetches), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_not_ready_for_the_replay_returns_its_own_error() {
    for mode in [Mode::Safe, Mode::Always] {
        let inner = Fragile { unready_after_send: true, ..Fragile::new(&[Inner::Rejected]) };
        let (provider, fetches) = issuer(|n| async move { token(n) });
        let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().bodies(replay::Cloned).replay(mode);
        let source = layer.source().clone();
        let error = layer.layer_over(inner.clone()).oneshot(get(API)).await.unwrap_err();
        assert!(Error::find(&*error).is_none(), "{error}");
        assert_eq!((inner.sends(), fetches.count()), (1, 2));
        assert_eq!(inner.readied.load(Ordering::SeqCst), 2);
        assert_eq!((source.stats().replays, source.stats().rejections), (0, 1));
    }
}

/// A request with the maximum number of headers, less `spare`.
fn nearly_full(spare: usize) -> Request<Body> {
    let mut request = get(API);
    let name = |n: usize| HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap();
    let headers = request.headers_mut();
    let mut count = 0;
    while headers.try_insert(name(count), HeaderValue::from_static("v")).is_ok() {
        count += 1;
    }
    for n in count - spare..count {
        headers.remove(name(n));
    }
    request
}

// R17: `HeaderMap` panics if a header is added to a full map.
#[tokio::test(start_paused = true)]
async fn a_request_with_too_many_headers_is_an_error_before_any_io() {
    for (spare, warm, sends) in [(0, true, 0), (0, false, 0), (1, true, 2), (1, false, 2)] {
        let inner = Fragile::new(&[Inner::Rejected, Inner::Ok]);
        let (provider, _) = issuer(|n| async move { token(n) });
        let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
        if warm {
            layer.source().token().await.unwrap();
        }
        let outcome = layer.layer_over(inner.clone()).oneshot(nearly_full(spare)).await;
        assert_eq!(inner.sends(), sends, "{spare} {warm}");
        if sends > 0 {
            assert_eq!(outcome.unwrap().status(), 200);
            continue;
        }
        let error = outcome.unwrap_err();
        let found = Error::find(&*error).unwrap();
        assert_eq!((found.kind(), found.is_transient()), (ErrorKind::InvalidRequest, false));
        assert!(found.hint().unwrap().contains("fewer headers"));
    }
    // The API headers count too, one for each name.
    for (spare, sends) in [(2, 0), (3, 2)] {
        let inner = Fragile::new(&[Inner::Rejected, Inner::Ok]);
        let mut request = nearly_full(spare);
        request.extensions_mut().insert(7_u32);
        let outcome = BearerAuthLayer::new(Keyed::default()).layer_over(inner.clone()).oneshot(request).await;
        assert_eq!((inner.sends(), outcome.is_ok()), (sends, sends > 0), "{spare}");
    }
}

// R14: only the polls of the future need a runtime.
#[test]
fn a_call_outside_of_a_runtime_gets_its_token_if_it_is_polled_in_one() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let source = TokenSource::new(provider);
    let mut client = source.layer().allow_origin(API).unwrap().layer_over(Api::new(ok));
    let call = client.call(get(API));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(call).unwrap().status(), StatusCode::OK);
    source.invalidate();
    let error = futures::executor::block_on(client.call(get(API))).unwrap_err();
    assert_eq!((kind(&error), fetches.count()), (Some(ErrorKind::NoRuntime), 1));
}

// R42: in a backoff, no request looks the token up twice.
#[test]
fn a_request_that_fails_at_once_is_counted_once() {
    let (provider, fetches) = issuer(|_| async { Err(Error::permanent("no such client")) });
    let source = TokenSource::new(provider);
    let mut client = source.layer().allow_origin(API).unwrap().layer_over(Api::new(ok));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for failed_fast in 0..3 {
        runtime.block_on(async { client.call(get(API)).await }).unwrap_err();
        assert_eq!((source.stats().failed_fast, fetches.count()), (failed_fast, 1));
    }
    let call = client.call(get(API));
    assert_eq!(source.stats().failed_fast, 3, "outside of a runtime too");
    futures::executor::block_on(call).unwrap_err();
    assert_eq!(source.stats().failed_fast, 3);
}
