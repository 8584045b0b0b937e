//! The layer outside and inside of tower's layers.

use std::future::ready;

use futures::future::join_all;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::error::Overloaded;
use tower::retry::Policy;
use tower::timeout::error::Elapsed;
use tower::{Service, ServiceBuilder};

use super::*;
use crate::support::issuer::RequestCount;

const CALLS: usize = 20;

/// Counts the requests that are in it at the same time.
#[derive(Clone)]
struct Busy<S> {
    inner: S,
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl<S> Busy<S> {
    fn new(inner: S) -> Self {
        Self { inner, inside: Arc::default(), most: Arc::default() }
    }
}

impl<S> Service<Request<Body>> for Busy<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inside, most) = (Arc::clone(&self.inside), Arc::clone(&self.most));
        let response = self.inner.call(request);
        Box::pin(async move {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            let response = response.await;
            inside.fetch_sub(1, Ordering::SeqCst);
            response
        })
    }
}

/// Sends `CALLS` concurrent requests. Those with the first token are rejected and replayed.
async fn all_succeed<S>(client: S)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone,
{
    let calls = (0..CALLS).map(|_| client.clone().oneshot(get()));
    for response in timeout(FOREVER, join_all(calls)).await.expect("no call hangs") {
        assert_eq!(response.unwrap().status(), 200);
    }
}

