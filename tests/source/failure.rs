//! Providers that panic, hang, fail and recover: everyone who waits is told, and nothing stays broken.

use std::error::Error as _;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::sleep;
use tower_bearer_auth::{Error, ErrorKind, TokenSource};

use crate::common::{Does, Issuer, Stopwatch, TestClock, assert_reconciles, ms, secs, settle, unavailable};

const CANARY: &str = "canary-8f2d1c";

/// Ten callers at once, all of whom must be told the same.
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
    let mut told = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(cause) = next {
        told += &format!(" {cause} {cause:?}");
        next = cause.source();
    }
    told
}

// R9
#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_wakes_every_waiter_and_its_message_stays_inside() {
    for does in [Does::Panic(CANARY), Does::PanicAtOnce(CANARY)] {
        let issuer = Issuer::new();
        issuer.then(does);
        let source = TokenSource::new(issuer.clone());
        let watch = Stopwatch::start();
        let error = ten_callers(&source).await;
        assert!(watch.read() <= ms(250));
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Panicked, true));
        assert!(!chain(&error).contains(CANARY), "{error:?}");
        assert_eq!(issuer.requests(), 1);
        // It was one panic, not the end.
        sleep(secs(1)).await;
        source.token().await.unwrap();
        assert_eq!(assert_reconciles(&source).fetches_failed, 1);
    }
}

// R9
#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_given_up_and_wakes_every_waiter() {
    let issuer = Issuer::new();
    issuer.then(Does::Hang);
    let source = TokenSource::new(issuer.clone());
    let watch = Stopwatch::start();
    let error = ten_callers(&source).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
    assert!(secs(12) <= watch.read() && watch.read() <= ms(12_050), "{:?}", watch.read());
    settle().await;
    assert_eq!((issuer.requests(), issuer.dropped(), issuer.in_air()), (1, 1, 0));
    sleep(secs(1)).await;
    source.token().await.unwrap();
    assert_reconciles(&source);
}

// R9
#[tokio::test(start_paused = true)]
async fn the_bound_of_a_fetch_can_be_set() {
    let issuer = Issuer::new();
    issuer.does(Does::Hang);
    let source = TokenSource::builder(issuer.clone()).fetch_timeout(secs(1)).build();
    let watch = Stopwatch::start();
    assert_eq!(ten_callers(&source).await.kind(), ErrorKind::Timeout);
    assert!(watch.read() <= ms(1_050));
}

