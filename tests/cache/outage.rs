//! The issuer is down while there is a token: no request fails before usable_until, and nothing is stamped after it.

use futures::FutureExt as _;
use http::{Request, Response};
use tokio::time::sleep;
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, RefreshPolicy, TokenSource};
use tower_test::mock;

use crate::common::{
    Api, Issuer, Outcome, Stopwatch, TestClock, Trickle, assert_reconciles, get, layer, ms, secs, unavailable,
};

fn usable_for(lifetime: std::time::Duration) -> std::time::Duration {
    lifetime - secs(30).min(lifetime / 4)
}

// R38, R40, R42, R66: a request waits for the next try only within the patience of 2 s, and never after a permanent failure.
#[tokio::test(start_paused = true)]
async fn with_the_issuer_down_every_request_succeeds_until_usable_until_and_then_fails_at_once() {
    let permanent = Error::permanent("disabled").with_kind(ErrorKind::InvalidCredentials);
    for lifetime in [secs(10), secs(60), secs(1800), secs(7200)] {
        for (patience, error) in [(secs(0), unavailable()), (secs(2), unavailable()), (secs(2), permanent.clone())] {
            let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(1));
            issuer.set_lifetime(lifetime);
            let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).patience(patience).build();
            let client = layer(&source).layer(api.clone());
            let watch = Stopwatch::start();
            client.clone().oneshot(get()).await.unwrap();
            issuer.script_always(Outcome::Fail(error.clone()));
            let step = lifetime / 200;
            while watch.read() + step < usable_for(lifetime) {
                sleep(step).await;
                let request = client.clone().oneshot(get());
                assert_eq!(request.await.expect("a usable token was removed").status(), 200);
            }
            let stamped = api.authorizations().len();
            sleep(usable_for(lifetime) - watch.read()).await;
            let mut before = None;
            for _ in 0..20 {
                let call = Stopwatch::start();
                let failed = client.clone().oneshot(get()).await.map(drop).unwrap_err();
                let failed = Error::find(&*failed).expect("the error of the issuer");
                assert_eq!(failed.kind(), error.kind());
                let most = ms(200) + if error.is_transient() { patience } else { secs(0) };
                assert!(call.read() <= most, "no longer than the patience and one fetch: {:?}", call.read());
                let due = watch.read() + failed.retry_after().unwrap();
                if call.read().is_zero() {
                    // The time of the next try does not change.
                    assert_eq!(due, *before.get_or_insert(due));
                } else {
                    before = Some(due);
                }
                sleep(ms(5)).await;
            }
            assert_eq!(api.authorizations().len(), stamped, "a token was stamped after usable_until");
            assert_reconciles(&source);
        }
    }
}

// R40
#[tokio::test(start_paused = true)]
async fn no_token_is_returned_from_usable_until_on() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_lifetime(secs(100));
    issuer.set_latency(ms(0));
    let source =
        TokenSource::builder(issuer.clone()).clock(clock.clone()).refresh(RefreshPolicy::new().at_expiry()).build();
    source.token().await.unwrap();
    sleep(secs(75) - ms(1)).await;
    assert_eq!(source.token().now_or_never().unwrap().unwrap().generation(), 1);
    assert_eq!(source.peek().unwrap().generation(), 1);
    sleep(ms(1)).await;
    assert!(source.peek().is_none());
    assert_eq!(source.token().await.unwrap().generation(), 2);
}

// R38, R39
#[tokio::test(start_paused = true)]
async fn after_the_outage_the_refresh_succeeds_within_one_backoff() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    issuer.script_always(Outcome::Fail(unavailable()));
    sleep(secs(1000)).await;
    for _ in 0..300 {
        source.token().now_or_never().unwrap().unwrap();
        sleep(secs(1)).await;
    }
    let during = issuer.requests();
    assert!((9..=300).contains(&during), "{during} requests in five minutes of outage");
    issuer.script_always(Outcome::Mint);
    let watch = Stopwatch::start();
    while source.token().now_or_never().unwrap().unwrap().generation() == 1 {
        sleep(ms(100)).await;
    }
    assert!(watch.read() <= ms(30_500), "{:?}", watch.read());
    assert_eq!(issuer.requests(), during + 1);
    assert_eq!(assert_reconciles(&source).waits, 1);
}

