//! Providers that panic, hang, fail and recover: every waiter gets the error, and the next fetch works.

use std::error::Error as _;
use std::task::Poll;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::sleep;
use tower_bearer_auth::{Error, ErrorKind, TokenSource};

use crate::common::{Issuer, Outcome, Stopwatch, TestClock, assert_reconciles, ms, secs, settle, unavailable};

const CANARY: &str = "canary-8f2d1c";

/// Ten concurrent callers. All must get the same error.
async fn ten_callers(source: &TokenSource<Issuer>) -> Error {
    let callers = (0..10).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { source.token().await.unwrap_err() })
    });
    let mut errors: Vec<_> = join_all(callers.collect::<Vec<_>>())
        .await
        .into_iter()
        .map(|caller| caller.expect("a waiter panicked"))
        .collect();
    let error = errors.pop().unwrap();
    assert!(errors.iter().all(|other| other.kind() == error.kind() && other.to_string() == error.to_string()));
    error
}

fn chain(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(" {cause} {cause:?}");
        next = cause.source();
    }
    text
}

// R9
#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_wakes_every_waiter_and_its_message_is_in_no_error() {
    for outcome in [Outcome::Panic(CANARY), Outcome::PanicAtOnce(CANARY)] {
        let issuer = Issuer::new();
        issuer.script(outcome);
        let source = TokenSource::new(issuer.clone());
        let watch = Stopwatch::start();
        let error = ten_callers(&source).await;
        assert!(watch.read() <= ms(250));
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Panicked, true));
        assert!(!chain(&error).contains(CANARY), "{error:?}");
        assert_eq!(issuer.requests(), 1);
        // The next fetch works.
        sleep(secs(1)).await;
        source.token().await.unwrap();
        assert_eq!(assert_reconciles(&source).fetches_failed, 1);
    }
}

// R9
#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_dropped_and_wakes_every_waiter() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Hang);
    let source = TokenSource::new(issuer.clone());
    let watch = Stopwatch::start();
    let error = ten_callers(&source).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
    assert!(secs(12) <= watch.read() && watch.read() <= ms(12_050), "{:?}", watch.read());
    settle().await;
    assert_eq!((issuer.requests(), issuer.dropped(), issuer.running()), (1, 1, 0));
    sleep(secs(1)).await;
    source.token().await.unwrap();
    assert_reconciles(&source);
}

// R9
#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_fetch_can_be_set() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Hang);
    let source = TokenSource::builder(issuer.clone()).fetch_timeout(secs(1)).patience(ms(0)).build();
    let watch = Stopwatch::start();
    assert_eq!(ten_callers(&source).await.kind(), ErrorKind::Timeout);
    assert!(watch.read() <= ms(1_050));
}

const KINDS: [ErrorKind; 16] = [
    ErrorKind::InvalidCredentials,
    ErrorKind::InvalidRequest,
    ErrorKind::Throttled,
    ErrorKind::Unavailable,
    ErrorKind::Tls,
    ErrorKind::Timeout,
    ErrorKind::MalformedResponse,
    ErrorKind::UnsupportedTokenType,
    ErrorKind::MissingKey,
    ErrorKind::NoOrigin,
    ErrorKind::InsecureUrl,
    ErrorKind::NoRuntime,
    ErrorKind::Reentrant,
    ErrorKind::Panicked,
    ErrorKind::Config,
    ErrorKind::Other,
];

// R39, R42
#[tokio::test(start_paused = true)]
async fn after_any_error_the_first_call_after_the_backoff_succeeds() {
    for kind in KINDS {
        for error in [Error::transient("x").with_kind(kind), Error::permanent("x").with_kind(kind)] {
            for failures in [1, 4] {
                let issuer = Issuer::new();
                let source = TokenSource::builder(issuer.clone()).patience(ms(0)).build();
                for failure in 0..failures {
                    issuer.script(Outcome::Fail(error.clone()));
                    let failed = source.token().await.unwrap_err();
                    assert_eq!((failed.kind(), failed.is_transient()), (kind, error.is_transient()));
                    let backoff = failed.retry_after().unwrap();
                    if error.is_transient() {
                        let longest = ms(500) * 2_u32.pow(failure);
                        assert!(ms(100) <= backoff && backoff <= longest, "{kind:?}: {backoff:?}");
                    } else {
                        // R67
                        let shortest = ms(2_500) * 2_u32.pow(failure);
                        assert!(shortest <= backoff && backoff <= 2 * shortest, "{kind:?}: {backoff:?}");
                    }
                    // Before the end of the backoff: no token request, and no wait.
                    sleep(backoff - ms(2)).await;
                    let watch = Stopwatch::start();
                    assert_eq!(source.token().await.unwrap_err().kind(), kind);
                    assert!(watch.read().is_zero());
                    sleep(ms(3)).await;
                }
                assert_eq!(issuer.requests(), failures as usize);
                let token = source.token().await;
                assert!(token.is_ok(), "{kind:?}: {token:?}");
                // The next failure counts as a first one.
                source.invalidate();
                issuer.script(Outcome::Fail(unavailable()));
                assert!(source.token().await.unwrap_err().retry_after().unwrap() <= ms(500));
                assert_reconciles(&source);
            }
        }
    }
}