const KINDS: [ErrorKind; 17] = [
    ErrorKind::InvalidCredentials,
    ErrorKind::InvalidCredentials,
    ErrorKind::InvalidRequest,
    ErrorKind::Throttled,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::MalformedResponse,
    ErrorKind::UnsupportedTokenType,
    ErrorKind::MissingKey,
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
async fn after_any_error_the_first_call_past_the_pause_succeeds() {
    for kind in KINDS {
        for error in [Error::transient("x").with_kind(kind), Error::permanent("x").with_kind(kind)] {
            for failures in [1, 4] {
                let issuer = Issuer::new();
                let source = TokenSource::new(issuer.clone());
                for failure in 0..failures {
                    issuer.then(Does::Fail(error.clone()));
                    let failed = source.token().await.unwrap_err();
                    assert_eq!((failed.kind(), failed.is_transient()), (kind, error.is_transient()));
                    let pause = failed.retry_after().unwrap();
                    if error.is_transient() {
                        let longest = ms(500) * 2_u32.pow(failure);
                        assert!(ms(100) <= pause && pause <= longest, "{kind:?}: {pause:?}");
                    } else {
                        assert!(ms(2_500) <= pause && pause <= secs(5), "{kind:?}: {pause:?}");
                    }
                    // Before that, no request and no waiting.
                    sleep(pause - ms(2)).await;
                    let watch = Stopwatch::start();
                    assert_eq!(source.token().await.unwrap_err().kind(), kind);
                    assert!(watch.read().is_zero());
                    sleep(ms(3)).await;
                }
                assert_eq!(issuer.requests(), failures as usize);
                let token = source.token().await;
                assert!(token.is_ok(), "{kind:?}: {token:?}");
                // Nothing is left of it: the next failure is a first one again.
                source.invalidate();
                issuer.then(Does::Fail(unavailable()));
                assert!(source.token().await.unwrap_err().retry_after().unwrap() <= ms(500));
                assert_reconciles(&source);
            }
        }
    }
}

// R42
#[tokio::test(start_paused = true)]
async fn callers_in_the_cool_down_fail_at_once_and_are_told_when_the_next_try_is_due() {
    let issuer = Issuer::new();
    issuer.does(Does::Fail(Error::permanent("no such client").with_kind(ErrorKind::InvalidCredentials)));
    let source = TokenSource::new(issuer.clone());
    let first = source.token().await.unwrap_err();
    let pause = first.retry_after().unwrap();
    let watch = Stopwatch::start();
    let mut before = pause;
    while watch.read() + ms(100) < pause {
        sleep(ms(100)).await;
        let asked = Stopwatch::start();
        let error = source.token().now_or_never().expect("a caller was made to wait").unwrap_err();
        assert!(asked.read().is_zero());
        assert!(std::ptr::eq(error.source().unwrap(), first.source().unwrap()));
        let left = error.retry_after().unwrap();
        assert_eq!(left, pause - watch.read());
        assert!(left < before);
        before = left;
    }
    assert_eq!(issuer.requests(), 1);
    sleep(before).await;
    source.token().await.unwrap_err();
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// R42
#[tokio::test(start_paused = true)]
async fn a_retry_after_is_obeyed_with_a_spread_and_up_to_a_cap() {
    // Without a token in hand the cap is a minute.
    for (asked, least, most) in
        [(0, ms(100), ms(500)), (7, secs(7), ms(7_700)), (55, secs(55), secs(60)), (3600, secs(60), secs(60))]
    {
        for seed in 0..20 {
            let issuer = Issuer::new();
            issuer.then(Does::Fail(unavailable().with_kind(ErrorKind::Throttled).with_retry_after(secs(asked))));
            let source = TokenSource::builder(issuer.clone()).jitter_seed(seed).build();
            let pause = source.token().await.unwrap_err().retry_after().unwrap();
            assert!(least <= pause && pause <= most, "asked for {asked} s, left alone for {pause:?}");
            sleep(pause - ms(2)).await;
            source.token().now_or_never().unwrap().unwrap_err();
            sleep(ms(3)).await;
            source.token().await.unwrap();
            assert_eq!(issuer.requests(), 2);
        }
    }
}

// R38, R42
#[tokio::test(start_paused = true)]
async fn a_retry_after_in_the_refresh_window_is_capped_at_five_minutes() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    sleep(secs(1000)).await;
    issuer.then(Does::Fail(unavailable().with_retry_after(secs(86_400))));
    source.token().await.unwrap();
    sleep(secs(1)).await;
    assert_eq!(issuer.requests(), 2);
    let left = source.status().next_try.unwrap();
    assert!(secs(298) < left && left <= secs(300), "{left:?}");
    sleep(left - ms(10)).await;
    source.token().await.unwrap();
    settle().await;
    assert_eq!(issuer.requests(), 2);
    sleep(ms(20)).await;
    source.token().await.unwrap();
    settle().await;
    assert_eq!(issuer.requests(), 3);
}

// R38, R42: the cap with a token in hand is no excuse to refuse those who have none
#[tokio::test(start_paused = true)]
async fn once_the_token_has_ended_a_long_retry_after_holds_for_a_minute_only() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    // 30 s before the usable end.
    sleep(secs(1740)).await;
    issuer.then(Does::Fail(unavailable().with_retry_after(secs(86_400))));
    source.token().await.unwrap();
    sleep(secs(31)).await;
    let error = source.token().now_or_never().unwrap().unwrap_err();
    let left = error.retry_after().unwrap();
    assert!(secs(28) <= left && left <= secs(30), "{left:?}");
    sleep(left + ms(1)).await;
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 3);
}

// R42
#[tokio::test(start_paused = true)]
async fn new_credentials_end_the_memory_of_a_permanent_error_at_once() {
    let issuer = Issuer::new();
    issuer.then(Does::Fail(Error::permanent("no such client").with_kind(ErrorKind::InvalidCredentials)));
    let source = TokenSource::new(issuer.clone());
    source.token().await.unwrap_err();
    source.token().now_or_never().unwrap().unwrap_err();
    source.rotate();
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 2);
}

// R42
#[tokio::test(start_paused = true)]
async fn a_loop_of_invalidations_does_not_take_the_issuers_protection_away() {
    let issuer = Issuer::new();
    issuer.latency(ms(0));
    issuer.does(Does::Fail(Error::permanent("no such client")));
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
async fn a_token_that_lands_after_its_own_end_is_a_passing_failure_and_no_loop() {
    let issuer = Issuer::new();
    issuer.lifetime(secs(1));
    issuer.latency(secs(2));
    let source = TokenSource::new(issuer.clone());
    let error = ten_callers(&source).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
    assert_eq!(issuer.requests(), 1);
    assert_reconciles(&source);
}

// R40
#[tokio::test(start_paused = true)]
async fn a_token_that_lands_between_its_usable_and_its_nominal_end_serves_those_who_waited_and_no_one_else() {
    let issuer = Issuer::new();
    issuer.lifetime(secs(10));
    issuer.latency(secs(8));
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
