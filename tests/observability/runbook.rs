//! The runbook of `docs/observability.md`, step by step.

use std::time::{Duration, SystemTime};

use http::{Response, StatusCode};
use tokio::time::{advance, sleep};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{Clock as _, Error, ErrorKind, TokenSource, TokenState};

use crate::rejections::{Body, Revoked, layer, request};
use crate::support::api::Api;
use crate::support::issuer::Outcome;
use crate::support::responses::{INVALID_TOKEN, bearer};
use crate::support::telemetry::Capture;
use crate::support::time::Paused;
use crate::users::{ANN, BOB, Issuer, LATENCY, builder, issuer};
use crate::{equal_to_stats, eventually};

async fn get(source: &TokenSource<Issuer>, api: &Api) -> Response<Body> {
    layer(source).layer(api.clone()).oneshot(request("GET", "https://api.example.com")).await.unwrap()
}

/// The names of the events since the last call.
fn since(capture: &Capture, seen: &mut usize) -> Vec<String> {
    let names: Vec<_> = capture.events().into_iter().skip(*seen).map(|event| event.name).collect();
    *seen += names.len();
    names
}

// R50
#[tokio::test(start_paused = true)]
async fn a_client_secret_has_leaked() {
    let (capture, mut seen) = (Capture::start(), 0);
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    drop(tokio::spawn(source.token_for(&BOB)));
    eventually("a token request is running", || issuer.requests() == 2).await;
    since(&capture, &mut seen);

    source.rotate();
    eventually("the cancelled token request has ended", || source.stats().fetches_discarded == 1).await;
    assert_eq!(since(&capture, &mut seen), ["credentials_rotated", "token_request_discarded"]);
    assert_eq!((capture.count("rotations_total", &[]), source.stats().fetches_discarded), (1, 1));

    // The waiter of the stale request starts a new one at once.
    issuer.script(Outcome::Fail(Error::permanent("unknown").with_kind(ErrorKind::InvalidCredentials)));
    source.warm_up_for(&ANN).await.unwrap_err();
    let names = since(&capture, &mut seen);
    assert!(names.contains(&"token_request_failed".to_owned()), "{names:?}");
    // Within a second of the last rotation, a rotation does not end the backoff.
    advance(Duration::from_secs(1)).await;
    source.rotate();
    source.warm_up_for(&ANN).await.unwrap();
    let names = since(&capture, &mut seen);
    assert_eq!(names.last().map(String::as_str), Some("token_minted"), "{names:?}");
    assert_eq!(source.status_for(&ANN).state, TokenState::Fresh);
    let minted = capture.named("token_minted").last().unwrap().field("generation").unwrap().parse::<u64>().unwrap();
    assert!(minted > 1);

    revoked.add("token-1");
    assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
    assert_eq!(capture.named("token_rejected").len(), 0);
    assert_ne!(bearer(api.sends().last().unwrap()), "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_token_has_leaked() {
    let (capture, mut seen) = (Capture::start(), 0);
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    since(&capture, &mut seen);
    revoked.add("token-1");
    assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
    assert_eq!(since(&capture, &mut seen), ["token_rejected", "token_minted", "request_replayed"]);
    assert_eq!(capture.count("tokens_rejected_total", &[("token", "accepted")]), 1);

    source.invalidate_for(&ANN);
    assert_eq!(since(&capture, &mut seen), ["token_invalidated"]);
    assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
    assert_eq!(since(&capture, &mut seen), ["token_minted"]);
    assert_eq!(bearer(api.sends().last().unwrap()), "token-3");
    equal_to_stats(&capture, &source.stats());
}

// R38, R39
#[tokio::test(start_paused = true)]
async fn the_issuer_is_down() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    for _ in 0..1000 {
        issuer.script(Outcome::Fail(Error::transient("down").with_kind(ErrorKind::Unavailable)));
    }
    // Requests once in 5 s, until the first one fails.
    let failed = || capture.named("token_request_failed");
    let mut sent = 0;
    while source.status_for(&ANN).is_ready() {
        assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
        assert_eq!(capture.count("failed_fast_total", &[]), 0);
        if !failed().is_empty() {
            let state = source.status_for(&ANN).state;
            assert!(matches!(state, TokenState::Stale | TokenState::Refreshing), "{state:?}");
        }
        sent += 1;
        sleep(Duration::from_secs(5)).await;
    }
    assert!(sent > 300, "{sent}");
    let left: Vec<f64> = failed().iter().map(|seen| seen.field("usable_seconds").unwrap().parse().unwrap()).collect();
    assert!(left.len() > 10 && left.is_sorted_by(|a, b| a > b), "{left:?}");
    let retry = failed().into_iter().map(|seen| seen.field("retry_seconds").unwrap().parse::<f64>().unwrap());
    assert!(retry.fold(0.0, f64::max) <= 30.0);

    let client = layer(&source).layer(api.clone());
    while capture.count("failed_fast_total", &[("error", "unavailable")]) == 0 {
        client.clone().oneshot(request("GET", "https://api.example.com")).await.unwrap_err();
    }
    assert_eq!(source.status_for(&ANN).state, TokenState::Backoff);
    assert_eq!(failed().last().unwrap().field("usable_seconds"), Some("0"));

    issuer.clear_script();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
    assert_eq!(source.status_for(&ANN).state, TokenState::Fresh);
    let last = capture.events().pop().unwrap();
    assert_eq!(last.name, "token_minted");
    // One line for each token request at the issuer, and none for callers.
    assert_eq!(capture.events().len(), issuer.requests());
    assert_eq!(capture.spans().len(), issuer.requests());
    sleep(LATENCY).await;
    equal_to_stats(&capture, &source.stats());
}

