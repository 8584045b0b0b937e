//! What a revoked token costs: how many callers get the 401 of the API, in virtual time.
//!
//! The requests are `POST`s without an idempotency key, so none is replayed.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{BoxError, TokenSource};

use crate::common::{Issuer, ORIGIN, Stopwatch, TestClock, layer, ms, secs};

/// Ten requests a second.
const STEP: Duration = ms(100);

struct Revocation {
    /// How long the token request before the revocation took.
    usual: Duration,
    /// How long the one after it takes.
    this: Duration,
    /// How long the API takes.
    api: Duration,
}

/// How many callers got the 401, and how many would have got it if no request were sent from the first 401 until the new token
/// arrived.
async fn rejected(revocation: Revocation) -> (usize, usize) {
    let Revocation { usual, this, api } = revocation;
    let issuer = Issuer::new();
    issuer.set_latency(usual);
    let source = TokenSource::builder(issuer.clone()).clock(TestClock::new()).build();
    let watch = Arc::new(Stopwatch::start());
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (journal, now) = (Arc::clone(&sent), Arc::clone(&watch));
    let server = service_fn(move |request: Request<String>| {
        let revoked = request.headers()["authorization"] == "Bearer first.1" && journal.lock().len() > 20;
        journal.lock().push((now.read(), revoked));
        async move {
            tokio::time::sleep(api).await;
            let response = Response::builder().status(if revoked { 401 } else { 201 });
            Ok::<_, BoxError>(response.body(String::new())?)
        }
    });
    let client = layer(&source).layer(server);
    source.warm_up().await.unwrap();
    issuer.set_latency(this);
    let mut calls = Vec::new();
    while watch.read() < usual + secs(20) {
        let post = Request::post(format!("{ORIGIN}/sale")).body(String::new()).unwrap();
        calls.push(tokio::spawn(client.clone().oneshot(post)));
        tokio::time::sleep(STEP).await;
    }
    let mut got = 0;
    for call in calls {
        let status = call.await.unwrap().unwrap().status().as_u16();
        got += usize::from(status == 401);
        assert!(status == 401 || status == 201);
    }
    assert_eq!((issuer.requests(), source.stats().replays), (2, 0), "one revocation, one token request");
    let revoked: Vec<Duration> = sent.lock().iter().filter(|(_, revoked)| *revoked).map(|(at, _)| *at).collect();
    assert_eq!(revoked.len(), got);
    let first_response = revoked[0] + api;
    (got, revoked.iter().filter(|at| **at <= first_response).count())
}

// R69: the mark of the set-aside time. Before, a rejected token was removed for as long as its fetch ran.
#[tokio::test(start_paused = true)]
async fn a_revocation_is_seen_by_no_more_callers_than_if_no_request_were_sent_while_the_fetch_runs() {
    for issuer in [ms(200), secs(3)] {
        for api in [ms(20), ms(250), ms(950)] {
            let (got, mark) = rejected(Revocation { usual: issuer, this: issuer, api }).await;
            assert!(got <= mark, "an issuer of {issuer:?}, an API of {api:?}: {got} got the 401, and not {mark}");
            assert_eq!(mark, 1 + api.as_millis() as usize / 100, "the callers that did not know it yet");
        }
    }
}

/// The table of `docs/limits.md`: the duration of the token request before and after the revocation, and the 401s.
fn documented() -> Vec<(Duration, Duration, usize)> {
    let page = include_str!("../../docs/limits.md");
    let seconds = |cell: &str| Some(Duration::from_secs_f64(cell.strip_suffix(" s")?.parse().ok()?));
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [usual, this, rejected] = cells[..] else { return None };
        Some((seconds(usual)?, seconds(this)?, rejected.parse().ok()?))
    });
    rows.collect()
}

// R69: the price of the limit on the set-aside time.
#[tokio::test(start_paused = true)]
async fn the_documented_number_of_401s_with_an_issuer_that_became_slow_is_measured() {
    let documented = documented();
    assert!(documented.len() >= 5, "a loop over nothing proves nothing");
    for (usual, this, documented) in documented {
        let (got, _) = rejected(Revocation { usual, this, api: ms(20) }).await;
        assert_eq!(got, documented, "token requests of {usual:?}, then of {this:?}");
    }
}
