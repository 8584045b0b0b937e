//! How many token requests a healthy issuer gets, and how long each token is used.

use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::sleep;
use tower_bearer_auth::{RefreshPolicy, TokenSource};

use crate::common::{DAY, Issuer, Outcome, Stopwatch, TestClock, assert_reconciles, ms, secs, settle};

fn source(issuer: &Issuer) -> TokenSource<Issuer> {
    TokenSource::builder(issuer.clone()).clock(TestClock::new()).build()
}

/// Calls `token` `steps` times in `over`, and lets every fetch complete.
async fn call(source: &TokenSource<Issuer>, over: Duration, steps: u32) {
    for _ in 0..steps {
        source.token().await.unwrap();
        sleep(over / steps).await;
    }
    settle().await;
}

// R35, R52
#[tokio::test(start_paused = true)]
async fn every_token_is_used_for_at_least_half_of_its_lifetime() {
    for lifetime in [2, 3, 4, 7, 10, 30, 59, 60, 120, 300, 1800, 2400, 3600, 7200, 86_400] {
        for latency in [ms(0), ms(200)] {
            let issuer = Issuer::new();
            issuer.set_lifetime(secs(lifetime));
            issuer.set_latency(latency);
            let source = source(&issuer);
            let over = secs(lifetime) * 20;
            call(&source, over, 4_000).await;
            let before_window = secs(lifetime) - secs(1200).min(secs(lifetime) / 2);
            let most = 1 + over.as_nanos().div_ceil(before_window.as_nanos());
            let requests = issuer.requests();
            assert!(requests as u128 <= most, "{lifetime} s: {requests} requests, {most} allowed");
            for two in issuer.started().windows(2) {
                assert!(two[1] - two[0] >= secs(lifetime) / 2, "{lifetime} s: used for {:?}", two[1] - two[0]);
            }
            assert_eq!(assert_reconciles(&source).waits_failed, 0);
        }
    }
}

// R36, R52
#[tokio::test(start_paused = true)]
async fn an_issuer_that_returns_the_same_token_again_gets_few_token_requests() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Return("the-same"));
    let source = source(&issuer);
    call(&source, secs(1770), 17_700).await;
    assert!((2..=10).contains(&issuer.requests()), "{} requests in one lifetime", issuer.requests());
    assert_eq!(source.token().await.unwrap().expose_secret(), "the-same");
    assert_eq!(assert_reconciles(&source).waits_failed, 0);
}

// R36
#[tokio::test(start_paused = true)]
async fn a_refresh_that_returns_a_shorter_lifetime_causes_no_loop() {
    for shorter in [1, 3, 8, 13, 20] {
        let issuer = Issuer::new();
        let source = source(&issuer);
        source.token().await.unwrap();
        sleep(secs(1000)).await;
        issuer.set_lifetime(secs(shorter));
        let before = issuer.requests();
        call(&source, secs(600), 6_000).await;
        let requests = issuer.requests() - before;
        // The cached token is better than one that is usable for less than 10 s. One of 20 s replaces it.
        let most = if shorter < 20 { 20 } else { 61 };
        assert!(requests <= most, "{shorter} s: {requests} requests in ten minutes");
        assert_eq!(assert_reconciles(&source).waits, 1, "{shorter} s");
    }
}

#[tokio::test(start_paused = true)]
async fn at_expiry_causes_one_token_request_per_lifetime() {
    let issuer = Issuer::new();
    let policy = RefreshPolicy::new().at_expiry();
    let source = TokenSource::builder(issuer.clone()).clock(TestClock::new()).refresh(policy).build();
    let watch = Stopwatch::start();
    while watch.read() < DAY {
        source.token().await.unwrap();
        sleep(secs(10)).await;
    }
    // From 30 s before it expires, a token is no longer stamped.
    assert_eq!(issuer.requests() as u64, DAY.as_secs().div_ceil(1770));
    assert_eq!(assert_reconciles(&source).waits, issuer.requests() as u64);
}

// R52
#[tokio::test(start_paused = true)]
async fn refreshes_start_in_the_configured_window() {
    for seed in 0..20 {
        let issuer = Issuer::new();
        let policy = RefreshPolicy::new().window(secs(100));
        let source =
            TokenSource::builder(issuer.clone()).clock(TestClock::new()).refresh(policy).jitter_seed(seed).build();
        source.token().await.unwrap();
        sleep(secs(1700) - ms(201)).await;
        source.token().now_or_never().unwrap().unwrap();
        settle().await;
        assert_eq!(issuer.requests(), 1);
        sleep(secs(10) + ms(2)).await;
        source.token().now_or_never().unwrap().unwrap();
        settle().await;
        assert_eq!(issuer.requests(), 2);
    }
}