// R68: the running token request is not discarded. It serves the requests that waited for it before the call.
#[tokio::test(start_paused = true)]
async fn a_token_has_leaked_while_a_token_request_is_running() {
    let (capture, mut seen) = (Capture::start(), 0);
    let issuer = issuer();
    let source = builder(&issuer).build();
    let before = tokio::spawn(source.token_for(&ANN));
    eventually("a token request is running", || issuer.requests() == 1).await;
    source.invalidate_for(&ANN);
    assert_eq!(since(&capture, &mut seen), ["token_invalidated"]);
    let after = source.token_for(&ANN).await.unwrap();
    assert_eq!(since(&capture, &mut seen), ["token_minted", "token_minted"]);
    assert_eq!((before.await.unwrap().unwrap().generation(), after.generation()), (1, 2));
    assert_eq!(source.stats().fetches_discarded, 0);
    equal_to_stats(&capture, &source.stats());
}

// R69: the page says that requests are still stamped.
#[tokio::test(start_paused = true)]
async fn a_token_that_every_response_rejects_is_shown_by_its_status() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    revoked.add("all");
    let api = revoked.api("");
    assert_eq!(get(&source, &api).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(source.status_for(&ANN).state, TokenState::Fresh);
    for _ in 0..2 {
        assert_eq!(get(&source, &api).await.status(), StatusCode::UNAUTHORIZED);
    }
    let status = source.status_for(&ANN);
    assert_eq!((status.state, status.is_ready()), (TokenState::Rejected, true));
    assert_eq!(bearer(api.sends().last().unwrap()), "token-2");
    // The alert on new tokens counts these.
    let counted = capture.count("rejections_total", &[("token", "unaccepted"), ("refresh", "budget_exhausted")]);
    assert_eq!((counted, capture.count("rejections_total", &[("refresh", "ready")])), (2, 0));
    equal_to_stats(&capture, &source.stats());
}

// R65: the alert on new tokens does not count these rejections.
#[tokio::test(start_paused = true)]
async fn an_api_that_learns_of_new_tokens_late_causes_no_alert_at_a_refresh() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api("");
    get(&source, &api).await;
    advance(Duration::from_secs(1400)).await;
    revoked.add("token-2");
    get(&source, &api).await;
    sleep(2 * LATENCY).await;
    assert_eq!(source.stats().fetches_succeeded, 2);
    for _ in 0..300 {
        assert_eq!(get(&source, &api).await.status(), StatusCode::OK);
        sleep(Duration::from_millis(100)).await;
    }
    let unaccepted = |refresh| capture.count("rejections_total", &[("token", "unaccepted"), ("refresh", refresh)]);
    assert!(unaccepted("ready") > 2, "the new token was tried again");
    assert_eq!((unaccepted("in_flight"), unaccepted("budget_exhausted"), issuer.requests()), (0, 0, 2));
    assert_eq!(source.stats().tokens_rejected_early, 0);
    equal_to_stats(&capture, &source.stats());
}

// R69, R100: the alert on the number of failures does not fire, but the one on the remaining life does.
#[tokio::test(start_paused = true)]
async fn the_issuer_is_down_and_asks_for_few_requests() {
    let capture = Capture::start();
    let (issuer, clock) = (issuer(), Paused::start());
    let source = builder(&issuer).clock(clock).build();
    source.warm_up_for(&ANN).await.unwrap();
    let throttled = Error::transient("down").with_kind(ErrorKind::Throttled).with_retry_after(Duration::from_secs(300));
    issuer.script_always(Outcome::Fail(throttled));
    let mut failures: Vec<(Duration, u64)> = Vec::new();
    let mut alerts = 0;
    while source.token_for(&ANN).await.is_ok() {
        let (now, failed) = (clock.passed(), capture.count("token_requests_total", &[("outcome", "failed")]));
        failures.push((now, failed));
        let increase = |minutes: u64| {
            let from = now.saturating_sub(Duration::from_secs(60 * minutes));
            failed - failures.iter().find(|(at, _)| *at >= from).unwrap().1
        };
        assert!(increase(5) <= 2);
        let [expires_at] = capture.values("token_expires_timestamp_seconds", &[])[..] else { panic!("one gauge") };
        let time = clock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        alerts += u64::from(expires_at - time < 300.0 && increase(10) > 0);
        sleep(Duration::from_secs(1)).await;
    }
    assert!(alerts > 240, "s of alert before the first request fails: {alerts}");
}
