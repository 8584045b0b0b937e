//! Clocks that jump, stop and go back.

use futures::FutureExt as _;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{Clock as _, TokenSource};

use crate::common::{
    Api, DAY, Issuer, Outcome, TestClock, YEAR, assert_reconciles, get, layer, ms, secs, settle, unavailable,
};

type Jump = fn(&TestClock, std::time::Duration);

const JUMPS: [(&str, Jump); 8] = [
    ("mono forward", TestClock::mono_forward),
    ("mono back", TestClock::mono_back),
    ("wall forward", TestClock::wall_forward),
    ("wall back", TestClock::wall_back),
    ("both forward", |clock, by| {
        clock.mono_forward(by);
        clock.wall_forward(by);
    }),
    ("both back", |clock, by| {
        clock.mono_back(by);
        clock.wall_back(by);
    }),
    ("apart", |clock, by| {
        clock.mono_forward(by);
        clock.wall_back(by);
    }),
    ("crossed", |clock, by| {
        clock.mono_back(by);
        clock.wall_forward(by);
    }),
];

// R33
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_costs_one_token_request_and_no_failure() {
    for (name, jump) in JUMPS {
        for by in [secs(3600), DAY, YEAR] {
            let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(0));
            let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
            let client = layer(&source).layer(api.clone());
            client.clone().oneshot(get()).await.unwrap();
            jump(&clock, by);
            for _ in 0..500 {
                assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200, "{name} {by:?}");
                sleep(ms(10)).await;
            }
            assert!(issuer.requests() <= 2, "{name} {by:?}: {} token requests", issuer.requests());
            // The token from after the jump is refreshed as usual.
            let before = issuer.requests();
            for _ in 0..180 {
                client.clone().oneshot(get()).await.unwrap();
                sleep(secs(10)).await;
            }
            let after = issuer.requests() - before;
            assert!((1..=2).contains(&after), "{name} {by:?}: {after} token requests in half an hour");
            assert_reconciles(&source);
        }
    }
}

// R33
#[tokio::test(start_paused = true)]
async fn clocks_that_jump_once_a_second_cause_no_storm_of_token_requests() {
    for seed in 0..8 {
        let (issuer, clock) = (Issuer::new(), TestClock::new());
        let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..120 {
            let (_, jump) = JUMPS[rng.usize(..6)];
            jump(&clock, [secs(1), secs(3600), DAY][rng.usize(..3)]);
            for _ in 0..10 {
                source.token().await.unwrap();
                sleep(ms(100)).await;
            }
        }
        assert!(issuer.requests() <= 2 * 120 + 1, "{} token requests for 120 jumps", issuer.requests());
        assert_eq!(assert_reconciles(&source).waits_failed, 0);
    }
}

// R33
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_during_the_fetch_does_not_make_the_new_token_expired() {
    for (name, jump) in JUMPS {
        let (issuer, clock) = (Issuer::new(), TestClock::new());
        let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
        let waiting = source.clone();
        let caller = tokio::spawn(async move { waiting.token().await });
        settle().await;
        let before = clock.now().mono;
        jump(&clock, DAY);
        match caller.await.unwrap() {
            Ok(_) => {}
            // By the monotonic clock the fetch took a day.
            Err(error) => {
                assert!(clock.now().mono > before + DAY && error.is_transient(), "{name}: {error}");
                sleep(error.retry_after().unwrap()).await;
            }
        }
        for _ in 0..100 {
            source.token().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            sleep(ms(100)).await;
        }
        assert!(issuer.requests() <= 2, "{name}: {} token requests", issuer.requests());
        assert_reconciles(&source);
    }
}

// R34
#[tokio::test(start_paused = true)]
async fn after_two_hours_of_suspend_no_expired_token_is_stamped_and_one_fetch_returns_a_new_one() {
    let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let client = layer(&source).layer(api.clone());
    client.clone().oneshot(get()).await.unwrap();
    // The monotonic clock stops during the suspend.
    clock.wall_forward(secs(2 * 3600));
    assert!(source.peek().is_none());
    let callers = (0..50).map(|_| tokio::spawn(client.clone().oneshot(get())));
    for response in futures::future::join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(response.unwrap().unwrap().status(), 200);
    }
    assert_eq!(issuer.requests(), 2);
    assert_eq!(api.authorizations().iter().filter(|stamp| *stamp == "Bearer first.1").count(), 1);
    assert_reconciles(&source);
}

// R34
#[tokio::test(start_paused = true)]
async fn a_token_expires_when_either_clock_reaches_its_end() {
    for jump in [TestClock::mono_forward as Jump, TestClock::wall_forward] {
        let (issuer, clock) = (Issuer::new(), TestClock::new());
        let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
        source.token().await.unwrap();
        jump(&clock, secs(1769));
        assert_eq!(source.peek().unwrap().generation(), 1);
        jump(&clock, secs(1));
        assert!(source.peek().is_none());
        assert!(source.token().now_or_never().is_none());
    }
}

// R33: a monotonic clock that reads a little earlier on another core has not jumped
#[tokio::test(start_paused = true)]
async fn a_monotonic_clock_that_is_a_moment_behind_changes_nothing() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    clock.mono_back(secs(1));
    assert_eq!(source.token().now_or_never().unwrap().unwrap().generation(), 1);
    assert_eq!(issuer.requests(), 1);
}

// R33
#[tokio::test(start_paused = true)]
async fn a_clock_set_back_in_a_backoff_ends_the_backoff() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(60))));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap_err();
    clock.mono_back(YEAR);
    source.token().await.unwrap();
    assert_eq!(issuer.requests(), 2);
}