// R38
#[tokio::test(start_paused = true)]
async fn in_the_last_seconds_of_a_token_the_tries_are_a_second_apart() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_latency(ms(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    source.token().await.unwrap();
    issuer.script_always(Outcome::Fail(unavailable()));
    sleep(secs(1760)).await;
    for _ in 0..990 {
        source.token().now_or_never().unwrap().unwrap();
        sleep(ms(10)).await;
    }
    // While there is a usable token, tries are at least a second apart.
    assert!(issuer.requests() <= 11, "{} requests in 10 s", issuer.requests());
    let started = issuer.started();
    assert!(started.windows(2).skip(1).all(|two| two[1] - two[0] >= secs(1)), "{started:?}");
}

// R37
#[tokio::test(start_paused = true)]
async fn the_token_is_chosen_when_the_request_is_sent_not_when_the_service_becomes_ready() {
    let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(0));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let mut client = layer(&source).layer(api.clone());
    source.warm_up().await.unwrap();
    client.ready().await.unwrap();
    sleep(secs(7200)).await;
    client.call(get()).await.unwrap();
    assert_eq!(api.authorizations(), ["Bearer first.2"]);
}

// R37, R40
#[tokio::test(start_paused = true)]
async fn a_replay_that_waits_for_readiness_carries_no_token_that_has_expired_meanwhile() {
    let issuer = Issuer::new();
    let source = TokenSource::builder(issuer.clone()).clock(TestClock::new()).build();
    let (service, mut server) = mock::pair::<Request<String>, Response<Trickle>>();
    server.allow(1);
    let response = tokio::spawn(layer(&source).layer(service).oneshot(get()));
    let (request, respond) = server.next_request().await.unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer first.1");
    let rejection = Response::builder().status(401).header("www-authenticate", "Bearer error=\"invalid_token\"");
    respond.send_response(rejection.body(Trickle::default()).unwrap());
    // The refresh completes at once. The service becomes ready after the new token has expired.
    sleep(secs(7200)).await;
    assert_eq!(issuer.requests(), 2);
    server.allow(1);
    let (request, respond) = server.next_request().await.unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer first.3");
    respond.send_response(Response::new(Trickle::default()));
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
}

/// How many token requests two rounds of so many keys cause, if the issuer knows none of them.
async fn two_rounds_of_invented_keys(keys: u32) -> usize {
    let issuer = Issuer::for_users();
    issuer.set_latency(ms(0));
    issuer.script_always(Outcome::Fail(Error::permanent("no such user").with_kind(ErrorKind::InvalidCredentials)));
    let source = TokenSource::builder(issuer.clone()).clock(TestClock::new()).build();
    for _ in 0..2 {
        for key in 0..keys {
            source.token_for(&ExtensionKey(key)).await.unwrap_err();
            // The second round begins within every backoff: 2.5 to 5 s.
            sleep(ms(1)).await;
        }
    }
    issuer.requests()
}

// R74: the limit that docs/limits.md states. An eighth of 10 000 keys is 1 250.
#[tokio::test(start_paused = true)]
async fn more_invented_keys_than_an_eighth_of_the_cache_requested_in_turn_avoid_their_backoffs() {
    assert_eq!(two_rounds_of_invented_keys(1_250).await, 1_250, "the backoffs of all keys count");
    let fetches = two_rounds_of_invented_keys(1_251).await;
    assert!(fetches > 1_251 * 3 / 2, "{fetches} token requests: most keys were evicted before their second request");
}

// R66: the price of the patience that docs/limits.md states.
#[tokio::test(start_paused = true)]
async fn a_request_at_the_start_of_an_outage_costs_a_few_token_requests_and_one_without_patience() {
    const REQUESTS: usize = 1_000;
    for (latency, documented) in [(ms(0), 3_700), (ms(200), 3_300)] {
        let mut fetches = [0, 0];
        for (patience, fetches) in [secs(0), secs(2)].into_iter().zip(&mut fetches) {
            for seed in 0..REQUESTS as u64 {
                let issuer = Issuer::new();
                issuer.set_latency(latency);
                issuer.set_down(true);
                let source = TokenSource::builder(issuer.clone()).clock(TestClock::new());
                source.patience(patience).jitter_seed(seed).build().token().await.unwrap_err();
                *fetches += issuer.requests();
            }
        }
        let [without, with] = fetches;
        assert_eq!(without, REQUESTS);
        assert!(with.abs_diff(documented) < 100, "{with} token requests for {REQUESTS} requests, with {latency:?}");
    }
}