/// A source that has the first token already, so that all calls start with it.
async fn warm() -> (TokenSource<impl TokenProvider<Key = ()>>, RequestCount) {
    let (provider, fetches) = issuer(|n| async move {
        sleep(Duration::from_millis(50)).await;
        token(n)
    });
    let source = TokenSource::new(provider);
    source.warm_up().await.unwrap();
    (source, fetches)
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_of_one_neither_deadlocks_nor_loses_its_permit() {
    for outside in [false, true] {
        let (source, fetches) = warm().await;
        let auth = source.layer().allow_origin(API).unwrap();
        let api = rejects_the_first();
        let busy = Busy::new(api.clone());
        let highest = Arc::clone(&busy.most);
        let permits = Arc::new(Semaphore::new(1));
        if outside {
            let client = ConcurrencyLimit::with_semaphore(auth.layer(Strict::new(busy)), Arc::clone(&permits));
            all_succeed(client).await;
        } else {
            let limit = ConcurrencyLimit::with_semaphore(Strict::new(busy), Arc::clone(&permits));
            all_succeed(auth.layer(limit)).await;
        }
        // Only one request was sent with the rejected token. The others were stamped after it.
        assert_eq!(api.sends().len(), CALLS + 1);
        assert_eq!((highest.load(Ordering::SeqCst), permits.available_permits()), (1, 1));
        assert_eq!(fetches.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn all_requests_succeed_through_a_buffer_inside_and_outside() {
    for bound in [1, 64] {
        let (source, fetches) = warm().await;
        let auth = source.layer().allow_origin(API).unwrap();
        let inside = ServiceBuilder::new().layer(auth.clone()).buffer(bound).service(Strict::new(rejects_the_first()));
        all_succeed(inside).await;
        assert_eq!(fetches.count(), 2);

        let (source, fetches) = warm().await;
        let auth = source.layer().allow_origin(API).unwrap();
        let outside = ServiceBuilder::new().buffer(bound).layer(auth).service(Strict::new(rejects_the_first()));
        all_succeed(outside).await;
        assert_eq!(fetches.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_layer_is_found_through_a_buffer() {
    let (provider, _) = issuer(|_| async { Err(Error::permanent("no").with_kind(ErrorKind::InvalidCredentials)) });
    let client = ServiceBuilder::new().buffer(1).layer(layer(provider)).service(Strict::new(rejects_the_first()));
    let error = client.oneshot(get()).await.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::InvalidCredentials);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_counts_replays_inside_of_the_layer_and_not_outside() {
    let second = Duration::from_secs(1);
    let start = sleep(Duration::ZERO).deadline();
    let elapsed = || (sleep(Duration::ZERO).deadline() - start).as_secs();
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    let api = rejects_the_first();
    // A `RateLimit` is not `Clone`. A buffer around it makes it so.
    let mut client =
        ServiceBuilder::new().layer(auth).buffer(4).rate_limit(1, second).service(Strict::new(api.clone()));
    for (call, at) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(client.ready().await.unwrap().call(get()).await.unwrap().status(), 200, "call {call}");
        assert_eq!(elapsed(), at, "call {call}");
    }
    assert_eq!((api.sends().len(), fetches.count()), (4, 2));

    let start = sleep(Duration::ZERO).deadline();
    let elapsed = || (sleep(Duration::ZERO).deadline() - start).as_secs();
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    let api = rejects_the_first();
    let mut client = ServiceBuilder::new().rate_limit(1, second).layer(auth).service(Strict::new(api.clone()));
    for (call, at) in [(1, 0), (2, 1), (3, 2)] {
        assert_eq!(client.ready().await.unwrap().call(get()).await.unwrap().status(), 200, "call {call}");
        assert_eq!(elapsed(), at, "call {call}");
    }
    assert_eq!((api.sends().len(), fetches.count()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_shed_returns_the_error_of_the_inner_service() {
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    let api = rejects_the_first();
    let permits = Arc::new(Semaphore::new(1));
    let limit = ConcurrencyLimit::with_semaphore(Strict::new(api.clone()), Arc::clone(&permits));
    let below = auth.layer(ServiceBuilder::new().load_shed().service(limit));
    assert_eq!(below.clone().oneshot(get()).await.unwrap().status(), 200);
    assert_eq!((api.sends().len(), fetches.count(), permits.available_permits()), (2, 2, 1));

    // Another call takes the permit during the fetch.
    source.invalidate();
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    let limit = ConcurrencyLimit::with_semaphore(Strict::new(api.clone()), Arc::clone(&permits));
    let below = auth.layer(ServiceBuilder::new().load_shed().service(limit));
    let call = tokio::spawn(below.oneshot(get()));
    sleep(Duration::from_millis(20)).await;
    let taken = Arc::clone(&permits).try_acquire_owned().expect("a replay holds no permit while it waits for a token");
    let error = call.await.unwrap().unwrap_err();
    assert!(error.is::<Overloaded>() && Error::find(&*error).is_none(), "{error}");
    drop(taken);
    assert_eq!((fetches.count(), permits.available_permits()), (2, 1));

    // Outside of the layer, a call with a replay counts once.
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    let limit = ConcurrencyLimit::with_semaphore(Strict::new(rejects_the_first()), permits);
    let outside = ServiceBuilder::new().load_shed().layer(auth).service(limit);
    assert_eq!(outside.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(fetches.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_limits_each_send_and_outside_the_whole_call() {
    let patience = Duration::from_millis(55);
    let (source, fetches) = warm().await;
    let auth = source.layer().allow_origin(API).unwrap();
    // 10 ms for each send and 50 ms for the token. Each send is in time, and the whole call is not.
    let slow = Busy::new(rejects_the_first());
    let below = auth.layer(ServiceBuilder::new().timeout(patience).service(Strict::new(slow)));
    assert_eq!(below.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(fetches.count(), 2);

    let (source, fetches) = warm().await;
    let permits = Arc::new(Semaphore::new(1));
    let auth = source.layer().allow_origin(API).unwrap();
    let slow = Strict::new(Busy::new(rejects_the_first()));
    let limit = ConcurrencyLimit::with_semaphore(slow, Arc::clone(&permits));
    let outside = ServiceBuilder::new().timeout(patience).layer(auth).service(limit);
    let error = outside.clone().oneshot(get()).await.unwrap_err();
    assert!(error.is::<Elapsed>() && Error::find(&*error).is_none(), "{error}");
    assert_eq!(permits.available_permits(), 1, "the dropped call releases its permit");
    // The fetch was not cancelled, and the next call uses its token.
    assert_eq!(outside.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(fetches.count(), 2);
}

/// Retries after a 503, at most three times.
#[derive(Clone)]
struct On503(u8);

impl Policy<Request<Body>, Response<Body>, BoxError> for On503 {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Body>, BoxError>,
    ) -> Option<std::future::Ready<()>> {
        let again = result.as_ref().is_ok_and(|response| response.status() == 503) && self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_inside_and_outside_does_not_interfere_with_a_replay() {
    for outside in [true, false] {
        let (source, fetches) = warm().await;
        let auth = source.layer().allow_origin(API).unwrap();
        // Every other send gets a 503, and the first token is rejected.
        let count = AtomicUsize::new(0);
        let api = Api::new(move |request| match (count.fetch_add(1, Ordering::SeqCst) % 2, bearer(request)) {
            (0, _) => response(StatusCode::SERVICE_UNAVAILABLE),
            (_, "token-1") => rejection(INVALID_TOKEN),
            _ => response(StatusCode::OK),
        });
        let strict = Strict::new(api.clone());
        let response = match outside {
            true => ServiceBuilder::new().retry(On503(3)).layer(auth).service(strict).oneshot(get()).await.unwrap(),
            false => auth.layer(ServiceBuilder::new().retry(On503(3)).service(strict)).oneshot(get()).await.unwrap(),
        };
        assert_eq!(response.status(), 200);
        let tokens: Vec<_> = api.sends().iter().map(|sent| bearer(sent).to_owned()).collect();
        assert_eq!(tokens, ["token-1", "token-1", "token-2", "token-2"]);
        assert_eq!(fetches.count(), 2);
    }
}
