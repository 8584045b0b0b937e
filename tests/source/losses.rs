//! Flights that are lost with their runtimes, one after the other, and runtimes that no flight can be made in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures::FutureExt as _;
use futures::executor::block_on;
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, IssuedToken, TokenProvider, TokenSource, from_fn};

use crate::common::{TestClock, assert_reconciles, ms, secs, settle};
use crate::issuer::{Does, Issuer};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks for a token in a runtime that ends at once, with the flight that it may have begun.
fn one_job_one_runtime(source: &TokenSource<Issuer>) -> Option<Result<(), Error>> {
    runtime().block_on(async {
        let asked = source.token().now_or_never();
        settle().await;
        asked.map(|result| result.map(drop))
    })
}

// R2, R42: a loss in the refresh window is followed by a pause.
#[test]
fn short_runtimes_in_the_refresh_window_do_not_knock_the_issuer_over() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.lifetime(secs(20));
    issuer.latency(ms(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    runtime().block_on(source.token()).unwrap();
    issuer.does(Does::Hang);
    forward(&clock, secs(12));
    for _ in 0..100 {
        one_job_one_runtime(&source).expect("a usable token is stamped").unwrap();
        forward(&clock, ms(10));
    }
    assert!(issuer.requests() <= 3, "{} token requests in a second", issuer.requests());
    assert_reconciles(&source);
}

// R2, R39, R42: without a token the first loss keeps nobody waiting, and the next ones do.
#[test]
fn cold_and_impatient_short_runtimes_do_not_knock_the_issuer_over() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.does(Does::Hang);
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let mut failed_fast = 0;
    for _ in 0..100 {
        if let Some(result) = one_job_one_runtime(&source) {
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
    issuer.does(Does::Mint);
    issuer.latency(ms(0));
    forward(&clock, secs(30));
    runtime().block_on(source.token()).unwrap();
}

// R2: a runtime that is driven a moment at a time, every 20 s, gets its answer at the next of them.
#[test]
fn a_runtime_that_is_driven_now_and_then_renews_once() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.lifetime(secs(3600));
    issuer.latency(ms(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let kept = runtime();
    kept.block_on(source.token()).unwrap();
    issuer.latency(ms(20));
    forward(&clock, secs(2500));
    for _ in 0..40 {
        kept.block_on(async {
            source.token().await.unwrap();
            // Long enough for the flight to ask, too short for its answer.
            tokio::task::yield_now().await;
        });
        forward(&clock, secs(20));
    }
    assert!(issuer.requests() <= 3, "{} token requests in one life of a token", issuer.requests());
    assert_reconciles(&source);
}

// R9
#[test]
fn a_wait_outside_of_tokio_is_refused_and_not_endless() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let idle = runtime();
    idle.block_on(async {
        assert!(source.token().now_or_never().is_none());
        settle().await;
    });
    let error = source.token().now_or_never().expect("no answer at once").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert_reconciles(&source);
}

// R9, R39
#[test]
fn the_end_of_other_runtimes_is_not_blamed_on_the_one_that_waits() {
    let (issuer, clock) = (Issuer::new(), outside());
    issuer.does(Does::Hang);
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let here = runtime();
    let begin = || {
        // Past the pause that follows a loss.
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
    issuer.does(Does::Mint);
    issuer.latency(ms(0));
    drop(other);
    here.block_on(async { waiting.await.unwrap() });
    assert_reconciles(&source);
}

// R9: what a future does when it is dropped at its deadline is caught as well.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_when_it_is_dropped_is_a_failure_like_any_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
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
    assert_eq!((error.kind(), asked.load(Ordering::SeqCst)), (ErrorKind::Panicked, 1));
}

/// Rotates whenever it fetches: it has seen its secret change.
struct Rotates {
    source: OnceLock<TokenSource<Arc<Self>>>,
    asked: Mutex<u32>,
}

impl TokenProvider for Rotates {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        // Bounded, so that a source that does chase itself fails the test instead of never ending it.
        if let Some(source) = self.source.get().filter(|_| asked < 10) {
            source.rotate();
        }
        tokio::time::sleep(ms(10)).await;
        IssuedToken::bearer("opaque-token")
    }
}

// R50
#[tokio::test(start_paused = true)]
async fn a_provider_that_rotates_while_it_fetches_does_not_chase_itself() {
    let provider = Arc::new(Rotates { source: OnceLock::new(), asked: Mutex::new(0) });
    let source = TokenSource::new(Arc::clone(&provider));
    assert!(provider.source.set(source.clone()).is_ok());
    source.token().await.unwrap();
    assert_eq!(*provider.asked.lock().unwrap(), 1);
}

// R22, R38: where no renewal can begin, a refusal takes no token away.
#[test]
fn a_refusal_outside_of_tokio_leaves_the_token() {
    let issuer = Issuer::new();
    issuer.latency(ms(0));
    let source = TokenSource::new(issuer.clone());
    let token = runtime().block_on(source.token()).unwrap();
    source.accept(&token);
    assert!(!source.reject(&(), &token));
    assert_eq!(block_on(source.token()).unwrap().generation(), token.generation());
    // Inside of a runtime the refusal counts.
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
