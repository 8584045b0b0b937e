//! Fetches that are cancelled with their runtimes, one after the other, and runtimes in which no fetch can start.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures::FutureExt as _;
use futures::executor::block_on;
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, IssuedToken, TokenProvider, TokenSource, from_fn};

use crate::common::{TestClock, assert_reconciles, ms, secs, settle};
use crate::support::issuer::{Issuer, Outcome};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Calls `token` in a runtime that ends at once, with the fetch that the call may have started.
fn one_call_one_runtime(source: &TokenSource<Issuer>) -> Option<Result<(), Error>> {
    runtime().block_on(async {
        let result = source.token().now_or_never();
        settle().await;
        result.map(|result| result.map(drop))
    })
}

// R2, R42: a cancelled fetch in the refresh window causes a backoff.
#[test]
fn short_runtimes_in_the_refresh_window_do_not_overload_the_issuer() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.set_lifetime(secs(20));
    issuer.set_latency(ms(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    runtime().block_on(source.token()).unwrap();
    issuer.script_always(Outcome::Hang);
    forward(&clock, secs(12));
    for _ in 0..100 {
        one_call_one_runtime(&source).expect("a usable token is stamped").unwrap();
        forward(&clock, ms(10));
    }
    assert!(issuer.requests() <= 3, "{} token requests in a second", issuer.requests());
    assert_reconciles(&source);
}

// R2, R39, R42: without a token the first cancelled fetch causes no backoff, and the next ones do.
#[test]
fn short_runtimes_without_a_token_do_not_overload_the_issuer() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.script_always(Outcome::Hang);
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let mut failed_fast = 0;
    for _ in 0..100 {
        if let Some(result) = one_call_one_runtime(&source) {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error}");
            assert!(error.retry_after().is_some() && error.hint().is_some(), "{error}");
            failed_fast += 1;
        }
        forward(&clock, ms(10));
    }
    assert!((2..=11).contains(&issuer.requests()), "{} token requests in a second", issuer.requests());
    assert_eq!(issuer.requests() + failed_fast, 100);
    assert_reconciles(&source);
    issuer.script_always(Outcome::Mint);
    issuer.set_latency(ms(0));
    forward(&clock, secs(30));
    runtime().block_on(source.token()).unwrap();
}

// R2: a runtime that is polled for a moment every 20 s gets the response at its next turn.
#[test]
fn a_runtime_that_is_polled_now_and_then_refreshes_once() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.set_lifetime(secs(3600));
    issuer.set_latency(ms(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let kept = runtime();
    kept.block_on(source.token()).unwrap();
    issuer.set_latency(ms(20));
    forward(&clock, secs(2500));
    for _ in 0..40 {
        kept.block_on(async {
            source.token().await.unwrap();
            // Long enough to send the token request, too short for its response.
            tokio::task::yield_now().await;
        });
        forward(&clock, secs(20));
    }
    assert!(issuer.requests() <= 3, "{} token requests in one lifetime", issuer.requests());
    assert_reconciles(&source);
}

// R9
#[test]
fn a_wait_outside_of_tokio_fails_at_once() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let idle = runtime();
    idle.block_on(async {
        assert!(source.token().now_or_never().is_none());
        settle().await;
    });
    let error = source.token().now_or_never().expect("a wait outside of tokio").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert_reconciles(&source);
}

// R9, R39
#[test]
fn a_waiter_does_not_fail_because_other_runtimes_end() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.script_always(Outcome::Hang);
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let here = runtime();
    let begin = || {
        // After the backoff that follows a cancelled fetch.
        forward(&clock, secs(31));
        let other = runtime();
        other.block_on(async {
            assert!(source.token().now_or_never().is_none());
            settle().await;
        });
        other
    };
    let mut other = begin();
    let mut waiting = tokio_test::task::spawn(source.token());
    for _ in 0..3 {
        here.block_on(async { assert!(waiting.poll().is_pending()) });
        drop(other);
        other = begin();
    }
    issuer.script_always(Outcome::Mint);
    issuer.set_latency(ms(0));
    drop(other);
    here.block_on(async { waiting.await.unwrap() });
    assert_reconciles(&source);
}

// R9: a panic in the destructor of a future that timed out is caught too.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_when_it_is_dropped_fails_with_panicked() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let source = TokenSource::builder(from_fn(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            let _bomb = Bomb;
            std::future::pending().await
        }
    }))
    .fetch_timeout(secs(1))
    .build();
    let error = source.token().await.unwrap_err();
    assert_eq!((error.kind(), calls.load(Ordering::SeqCst)), (ErrorKind::Panicked, 1));
}

/// Rotates in every fetch, as if its secret had just changed.
struct Rotates {
    source: OnceLock<TokenSource<Arc<Self>>>,
    calls: Mutex<u32>,
}

impl TokenProvider for Rotates {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let calls = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        // Bounded, so that an endless series of fetches fails the test.
        if let Some(source) = self.source.get().filter(|_| calls < 10) {
            source.rotate();
        }
        tokio::time::sleep(ms(10)).await;
        IssuedToken::bearer("opaque-token")
    }
}

// R50
#[tokio::test(start_paused = true)]
async fn a_provider_that_rotates_in_its_own_fetch_causes_no_second_fetch() {
    let provider = Arc::new(Rotates { source: OnceLock::new(), calls: Mutex::new(0) });
    let source = TokenSource::new(Arc::clone(&provider));
    assert!(provider.source.set(source.clone()).is_ok());
    source.token().await.unwrap();
    assert_eq!(*provider.calls.lock().unwrap(), 1);
}

// R22, R38: if no fetch can start, a rejection removes no token.
#[test]
fn a_rejection_outside_of_tokio_keeps_the_token() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(0));
    let source = TokenSource::new(issuer.clone());
    let token = runtime().block_on(source.token()).unwrap();
    source.accept(&token);
    assert!(!source.reject(&(), &token));
    assert_eq!(block_on(source.token()).unwrap().generation(), token.generation());
    // Inside a runtime the rejection counts.
    runtime().block_on(async {
        assert!(source.reject(&(), &token));
        assert_ne!(source.token().await.unwrap().generation(), token.generation());
    });
}

/// A clock for tests without a runtime of their own.
fn outside() -> TestClock {
    runtime().block_on(async { TestClock::new() })
}

fn forward(clock: &TestClock, by: std::time::Duration) {
    clock.mono_forward(by);
    clock.wall_forward(by);
}
