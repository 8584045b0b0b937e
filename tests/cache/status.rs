//! Reading the state of a source without a token request.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{Clock as _, Error, ErrorKind, TokenSource, TokenState};

use crate::common::{
    Api, Issuer, Outcome, Stopwatch, TestClock, assert_reconciles, get, layer, ms, secs, settle, unavailable,
};

#[tokio::test(start_paused = true)]
async fn after_a_warm_up_the_first_request_does_not_wait() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let watch = Stopwatch::start();
    source.warm_up().await.unwrap();
    assert_eq!(watch.read(), ms(200));
    source.warm_up().now_or_never().unwrap().unwrap();
    source.token().now_or_never().unwrap().unwrap();
    assert_eq!(issuer.requests(), 1);
    source.rotate();
    issuer.script_always(Outcome::Fail(Error::permanent("no such client").with_kind(ErrorKind::InvalidCredentials)));
    assert_eq!(source.warm_up().await.unwrap_err().kind(), ErrorKind::InvalidCredentials);
    assert_reconciles(&source);
}

#[tokio::test(start_paused = true)]
async fn reading_the_state_never_starts_a_fetch() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let look = || (source.peek().map(|token| token.generation()), source.status().is_ready(), source.stats().hits);
    assert_eq!(look(), (None, false, 0));
    source.token().await.unwrap();
    assert_eq!(look(), (Some(1), true, 0));
    sleep(secs(1100)).await;
    assert_eq!(look(), (Some(1), true, 0));
    sleep(secs(700)).await;
    assert_eq!(look(), (None, false, 0));
    settle().await;
    assert_eq!(issuer.requests(), 1);
    assert_reconciles(&source);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_returns_every_state() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let seen = || {
        let status = source.status();
        assert_eq!(status.is_ready(), source.peek().is_some());
        assert_reconciles(&source);
        let left = status.usable_until.map(|until| until.duration_since(clock.now().wall).unwrap());
        (status.state, left, status.last_error, status.next_try)
    };
    assert_eq!(seen(), (TokenState::Missing, None, None, None));

    // A first failure, its backoff, and the end of the backoff.
    issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(60))));
    assert!(source.token().now_or_never().is_none());
    settle().await;
    assert_eq!(seen(), (TokenState::Refreshing, None, None, None));
    sleep(ms(200)).await;
    settle().await;
    // R70: up to 6 s are added to the `Retry-After`.
    let backoff = source.status().next_try.unwrap();
    assert!(secs(60) <= backoff && backoff <= secs(66), "{backoff:?}");
    assert_eq!(seen(), (TokenState::Backoff, None, Some(ErrorKind::Unavailable), Some(backoff)));
    sleep(secs(20)).await;
    assert_eq!(seen(), (TokenState::Backoff, None, Some(ErrorKind::Unavailable), Some(backoff - secs(20))));
    sleep(secs(46)).await;
    assert_eq!(seen(), (TokenState::Missing, None, Some(ErrorKind::Unavailable), None));

    // A token, usable for 30 s less than its lifetime, from the start of its fetch.
    source.token().await.unwrap();
    let usable = secs(1770) - ms(200);
    assert_eq!(seen(), (TokenState::Fresh, Some(usable), None, None));
    sleep(secs(1000)).await;
    assert_eq!(seen(), (TokenState::Stale, Some(usable - secs(1000)), None, None));

    // An early refresh that fails.
    issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(300))));
    source.token().await.unwrap();
    settle().await;
    assert_eq!(seen(), (TokenState::Refreshing, Some(usable - secs(1000)), None, None));
    sleep(ms(200)).await;
    settle().await;
    let usable = usable - secs(1000) - ms(200);
    let backoff = source.status().next_try.unwrap();
    assert!(secs(300) <= backoff && backoff <= secs(330), "{backoff:?}");
    assert_eq!(seen(), (TokenState::Stale, Some(usable), Some(ErrorKind::Unavailable), Some(backoff)));

    // One that succeeds. While it runs, the status still has the last error.
    sleep(secs(330)).await;
    source.token().await.unwrap();
    settle().await;
    let usable = usable - secs(330);
    assert_eq!(seen(), (TokenState::Refreshing, Some(usable), Some(ErrorKind::Unavailable), None));
    sleep(ms(200)).await;
    settle().await;
    assert_eq!(seen(), (TokenState::Fresh, Some(secs(1770) - ms(200)), None, None));

    source.invalidate();
    assert_eq!(seen(), (TokenState::Missing, None, None, None));
}

#[tokio::test(start_paused = true)]
async fn after_max_wait_a_caller_fails_and_the_fetch_continues() {
    let issuer = Issuer::new();
    issuer.set_latency(secs(5));
    let source = TokenSource::builder(issuer.clone()).max_wait(secs(1)).build();
    let watch = Stopwatch::start();
    let error = source.token().await.unwrap_err();
    assert_eq!(watch.read(), secs(1));
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
    assert_eq!((issuer.requests(), issuer.running()), (1, 1));
    // It is not a failure of the issuer: no backoff, and the next caller joins the same fetch.
    sleep(ms(3_500)).await;
    assert_eq!(source.token().await.unwrap().generation(), 1);
    assert_eq!(watch.read(), secs(5));
    assert_eq!((issuer.requests(), issuer.dropped()), (1, 0));
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waits_failed, stats.waits_served), (1, 1));
}

