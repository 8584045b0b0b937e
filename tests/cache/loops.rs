//! `invalidate` and `rotate` in loops, in step with the callers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use tokio::runtime::Builder;
use tokio::time::{interval, sleep};
use tower_bearer_auth::{Clock, ExtensionKey, Now, SystemClock, TokenSource};

use crate::common::{Issuer, Outcome, assert_reconciles, ms, secs, settle, unavailable};

// R68: a caller that is polled after the next call of the loop must not wait for one more fetch each time.
#[tokio::test(start_paused = true)]
async fn loops_of_invalidate_and_rotate_in_step_with_the_callers_starve_nobody() {
    for forget in [TokenSource::<Issuer>::invalidate, TokenSource::<Issuer>::rotate] {
        for latency in [100, 200, 900, 4_000] {
            let issuer = Issuer::new();
            issuer.set_latency(ms(latency));
            let source = TokenSource::builder(issuer.clone()).max_wait(secs(15)).build();
            let mut callers = Vec::new();
            let mut ticks = interval(ms(100));
            for _ in 0..200 {
                ticks.tick().await;
                forget(&source);
                for _ in 0..2 {
                    let source = source.clone();
                    callers.push(tokio::spawn(async move { source.token().await.map(drop) }));
                }
            }
            sleep(secs(15)).await;
            let served = callers.into_iter().filter(|caller| caller.is_finished()).count();
            let stats = assert_reconciles(&source);
            assert_eq!((served, stats.waits_failed), (400, 0), "{latency} ms a fetch: {stats:?}");
            assert!(issuer.requests() <= 45, "{latency} ms a fetch: {} token requests in 20 s", issuer.requests());
        }
    }
}

// R66: keys that wait for the next try of their first fetch are evicted, because they have no token.
#[tokio::test(start_paused = true)]
async fn an_eviction_does_not_end_the_patience_of_a_caller() {
    let issuer = Issuer::for_users();
    let source = TokenSource::builder(issuer.clone()).max_keys(20).build();
    // The first fetch of each key fails.
    (0..15).for_each(|_| issuer.script(Outcome::Fail(unavailable())));
    let callers: Vec<_> = (0..15)
        .map(|user| {
            let source = source.clone();
            tokio::spawn(async move { source.token_for(&ExtensionKey(user)).await.map(drop) })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert!(source.stats().evicted > 0, "no key was evicted");
}

// R66: a busy executor polls a caller when the backoff is over already.
#[tokio::test(start_paused = true)]
async fn a_caller_that_is_polled_late_starts_the_next_fetch() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Fail(unavailable()));
    let source = TokenSource::new(issuer.clone());
    let mut late = tokio_test::task::spawn(source.token());
    assert!(late.poll().is_pending());
    sleep(ms(1_500)).await;
    assert!(late.is_woken() && late.poll().is_pending(), "it got the error of the first fetch");
    sleep(ms(201)).await;
    late.await.unwrap();
    assert_eq!(issuer.requests(), 2);
}

/// A clock that panics once it is told to.
struct Broken(&'static AtomicBool);

impl Clock for Broken {
    fn now(&self) -> Now {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        SystemClock.now()
    }
}

// R79: the destructor of the fetch reads the clock too, while the panic unwinds.
#[tokio::test(start_paused = true)]
async fn a_clock_that_panics_in_a_fetch_does_not_abort_the_process() {
    static BROKEN: AtomicBool = AtomicBool::new(false);
    let issuer = Issuer::new();
    let source = TokenSource::builder(issuer.clone()).clock(Broken(&BROKEN)).build();
    assert!(source.token().now_or_never().is_none());
    settle().await;
    BROKEN.store(true, Ordering::SeqCst);
    sleep(ms(201)).await;
    assert!(catch_unwind(AssertUnwindSafe(|| source.peek())).is_err(), "the clock panics");
    BROKEN.store(false, Ordering::SeqCst);
    // The panic cancelled the fetch, and the next call starts another one.
    source.token().await.unwrap();
    assert_eq!(source.stats().fetches_in_flight, 0);
}

// R101: a probe in a runtime of its own must not cause a token request each.
#[test]
fn probes_obey_the_backoff_after_cancelled_fetches() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    for _ in 0..30 {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(!source.check_ready(&()).is_ready());
            settle().await;
        });
    }
    assert!(issuer.requests() <= 3, "{} token requests", issuer.requests());
    assert_eq!(source.stats().failed_fast, 0, "a probe is no request");
}

// R68: each rotation comes between the end of a fetch and the poll of its waiter.
#[tokio::test(start_paused = true)]
async fn a_caller_that_is_polled_after_each_rotation_gets_the_token_of_its_second_fetch() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let mut late = tokio_test::task::spawn(source.token());
    assert!(late.poll().is_pending());
    sleep(ms(1_201)).await;
    source.rotate();
    assert!(late.is_woken() && late.poll().is_pending(), "it looks for a token of the new credentials once");
    sleep(ms(1_201)).await;
    source.rotate();
    assert!(late.is_woken());
    late.await.unwrap();
    assert_eq!(issuer.requests(), 2);
}

// R68: a caller that waited for the next fetch is served by it, although it is polled after the next invalidation.
#[tokio::test(start_paused = true)]
async fn the_next_fetch_serves_a_caller_that_is_polled_after_the_next_invalidation() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    source.token().await.unwrap();
    source.invalidate();
    source.token().await.unwrap();
    sleep(ms(100)).await;
    source.invalidate();
    let mut waits = tokio_test::task::spawn(source.token());
    assert!(waits.poll().is_pending());
    // The second since the last fetch that an invalidation caused is over after 700 ms.
    sleep(ms(701)).await;
    assert!(source.token().now_or_never().is_none(), "this caller starts the next fetch");
    settle().await;
    source.invalidate();
    assert!(waits.is_woken() && waits.poll().is_pending());
    sleep(ms(201)).await;
    assert!(waits.is_woken());
    waits.await.unwrap();
    assert_eq!(issuer.requests(), 3);
}