// R42
#[tokio::test(start_paused = true)]
async fn callers_in_a_backoff_fail_at_once_with_the_time_until_the_next_try() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Fail(Error::permanent("no such client").with_kind(ErrorKind::InvalidCredentials)));
    let source = TokenSource::new(issuer.clone());
    let first = source.token().await.unwrap_err();
    let backoff = first.retry_after().unwrap();
    let watch = Stopwatch::start();
    let mut before = backoff;
    while watch.read() + ms(100) < backoff {
        sleep(ms(100)).await;
        let call = Stopwatch::start();
        let error = source.token().now_or_never().expect("a caller waited").unwrap_err();
        assert!(call.read().is_zero());
        assert!(std::ptr::eq(error.source().unwrap(), first.source().unwrap()));
        let left = error.retry_after().unwrap();
        assert_eq!(left, backoff - watch.read());
        assert!(left < before);
        before = left;
    }
    assert_eq!(issuer.requests(), 1);
    sleep(before).await;
    source.token().await.unwrap_err();
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// R42, R70
#[tokio::test(start_paused = true)]
async fn a_retry_after_is_respected_up_to_a_maximum_and_jitter_is_added() {
    // Without a usable token, the maximum is a minute.
    for (delay, least, most) in
        [(0, ms(100), ms(500)), (7, secs(7), ms(7_700)), (55, secs(55), ms(60_500)), (3600, secs(60), secs(66))]
    {
        let mut backoffs = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let issuer = Issuer::new();
            issuer.script(Outcome::Fail(unavailable().with_kind(ErrorKind::Throttled).with_retry_after(secs(delay))));
            let source = TokenSource::builder(issuer.clone()).jitter_seed(seed).patience(ms(0)).build();
            let backoff = source.token().await.unwrap_err().retry_after().unwrap();
            assert!(least <= backoff && backoff <= most, "Retry-After {delay} s, backoff {backoff:?}");
            backoffs.insert(backoff);
            sleep(backoff - ms(2)).await;
            source.token().now_or_never().unwrap().unwrap_err();
            sleep(ms(3)).await;
            source.token().await.unwrap();
            assert_eq!(issuer.requests(), 2);
        }
        // The shortest backoff has a minimum, so some clients may have the same one.
        assert!(backoffs.len() >= if delay == 0 { 10 } else { 20 }, "a fleet comes back in step: {backoffs:?}");
    }
}

// R38, R42, R70
#[tokio::test(start_paused = true)]
async fn a_retry_after_in_the_refresh_window_counts_up_to_five_minutes() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    sleep(secs(1000)).await;
    issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(86_400))));
    source.token().await.unwrap();
    sleep(secs(1)).await;
    assert_eq!(issuer.requests(), 2);
    let left = source.status().next_try.unwrap();
    assert!(secs(298) < left && left <= secs(330), "{left:?}");
    sleep(left - ms(10)).await;
    source.token().await.unwrap();
    settle().await;
    assert_eq!(issuer.requests(), 2);
    sleep(ms(20)).await;
    source.token().await.unwrap();
    settle().await;
    assert_eq!(issuer.requests(), 3);
}

// R38, R42: the longer maximum beside a usable token does not apply when there is none
#[tokio::test(start_paused = true)]
async fn after_the_token_has_expired_a_long_retry_after_counts_for_a_minute_only() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    // 30 s before usable_until.
    sleep(secs(1740)).await;
    issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(86_400))));
    source.token().await.unwrap();
    sleep(secs(31)).await;
    let error = source.token().now_or_never().unwrap().unwrap_err();
    let left = error.retry_after().unwrap();
    assert!(secs(28) <= left && left <= secs(36), "{left:?}");
    sleep(left + ms(1)).await;
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 3);
}

