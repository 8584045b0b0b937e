//! Single flight: one fetch and one outcome for any number of callers.

use std::error::Error as _;
use std::sync::{Arc, Barrier};

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::{interval, sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{ErrorKind, ExtensionKey, TokenSource};

use crate::common::{Api, Issuer, Outcome, Stopwatch, assert_reconciles, get, layer, ms, secs, settle, unavailable};

// R1, R3
#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_make_one_token_request() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let start = Stopwatch::start();
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
        })
        .collect();
    settle().await;
    assert_eq!(source.stats().waiting, 1_000);
    for secret in join_all(callers).await {
        assert_eq!(secret.unwrap(), "first.1");
    }
    assert!(start.read() <= ms(250));
    assert_eq!(issuer.requests(), 1);
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waits, stats.waits_served, stats.hits), (1_000, 1_000, 0));
}

// R1, R3
#[tokio::test(start_paused = true)]
async fn a_thousand_cold_callers_share_one_failure() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Fail(unavailable()));
    let source = TokenSource::builder(issuer.clone()).patience(ms(0)).build();
    let start = Stopwatch::start();
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.unwrap_err() })
        })
        .collect();
    let errors: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert!(start.read() <= ms(250));
    assert_eq!(issuer.requests(), 1);
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), errors[0].to_string());
        assert_eq!(error.retry_after(), errors[0].retry_after());
        // The same error, not an equal one.
        assert!(std::ptr::eq(error.source().unwrap(), errors[0].source().unwrap()));
    }
    // A later caller gets the same error, and no fetch starts.
    let later = source.token().now_or_never().unwrap().unwrap_err();
    assert!(std::ptr::eq(later.source().unwrap(), errors[0].source().unwrap()));
    assert_eq!(issuer.requests(), 1);
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waits, stats.waits_failed, stats.failed_fast), (1_000, 1_000, 1));
}

// R2, R42
#[tokio::test(start_paused = true)]
async fn with_an_issuer_that_fails_for_ten_minutes_no_callers_pile_up() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Fail(unavailable()));
    let source = TokenSource::builder(issuer.clone()).patience(ms(0)).jitter_seed(2).build();
    let (mut most_waiting, mut due) = (0, Vec::new());
    let mut ticks = interval(ms(10));
    for _ in 0..60_000 {
        ticks.tick().await;
        let before = issuer.requests();
        let waiting = source.clone();
        let caller = tokio::spawn(async move { waiting.token().await.unwrap_err() });
        settle().await;
        most_waiting = most_waiting.max(source.stats().waiting);
        if issuer.requests() > before {
            // The caller that started a fetch gets the time until the next one.
            due.push(caller);
        }
    }
    // At 100 requests a second and 200 ms, at most the waiters of one fetch.
    assert!(most_waiting <= 21, "{most_waiting} callers waited");
    let (started, ended) = (issuer.started(), issuer.ended());
    assert!((20..=120).contains(&started.len()), "{} token requests", started.len());
    for (number, error) in join_all(due).await.into_iter().enumerate() {
        let Some(next) = started.get(number + 1) else { break };
        let backoff = error.unwrap().retry_after().unwrap();
        assert!(backoff <= secs(30));
        assert!(*next >= ended[number] + backoff, "request {} came before the backoff had passed", number + 1);
        assert!(*next <= ended[number] + backoff + ms(10), "request {} came late", number + 1);
    }
    assert_reconciles(&source);
}

// R5
#[tokio::test(start_paused = true)]
async fn sixty_four_clones_of_the_service_share_one_cache() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let api = Api::new(0);
    let first = layer(&source).layer(api.clone());
    let clones: Vec<_> = (0..64).map(|_| first.clone()).collect();
    drop(first);
    join_all(clones.into_iter().map(|clone| async move {
        for _ in 0..10 {
            assert_eq!(clone.clone().oneshot(get()).await.unwrap().status(), 200);
        }
    }))
    .await;
    // Another client of the same source.
    let other = layer(&source).layer(api.clone());
    other.oneshot(get()).await.unwrap();
    assert_eq!(issuer.requests(), 1);
    assert_eq!(api.authorizations(), vec!["Bearer first.1"; 641]);
    assert_reconciles(&source);
}

