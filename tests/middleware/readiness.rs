//! Readiness: the layer calls only the instance that was polled ready, and releases every permit.

mod drops;
mod sharing;
mod stacks;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_bearer_auth::{
    Audit, BearerAuthLayer, BoxError, Error, ErrorKind, IssuedToken, NotReplayed, NotSent, ReplayOutcome,
    TokenProvider, TokenSource,
};

use crate::support::api::Api;
use crate::support::issuer::{issuer, token};
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};

type Body = Full<Bytes>;

const API: &str = "https://api.example.com";
/// Longer than anything here takes. What has not happened by then hangs.
const FOREVER: Duration = Duration::from_secs(3600);

fn get() -> Request<Body> {
    Request::get(API).body(Body::default()).unwrap()
}

fn layer<P: TokenProvider>(provider: P) -> BearerAuthLayer<P> {
    BearerAuthLayer::new(provider).allow_origin(API).unwrap()
}

/// Rejects the first token and accepts the others.
fn rejects_the_first() -> Api {
    Api::new(|request| if bearer(request) == "token-1" { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) })
}

/// Asserts the contract of `Service`: `call` only after `poll_ready` on the same instance. A clone is not ready.
struct Strict<S> {
    inner: S,
    instance: usize,
    instances: Arc<AtomicUsize>,
    ready: bool,
    log: Arc<Mutex<Vec<String>>>,
    /// While this is `false`, an instance that was called does not become ready again.
    gate: watch::Sender<bool>,
    called: bool,
}

impl<S> Strict<S> {
    fn new(inner: S) -> Self {
        let (instances, gate) = (Arc::new(AtomicUsize::new(1)), watch::Sender::new(true));
        Self { inner, instance: 0, instances, ready: false, log: Arc::default(), gate, called: false }
    }
}

impl<S: Clone> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            instance: self.instances.fetch_add(1, Ordering::SeqCst),
            instances: Arc::clone(&self.instances),
            ready: false,
            log: Arc::clone(&self.log),
            gate: self.gate.clone(),
            called: false,
        }
    }
}

pin_project! {
    struct Logged<F> {
        #[pin]
        future: F,
        on_drop: Note,
    }
}

struct Note(String, Arc<Mutex<Vec<String>>>);

impl Drop for Note {
    fn drop(&mut self) {
        self.1.lock().push(std::mem::take(&mut self.0));
    }
}

impl<F: Future> Future for Logged<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<S: Service<Request<Body>, Error = BoxError>> Service<Request<Body>> for Strict<S> {
    type Response = S::Response;
    type Error = BoxError;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.called && !*self.gate.borrow() {
            let (mut opened, waker) = (self.gate.subscribe(), cx.waker().clone());
            tokio::spawn(async move {
                opened.wait_for(|open| *open).await.unwrap();
                waker.wake();
            });
            return Poll::Pending;
        }
        if !self.ready {
            self.log.lock().push(format!("{} is ready", self.instance));
        }
        self.ready = true;
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(self.ready, "instance {} is called but is not ready", self.instance);
        (self.ready, self.called) = (false, true);
        self.log.lock().push(format!("{} is called", self.instance));
        let on_drop = Note(format!("{} is dropped", self.instance), Arc::clone(&self.log));
        Logged { future: self.inner.call(request), on_drop }
    }
}

// The replay uses the same instance, and the first future is dropped before the instance is polled again.
#[tokio::test(start_paused = true)]
async fn a_replay_uses_the_same_service_after_the_first_future_is_dropped() {
    let (provider, _) = issuer(|n| async move { token(n) });
    let strict = Strict::new(rejects_the_first());
    let log = Arc::clone(&strict.log);
    let mut client = layer(provider).layer(strict);
    let response = client.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(response.status(), 200);
    let steps = ["is ready", "is called", "is dropped"].map(|step| format!("0 {step}"));
    assert_eq!(*log.lock(), [steps.clone(), steps].concat());
    log.lock().clear();
    // The layer left a clone in its place, and the clone must become ready itself.
    let response = client.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!((response.status(), &*log.lock()[0]), (StatusCode::OK, "1 is ready"));
}

/// `token-n`, which expires in `seconds`.
fn short(n: usize, seconds: u64) -> Result<IssuedToken, Error> {
    Ok(IssuedToken::bearer(format!("token-{n}"))?.expires_in(Duration::from_secs(seconds)))
}

