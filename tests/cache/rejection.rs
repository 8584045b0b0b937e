//! Rejections that a caller reports itself, and futures that are polled too often.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use http::{Request, Response};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{ExtensionKey, Token, TokenSource};

use crate::common::{
    Issuer, Outcome, Stopwatch, TestClock, User, assert_reconciles, get, layer, ms, secs, settle, unavailable,
};

const ANN: User = ExtensionKey(1);
const BOB: User = ExtensionKey(2);

async fn token(source: &TokenSource<Issuer<User>>, key: &User) -> Token {
    let token = source.token_for(key).await.unwrap();
    source.accept(&token);
    token
}

/// Asserts that no fetch has started since `requests` token requests, and that the rejections are counted.
async fn assert_unchanged(source: &TokenSource<Issuer<User>>, requests: usize, rejections: u64) {
    settle().await;
    let stats = assert_reconciles(source);
    assert_eq!((source.provider().requests(), stats.rejections, stats.fetches_in_flight), (requests, rejections, 0));
    assert_eq!(stats.budget_exhausted, 0);
}

// R4
#[tokio::test(start_paused = true)]
async fn a_rejection_with_the_key_of_another_user_changes_nothing() {
    let source = TokenSource::new(Issuer::for_users());
    let (ann, bob) = (token(&source, &ANN).await, token(&source, &BOB).await);
    assert!(source.reject(&BOB, &ann), "there is a usable token");
    assert_unchanged(&source, 2, 1).await;
    assert_eq!(source.peek_for(&BOB).unwrap().generation(), bob.generation());
    assert_eq!(source.peek_for(&ANN).unwrap().generation(), ann.generation());
}

// R4
#[tokio::test(start_paused = true)]
async fn a_rejection_for_a_key_without_a_token_starts_no_fetch_and_creates_no_key() {
    let source = TokenSource::new(Issuer::for_users());
    let ann = token(&source, &ANN).await;
    assert!(source.reject(&BOB, &ann), "a fetch may start");
    assert_unchanged(&source, 1, 1).await;
    assert_eq!(source.stats().keys, 1);
}

// R4, R42
#[tokio::test(start_paused = true)]
async fn a_rejection_for_a_key_in_a_backoff_cannot_be_retried() {
    let source = TokenSource::new(Issuer::for_users());
    let ann = token(&source, &ANN).await;
    source.provider().script(Outcome::Fail(unavailable().with_retry_after(secs(30))));
    source.token_for(&BOB).await.unwrap_err();
    assert!(!source.reject(&BOB, &ann));
    assert_unchanged(&source, 2, 1).await;
    assert!(source.token_for(&BOB).now_or_never().unwrap().is_err());
}

// R4
#[tokio::test(start_paused = true)]
async fn a_rejection_for_a_key_with_a_running_fetch_joins_that_fetch() {
    let source = TokenSource::new(Issuer::for_users());
    let ann = token(&source, &ANN).await;
    let mut waiting = pin!(source.token_for(&BOB));
    assert!(waiting.as_mut().now_or_never().is_none());
    settle().await;
    assert!(source.reject(&BOB, &ann));
    assert_eq!((source.provider().requests(), source.stats().rejections), (2, 1));
    waiting.await.unwrap();
    assert_unchanged(&source, 2, 1).await;
}

// R4
#[tokio::test(start_paused = true)]
async fn a_late_rejection_of_a_replaced_token_changes_nothing() {
    let source = TokenSource::new(Issuer::for_users());
    let old = token(&source, &ANN).await;
    source.invalidate_for(&ANN);
    assert!(source.reject(&ANN, &old), "a fetch may start");
    assert_unchanged(&source, 1, 1).await;
    let new = token(&source, &ANN).await;
    assert!(source.reject(&ANN, &old), "there is a newer token");
    assert_unchanged(&source, 2, 2).await;
    assert_eq!(source.peek_for(&ANN).unwrap().generation(), new.generation());
}

// R4, R40
#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_expired_token_costs_no_budget_and_starts_no_fetch() {
    let clock = TestClock::new();
    let source = TokenSource::builder(Issuer::for_users()).clock(clock.clone()).build();
    let old = token(&source, &ANN).await;
    clock.mono_forward(secs(1800));
    assert!(source.reject(&ANN, &old));
    assert_unchanged(&source, 1, 1).await;
}

// R4, R16
#[tokio::test(start_paused = true)]
async fn a_rejection_with_an_empty_budget_cannot_be_retried() {
    let source = TokenSource::new(Issuer::for_users());
    // The first token is accepted by no server, so its rejection takes all of the budget.
    let first = source.token_for(&ANN).await.unwrap();
    assert!(source.reject(&ANN, &first));
    let second = source.token_for(&ANN).await.unwrap();
    assert!(!source.reject(&ANN, &second));
    let stats = assert_reconciles(&source);
    assert_eq!((stats.rejections, stats.budget_exhausted, stats.fetches), (2, 1, 2));
    assert_eq!(source.peek_for(&ANN).unwrap().generation(), second.generation());
}