// R6
#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_nearly_its_whole_timeout_is_the_only_one() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(11_900));
    let source = TokenSource::new(issuer.clone());
    let mut callers = Vec::new();
    for _ in 0..119 {
        let source = source.clone();
        callers.push(tokio::spawn(async move { source.token().await.unwrap().generation() }));
        sleep(ms(100)).await;
    }
    for generation in join_all(callers).await {
        assert_eq!(generation.unwrap(), 1);
    }
    assert_eq!((issuer.requests(), issuer.most_at_once()), (1, 1));
    assert_reconciles(&source);
}

// R6
#[test]
fn a_caller_that_arrives_with_the_token_starts_no_second_fetch() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for _ in 0..500 {
        let _inside = runtime.enter();
        let issuer = Issuer::new();
        issuer.set_latency(ms(0));
        let source = TokenSource::new(issuer.clone());
        let together = Arc::new(Barrier::new(4));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    together.wait();
                    for _ in 0..20 {
                        assert_eq!(runtime.block_on(source.token()).unwrap().expose_secret(), "first.1");
                    }
                });
            }
        });
        assert_eq!(issuer.requests(), 1);
        assert_reconciles(&source);
    }
}

// R7
#[tokio::test(start_paused = true)]
async fn tokens_of_a_second_or_less_cost_one_request_a_second_and_serve_every_caller_and_zero_is_the_default() {
    // A lifetime of zero means the default lifetime: it cost one request a second.
    for (lifetime, latency, expected) in [
        (secs(0), ms(0), 1..=1),
        (secs(0), ms(200), 1..=1),
        (ms(1), ms(0), 50..=61),
        (secs(1), ms(0), 50..=61),
        (secs(1), ms(200), 50..=61),
    ] {
        let issuer = Issuer::for_users();
        issuer.set_lifetime(lifetime);
        issuer.set_latency(latency);
        let source = TokenSource::new(issuer.clone());
        let callers = (0..40).map(|caller| {
            let source = source.clone();
            tokio::spawn(async move {
                let key = ExtensionKey(caller % 2);
                let start = Stopwatch::start();
                while start.read() < secs(60) {
                    source.token_for(&key).await.unwrap();
                    sleep(ms(7 + u64::from(caller))).await;
                }
            })
        });
        join_all(callers.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
        for key in [ExtensionKey(0), ExtensionKey(1)] {
            let requests = issuer.requests_for(&key);
            assert!(expected.contains(&requests), "{requests} requests in 60 s ({lifetime:?}, {latency:?})");
        }
        assert_eq!(issuer.most_at_once(), 1);
        assert_eq!(assert_reconciles(&source).waits_failed, 0);
    }
}

// R10
#[tokio::test(start_paused = true)]
async fn a_key_whose_issuer_stalls_delays_no_other_key() {
    let issuer = Issuer::for_users();
    let (stalled, cold, warm) = (ExtensionKey(1), ExtensionKey(2), ExtensionKey(3));
    issuer.set_latency_for(&stalled, secs(11));
    let source = TokenSource::new(issuer.clone());
    source.warm_up_for(&warm).await.unwrap();
    let waiting = source.clone();
    let first = tokio::spawn(async move { waiting.token_for(&ExtensionKey(1)).await.unwrap() });
    settle().await;
    assert_eq!(issuer.requests_for(&stalled), 1);

    assert!(source.token_for(&warm).now_or_never().is_some());
    let start = Stopwatch::start();
    source.token_for(&cold).await.unwrap();
    assert_eq!(start.read(), ms(200));
    assert!(!first.is_finished());
    first.await.unwrap();
    assert_reconciles(&source);
}

// R11
#[tokio::test(start_paused = true)]
async fn callers_with_timeouts_shorter_than_a_fetch_get_a_token_after_one_fetch() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let start = Stopwatch::start();
    let first_success = async {
        loop {
            if timeout(ms(50), source.token()).await.is_ok_and(|token| token.is_ok()) {
                return start.read();
            }
        }
    };
    let took = first_success.await;
    assert!(took <= ms(250), "{took:?}");
    assert_eq!((issuer.requests(), issuer.dropped()), (1, 0));
    let stats = assert_reconciles(&source);
    assert!(stats.waits_abandoned >= 3);
}

// R11
#[tokio::test(start_paused = true)]
async fn a_fetch_without_waiters_completes_and_serves_the_next_call() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    for _ in 0..100 {
        assert!(source.token().now_or_never().is_none());
    }
    assert_eq!(source.stats().waits_abandoned, 100);
    sleep(ms(201)).await;
    assert_eq!(source.token().now_or_never().unwrap().unwrap().expose_secret(), "first.1");
    assert_eq!((issuer.requests(), issuer.dropped()), (1, 0));
    assert_reconciles(&source);
}