// The limit applies to the whole wait, even if its fetch is replaced.
#[tokio::test(start_paused = true)]
async fn max_wait_bounds_the_whole_wait_across_rotations() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(1_100));
    let source = TokenSource::builder(issuer.clone()).max_wait(secs(1)).build();
    let waiting = source.clone();
    let watch = Stopwatch::start();
    let caller = tokio::spawn(async move { waiting.token().await.unwrap_err().kind() });
    while !caller.is_finished() && watch.read() < secs(3) {
        sleep(ms(150)).await;
        source.rotate();
    }
    assert_eq!(caller.await.unwrap(), ErrorKind::Timeout);
    assert!(watch.read() <= ms(1_200), "{:?}", watch.read());
    assert_reconciles(&source);
}

// R71: with 5 s set, a cold start and a rejection together took 9.8 s.
#[tokio::test(start_paused = true)]
async fn max_wait_bounds_the_waits_of_one_request_before_and_after_a_rejection_together() {
    // The ms of each fetch; the status that the caller gets; the ms of all its waits.
    for (latency, status, waited) in
        [(2_400, 200, 4_800), (2_499, 200, 4_998), (2_600, 401, 5_000), (4_900, 401, 5_000)]
    {
        let (issuer, api) = (Issuer::new(), Api::new(1));
        issuer.set_latency(ms(latency));
        let source = TokenSource::builder(issuer.clone()).max_wait(secs(5)).build();
        api.revoke("first.1");
        let client = layer(&source).layer(api.clone());
        let watch = Stopwatch::start();
        // A second request waits with it, so that the waits are those of concurrent callers.
        let responses = join_all([(); 2].map(|()| client.clone().oneshot(get()))).await;
        for response in responses {
            assert_eq!(response.unwrap().status(), status, "{latency} ms");
        }
        let took = watch.read();
        assert!(ms(waited) <= took && took <= ms(waited + 2), "{latency} ms a fetch: {took:?}");
        assert_reconciles(&source);
    }
}

// R71
#[tokio::test(start_paused = true)]
async fn the_time_of_the_api_is_no_wait_and_the_next_request_has_the_whole_limit() {
    let (issuer, api) = (Issuer::new(), Api::new(1));
    issuer.set_latency(ms(2_400));
    let source = TokenSource::builder(issuer.clone()).max_wait(secs(5)).build();
    let slow = tower::service_fn(move |request| {
        let api = api.clone();
        async move {
            sleep(secs(60)).await;
            api.revoke("first.1");
            api.oneshot(request).await
        }
    });
    let client = layer(&source).layer(slow);
    assert_eq!(client.clone().oneshot(get()).await.unwrap().status(), 200);
    // This one has not waited yet.
    issuer.set_latency(ms(4_900));
    source.invalidate();
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(issuer.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_sums_hold_at_every_step_of_a_busy_minute() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_lifetime(secs(4));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).max_wait(ms(1_500)).jitter_seed(7).build();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut callers = Vec::new();
    for _ in 0..6_000 {
        match rng.u32(..100) {
            0..60 => {
                let source = source.clone();
                callers.push(tokio::spawn(async move { drop(source.token().await) }));
            }
            60..80 => drop(source.token().now_or_never()),
            80..85 => drop(callers.pop().inspect(tokio::task::JoinHandle::abort)),
            85 => source.invalidate(),
            86 => source.rotate(),
            87..89 => drop(source.peek().map(|token| source.reject(&(), &token))),
            89..91 => drop(source.peek().inspect(|token| source.accept(token))),
            91 => issuer.script(Outcome::Fail(unavailable())),
            92 => issuer.script(Outcome::Panic("scripted")),
            93 => issuer.set_latency(ms(rng.u64(1..1_000))),
            _ => sleep(ms(rng.u64(1..100))).await,
        }
        settle().await;
        // Every fetch that the source has counted has started by now.
        assert_reconciles(&source);
        assert!(issuer.running() <= 1);
    }
    sleep(secs(20)).await;
    let stats = assert_reconciles(&source);
    assert_eq!((stats.waiting, stats.fetches_in_flight), (0, 0));
    for (what, count) in [
        ("hits", stats.hits),
        ("failed fast", stats.failed_fast),
        ("served", stats.waits_served),
        ("failed", stats.waits_failed),
        ("abandoned", stats.waits_abandoned),
        ("succeeded", stats.fetches_succeeded),
        ("fetches failed", stats.fetches_failed),
        ("discarded", stats.fetches_discarded),
        ("rejections", stats.rejections),
    ] {
        assert!(count > 0, "no {what} in a busy minute: {stats:?}");
    }
}

// R4
#[tokio::test(start_paused = true)]
async fn staggered_rejections_of_one_token_cost_one_token_request() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let old = source.token().await.unwrap();
    source.accept(&old);
    for _ in 0..100 {
        assert!(source.reject(&(), &old));
        sleep(Duration::from_millis(7)).await;
    }
    let new = source.token().await.unwrap();
    assert_eq!((new.generation(), issuer.requests()), (2, 2));
    // A rejection of the old token changes nothing now.
    assert!(source.reject(&(), &old));
    assert_eq!(source.peek().unwrap().generation(), 2);
    sleep(secs(1)).await;
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

// A few counters are shared by all threads, whatever their number.
#[test]
fn the_requests_of_hundreds_of_threads_are_all_counted() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(0));
    let source = TokenSource::new(issuer);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(source.warm_up()).unwrap();
    for _ in 0..300 {
        let source = source.clone();
        std::thread::spawn(move || source.token().now_or_never().unwrap().map(drop)).join().unwrap().unwrap();
    }
    assert_eq!(source.stats().hits, 300);
}