// R14
#[test]
fn a_rejection_outside_of_a_runtime_can_be_retried_only_with_a_usable_token() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let source = TokenSource::new(Issuer::for_users());
    let (ann, bob) = runtime.block_on(async { (token(&source, &ANN).await, token(&source, &BOB).await) });
    assert!(source.reject(&BOB, &ann), "there is a usable token");
    assert!(!source.reject(&ExtensionKey(3), &bob), "no fetch can start");
    assert_eq!(source.stats().rejections, 2);
}

fn poll_after_completion(source: &TokenSource<Issuer>) {
    let mut future = pin!(source.token());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    let _ = future.as_mut().poll(&mut cx);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it had completed")]
async fn a_future_that_completed_at_once_panics_when_it_is_polled_again() {
    let source = TokenSource::new(Issuer::new());
    source.warm_up().await.unwrap();
    poll_after_completion(&source);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it had completed")]
async fn a_future_that_completed_after_a_wait_panics_when_it_is_polled_again() {
    let source = TokenSource::new(Issuer::new());
    let mut future = pin!(source.token());
    future.as_mut().await.unwrap();
    let _ = future.poll(&mut Context::from_waker(Waker::noop()));
}

/// Sends one request whose response is a late 401: `before` runs while it is at the server.
async fn late_rejection<F: Future<Output = ()>>(
    source: &TokenSource<Issuer>,
    before: impl Fn() -> F,
) -> (u16, Duration) {
    let sends = Arc::new(AtomicUsize::new(0));
    let before = &before;
    let api = tower::service_fn(move |_: Request<String>| {
        let first = sends.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                before().await;
            }
            let status = if first { 401 } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(status).body(String::new()).unwrap())
        }
    });
    let watch = Stopwatch::start();
    let response = layer(source).layer(api).oneshot(get()).await.unwrap();
    (response.status().as_u16(), watch.read())
}

// R71: the request waits for the end of a backoff as any other does, and not for all of `max_wait`.
#[tokio::test(start_paused = true)]
async fn a_late_rejection_of_an_invalidated_token_waits_no_longer_than_other_requests() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    source.accept(&source.token().await.unwrap());
    let in_backoff = late_rejection(&source, || async {
        source.invalidate();
        issuer.script(Outcome::Fail(unavailable()));
        // This caller leaves before the fetch fails.
        tokio::time::timeout(ms(199), source.token()).await.unwrap_err();
        sleep(ms(2)).await;
    });
    let (status, took) = in_backoff.await;
    assert!(status == 200 && took < secs(1), "{status} after {took:?}");

    // The next fetch that an invalidation causes starts a second after the last one.
    sleep(secs(2)).await;
    let invalidated_twice = late_rejection(&source, || async {
        source.invalidate();
        source.token().await.unwrap();
        source.invalidate();
    });
    let (status, took) = invalidated_twice.await;
    assert!(status == 200 && took < secs(2), "{status} after {took:?}");
}

// R39: without a runtime no fetch can start, so a rejection must not use the budget for one.
#[test]
fn rejections_outside_of_a_runtime_use_no_budget() {
    let source = TokenSource::new(Issuer::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let token = runtime.block_on(source.token()).unwrap();
    for _ in 0..10 {
        source.accept(&token);
        assert!(!source.reject(&(), &token));
    }
    source.accept(&token);
    runtime.block_on(async {
        assert!(source.reject(&(), &token));
        assert_ne!(source.token().await.unwrap().generation(), token.generation());
    });
}

// R16
#[tokio::test(start_paused = true)]
async fn a_tenant_with_an_empty_budget_leaves_another_one_its_own() {
    let source = TokenSource::new(Issuer::for_users());
    let bob = token(&source, &BOB).await;
    // A budget holds 6. Each token is accepted first, so its rejection takes one.
    for _ in 0..6 {
        let ann = token(&source, &ANN).await;
        assert!(source.reject(&ANN, &ann));
        settle().await;
    }
    let ann = token(&source, &ANN).await;
    assert!(!source.reject(&ANN, &ann), "the budget of this tenant is empty");
    assert_eq!((source.stats().budget_exhausted, source.provider().requests()), (1, 8));
    assert!(source.reject(&BOB, &bob), "the other one can replace its token");
    settle().await;
    assert_eq!((source.stats().budget_exhausted, source.provider().requests()), (1, 9));
}