// R37: a request waits for longer than the token lives. It is sent with the next token.
#[tokio::test(start_paused = true)]
async fn the_token_is_chosen_when_the_service_is_ready() {
    let (provider, fetches) = issuer(|n| async move { short(n, 60) });
    let source = TokenSource::new(provider);
    source.warm_up().await.unwrap();
    let api = Api::new(|_| response(StatusCode::OK));
    let slots = Arc::new(Semaphore::new(0));
    let limit = tower::limit::ConcurrencyLimit::with_semaphore(api.clone(), Arc::clone(&slots));
    let client = source.layer().allow_origin(API).unwrap().layer(limit);
    let call = tokio::spawn(client.oneshot(get()));
    sleep(Duration::from_secs(100)).await;
    assert_eq!((api.sends().len(), fetches.count()), (0, 1), "waiting for readiness starts no fetch");
    slots.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    assert_eq!((bearer(&api.sends()[0]), fetches.count()), ("token-2", 2));
}

// R37, R40: whether or not another caller has refreshed the token meanwhile.
#[tokio::test(start_paused = true)]
async fn a_replay_that_waits_for_readiness_longer_than_its_token_lives_has_a_newer_token() {
    for refreshed_meanwhile in [false, true] {
        let (provider, fetches) = issuer(|n| async move {
            sleep(Duration::from_millis(10)).await;
            short(n, 60)
        });
        let api = rejects_the_first();
        let strict = Strict::new(api.clone());
        let gate = strict.gate.clone();
        gate.send_replace(false);
        let layer = layer(provider);
        let source = layer.source().clone();
        let call = tokio::spawn(layer.layer(strict).oneshot(get()));
        sleep(Duration::from_secs(100)).await;
        assert_eq!((api.sends().len(), fetches.count()), (1, 2));
        if refreshed_meanwhile {
            source.warm_up().await.unwrap();
        }
        gate.send_replace(true);
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let sends = api.sends();
        assert_eq!(sends.iter().map(|sent| bearer(sent)).collect::<Vec<_>>(), ["token-1", "token-3"]);
        let audit = Audit::of(&response).unwrap();
        assert_eq!((audit.generation, audit.sends, audit.replay), (Some(3), 2, ReplayOutcome::Replayed));
        assert_eq!(fetches.count(), 3);
    }
}

// R50: a token of the old credentials is never sent, even if there is no other token.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_rotated_before_the_replay_is_not_sent_and_the_error_is_not_replayed() {
    let (provider, fetches) = issuer(|n| async move {
        match n {
            1 | 2 => token(n),
            _ => Err(Error::permanent("the new secret is not known yet")),
        }
    });
    let source = TokenSource::new(provider);
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let strict = Strict::new(api.clone());
    let gate = strict.gate.clone();
    gate.send_replace(false);
    let call = tokio::spawn(source.layer().allow_origin(API).unwrap().layer(strict).oneshot(get()));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(fetches.count(), 2, "the replay waits for the service");
    source.rotate();
    gate.send_replace(true);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(fetches.count(), 3);
    assert!(Error::find(&*error).is_none() && !error.is::<NotSent>(), "the request was sent once");
    let not_replayed = error.downcast_ref::<NotReplayed>().unwrap();
    assert_eq!(not_replayed.error().kind(), ErrorKind::Other);
    assert!(error.to_string().contains("rotated"), "{error}");
    assert_eq!(api.sends().iter().map(|sent| bearer(sent)).collect::<Vec<_>>(), ["token-1"]);
}

// The rejection is dropped by then, so the layer sends the expired token and returns the second response.
#[tokio::test(start_paused = true)]
async fn a_token_that_expires_before_the_replay_while_the_issuer_is_down_is_sent_anyway() {
    let (provider, fetches) = issuer(|n| async move {
        match n {
            1 | 2 => short(n, 60),
            _ => Err(Error::transient("down")),
        }
    });
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let strict = Strict::new(api.clone());
    let gate = strict.gate.clone();
    gate.send_replace(false);
    let source = TokenSource::builder(provider).patience(Duration::ZERO).build();
    let call = tokio::spawn(source.layer().allow_origin(API).unwrap().layer(strict).oneshot(get()));
    sleep(Duration::from_secs(100)).await;
    gate.send_replace(true);
    let response = call.await.unwrap().unwrap();
    assert_eq!((response.status(), fetches.count()), (StatusCode::UNAUTHORIZED, 3));
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::RejectedAgain);
    assert_eq!(api.sends().iter().map(|sent| bearer(sent)).collect::<Vec<_>>(), ["token-1", "token-2"]);
}