// R67: wrong credentials caused 957 token requests an hour.
#[tokio::test(start_paused = true)]
async fn an_hour_of_wrong_credentials_causes_about_a_hundred_token_requests_and_a_rotation_ends_it_at_once() {
    for seed in 0..20 {
        let (issuer, clock) = (Issuer::new(), TestClock::new());
        issuer.script_always(Outcome::Fail(Error::permanent("wrong").with_kind(ErrorKind::InvalidCredentials)));
        let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(seed).build();
        let watch = Stopwatch::start();
        while watch.read() < secs(3_600) {
            // Ten callers at a time, while the issuer takes 200 ms.
            let callers = join_all((0..10).map(|_| source.token()));
            assert!(callers.await.iter().all(Result::is_err));
            sleep(ms(100)).await;
        }
        assert!((60..=125).contains(&issuer.requests()), "{} token requests, seed {seed}", issuer.requests());
        issuer.script_always(Outcome::Mint);
        source.token().now_or_never().unwrap().unwrap_err();
        source.rotate();
        source.token().await.unwrap();
    }
}

// R42
#[tokio::test(start_paused = true)]
async fn a_rotation_ends_the_backoff_after_a_permanent_error() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Fail(Error::permanent("no such client").with_kind(ErrorKind::InvalidCredentials)));
    let source = TokenSource::new(issuer.clone());
    source.token().await.unwrap_err();
    source.token().now_or_never().unwrap().unwrap_err();
    source.rotate();
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 2);
}

// R42
#[tokio::test(start_paused = true)]
async fn a_loop_of_invalidations_does_not_remove_the_protection_of_the_issuer() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(0));
    issuer.script_always(Outcome::Fail(Error::permanent("no such client")));
    let source = TokenSource::new(issuer.clone());
    let watch = Stopwatch::start();
    while watch.read() < secs(10) {
        source.invalidate();
        source.token().await.unwrap_err();
        sleep(ms(5)).await;
    }
    assert!(issuer.requests() <= 11, "{} token requests in 10 s", issuer.requests());
    assert_reconciles(&source);
}

// R41
#[tokio::test(start_paused = true)]
async fn a_token_that_arrives_after_it_has_expired_is_one_transient_failure() {
    let issuer = Issuer::new();
    issuer.set_lifetime(secs(1));
    issuer.set_latency(secs(2));
    let source = TokenSource::new(issuer.clone());
    let error = ten_callers(&source).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
    assert_eq!(issuer.requests(), 1);
    assert_reconciles(&source);
}

// R40
#[tokio::test(start_paused = true)]
async fn a_token_that_arrives_between_usable_until_and_expires_at_serves_its_waiters_alone() {
    let issuer = Issuer::new();
    issuer.set_lifetime(secs(10));
    issuer.set_latency(secs(8));
    let source = TokenSource::new(issuer.clone());
    let callers = (0..10).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
    });
    for secret in join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(secret.unwrap(), "first.1");
    }
    assert!(source.peek().is_none());
    assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// R66: a caller that wants a new token while there is none waits as any other does.
#[tokio::test(start_paused = true)]
async fn a_refresh_without_a_token_waits_through_a_short_backoff_too() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    issuer.script(Outcome::Fail(unavailable()));
    assert_eq!(source.refresh(&()).await.unwrap().expose_secret(), "first.2");
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// R3: `rotate` ends the backoff, but it does not change the error that the waiters of the fetch get.
#[tokio::test(start_paused = true)]
async fn a_waiter_of_a_permanent_failure_starts_no_fetch_if_the_backoff_was_ended_meanwhile() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    issuer.script(Outcome::Fail(Error::permanent("no such client")));
    let mut wait = tokio_test::task::spawn(source.token());
    assert!(wait.poll().is_pending());
    sleep(secs(1)).await;
    assert_eq!(source.stats().fetches_failed, 1);
    source.rotate();
    let Poll::Ready(Err(error)) = wait.poll() else { panic!("the waiter has no error") };
    assert_eq!((error.is_transient(), issuer.requests()), (false, 1));
}
