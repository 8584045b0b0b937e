//! Events and metrics of token requests.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use http::StatusCode;
use tokio::runtime::Builder;
use tokio::time::{advance, sleep};
use tower_bearer_auth::{Clock as _, Error, ErrorKind, TokenSource};
use tracing::Instrument as _;

use crate::support::issuer::Outcome;
use crate::support::issuer::token;
use crate::support::telemetry::Capture;
use crate::support::time::Paused;
use crate::users::{ANN, BOB, LATENCY, builder, issuer};
use crate::{equal_to_stats, eventually};

#[tokio::test(start_paused = true)]
async fn a_new_token_is_one_event_with_its_lifetime_and_duration() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    source.token_for(&ANN).await.unwrap();
    assert_eq!(
        capture.lines(),
        ["INFO token_minted expires_in_seconds=1798 generation=1 \
          key=ExtensionKey(User(\"ann\")) provider=staging took_seconds=2 usable_seconds=1768"]
    );
    let labels = [("provider", "staging"), ("outcome", "minted"), ("error", "none")];
    assert_eq!(capture.count("token_requests_total", &labels), 1);
    assert_eq!(capture.values("token_request_duration_seconds", &labels[..2]), [2.0]);
    assert_eq!(capture.count("waits_total", &[("provider", "staging"), ("outcome", "served")]), 1);
    assert_eq!(capture.values("wait_duration_seconds", &[("outcome", "served")]), [2.0]);
    equal_to_stats(&capture, &source.stats());

    // Hits are only in `stats`.
    let before = capture.text();
    for _ in 0..100 {
        source.token_for(&ANN).await.unwrap();
    }
    assert_eq!(source.stats().hits, 100);
    assert_eq!(capture.text(), before);
}

#[tokio::test(start_paused = true)]
async fn with_one_identity_no_event_has_a_key() {
    let capture = Capture::start();
    let (provider, _) = crate::support::issuer::issuer(|n| async move { token(n) });
    TokenSource::builder(provider).clock(Paused::start()).build().token().await.unwrap();
    let [minted] = &capture.named("token_minted")[..] else { panic!("{:?}", capture.lines()) };
    assert_eq!(minted.field("key"), None);
    let [span] = &capture.spans()[..] else { panic!("one span") };
    assert_eq!(span.field("key"), None);
}

// R12: the span of a fetch has no parent, even if its task is polled inside a caller's span.
#[test]
fn the_span_of_a_fetch_has_no_parent() {
    let capture = Capture::start();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let issuer = issuer();
    let caller = tracing::info_span!(target: "caller", "caller");
    caller.in_scope(|| {
        runtime.block_on(async {
            let source = builder(&issuer).build();
            let inner = tracing::info_span!(target: "caller", "inner");
            source.token_for(&ANN).instrument(inner).await.unwrap();
            issuer.script(Outcome::Fail(Error::transient("down")));
            source.token_for(&BOB).await.unwrap_err();
        });
    });
    let spans = capture.spans();
    assert_eq!(spans.len(), issuer.requests());
    assert_eq!(spans.len(), 2);
    for (span, (outcome, generation)) in spans.iter().zip([("minted", Some("1")), ("failed", None)]) {
        assert_eq!((span.name.as_str(), &span.inside), ("token_request", &None));
        assert_eq!((span.field("outcome"), span.field("generation")), (Some(outcome), generation));
        assert_eq!(span.field("provider"), Some("staging"));
    }
    assert_eq!(spans[1].field("key"), Some("ExtensionKey(User(\"bob\"))"));
    // The provider's own events are in the span too.
    let all = capture.all();
    let inside = |target: &'static str| all.iter().filter(move |seen| !seen.span && seen.target == target);
    assert_eq!(inside("provider").count(), 2);
    assert_eq!(inside("tower_bearer_auth").count(), 2);
    for event in inside("provider").chain(inside("tower_bearer_auth")) {
        assert_eq!(event.inside.as_deref(), Some("token_request"), "{}", event.line());
    }
}

// R9: an issuer that is down causes one line, for any number of waiters and of requests that fail fast.
#[tokio::test(start_paused = true)]
async fn a_failing_issuer_is_one_line_per_token_request_and_not_one_per_caller() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    issuer.script(Outcome::Fail(
        Error::transient("connection reset")
            .with_kind(ErrorKind::Unavailable)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .with_code("try_later")
            .with_message("the issuer is down")
            .with_hint("wait")
            .with_retry_after(Duration::from_secs(20)),
    ));
    let waiting = join_all((0..1000).map(|_| source.token_for(&ANN))).await;
    let failed_fast = join_all((0..1000).map(|_| source.token_for(&ANN))).await;
    assert!(waiting.iter().chain(&failed_fast).all(Result::is_err));
    assert_eq!(issuer.requests(), 1);

    let [failed] = &capture.events()[..] else { panic!("{:?}", capture.lines()) };
    let retry = waiting[0].as_ref().unwrap_err().retry_after().unwrap().as_secs_f64();
    assert!((20.0..=22.0).contains(&retry), "{retry}");
    let expected = format!(
        "WARN token_request_failed code=try_later error=the issuer is down (HTTP 503, try_later): wait \
         key=ExtensionKey(User(\"ann\")) kind=unavailable provider=staging retry_seconds={retry} status=503 took_seconds=2 \
         transient=true usable_seconds=0"
    );
    assert_eq!(failed.line(), expected);
    let labels = [("provider", "staging"), ("outcome", "failed"), ("error", "unavailable")];
    assert_eq!(capture.count("token_requests_total", &labels), 1);
    assert_eq!(capture.count("waits_total", &[("outcome", "failed")]), 1000);
    assert_eq!(capture.values("wait_duration_seconds", &[("outcome", "failed")]), vec![2.0; 1000]);
    assert_eq!(capture.count("failed_fast_total", &[("provider", "staging"), ("error", "unavailable")]), 1000);
    equal_to_stats(&capture, &source.stats());
}

// R38: the event has the generation, the age and the usable time of the cached token.
#[tokio::test(start_paused = true)]
async fn a_failed_refresh_reports_the_rest_of_the_cached_token() {
    let capture = Capture::start();
    let issuer = issuer();
    let clock = Paused::start();
    let source = builder(&issuer).clock(clock).build();
    source.token_for(&ANN).await.unwrap();
    clock.go_to(LATENCY + Duration::from_secs(1400)).await;
    issuer.script(Outcome::Fail(Error::permanent("wrong").with_kind(ErrorKind::InvalidCredentials)));
    source.token_for(&ANN).await.unwrap();
    eventually("the refresh has started", || issuer.requests() == 2).await;
    sleep(LATENCY).await;
    eventually("the refresh has failed", || source.stats().fetches_failed == 1).await;
    let [failed] = &capture.named("token_request_failed")[..] else { panic!("{:?}", capture.lines()) };
    let fields = ["generation", "age_seconds", "usable_seconds", "transient", "kind"].map(|name| failed.field(name));
    // 1 800 s less 30 s of margin; the token is 2 + 1 400 + 2 s old.
    assert_eq!(fields, [Some("1"), Some("1404"), Some("366"), Some("false"), Some("invalid_credentials")]);
    equal_to_stats(&capture, &source.stats());
}

// R36
#[tokio::test(start_paused = true)]
async fn the_same_token_again_is_not_reported_as_new() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    source.token_for(&ANN).await.unwrap();
    advance(Duration::from_secs(1400)).await;
    issuer.script(Outcome::Return("token-1"));
    source.token_for(&ANN).await.unwrap();
    sleep(2 * LATENCY).await;
    assert_eq!(
        capture.named("token_kept").iter().map(crate::support::telemetry::Captured::line).collect::<Vec<_>>(),
        ["INFO token_kept generation=1 key=ExtensionKey(User(\"ann\")) provider=staging took_seconds=2 \
          usable_seconds=366"]
    );
    assert_eq!(capture.named("token_minted").len(), 1);
    assert_eq!(capture.count("token_requests_total", &[("outcome", "kept"), ("error", "none")]), 1);
    assert_eq!(capture.spans()[1].field("outcome"), Some("kept"));
    equal_to_stats(&capture, &source.stats());
}

// R100
#[tokio::test(start_paused = true)]
async fn a_gauge_has_the_time_at_which_the_newest_token_expires() {
    let capture = Capture::start();
    let (issuer, clock) = (issuer(), Paused::start());
    issuer.set_latency(Duration::ZERO);
    let source = builder(&issuer).clock(clock).build();
    let gauge = || capture.values("token_expires_timestamp_seconds", &[("provider", "staging")]);
    let epoch = |secs: u64| {
        (clock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap() - clock.passed()).as_secs_f64() + secs as f64
    };
    assert_eq!(gauge(), [0.0; 0], "0 would be a token that expired long ago");
    let token = source.token_for(&ANN).await.unwrap();
    assert_eq!(gauge(), [epoch(1800)]);
    assert_eq!(token.expires_at().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64(), epoch(1800));

    // The same token again does not live longer, and a failure changes nothing.
    advance(Duration::from_secs(1000)).await;
    for outcome in [Outcome::Return("token-1"), Outcome::Fail(Error::transient("down"))] {
        let before = issuer.ended().len();
        issuer.script(outcome);
        source.token_for(&ANN).await.unwrap();
        eventually("the refresh has ended", || issuer.ended().len() > before).await;
        advance(Duration::from_secs(450)).await;
        assert_eq!(gauge(), [epoch(1800)]);
    }
    source.invalidate_for(&ANN);
    assert_eq!(gauge(), [epoch(1800)]);

    // The newest token of all keys counts, even if it expires first.
    source.token_for(&ANN).await.unwrap();
    assert_eq!(gauge(), [epoch(1900 + 1800)]);
    issuer.set_lifetime(Duration::from_secs(60));
    source.token_for(&BOB).await.unwrap();
    assert_eq!(gauge(), [epoch(1900 + 60)]);
}

#[test]
fn a_fetch_that_is_cancelled_with_its_runtime_is_reported() {
    let capture = Capture::start();
    let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = runtime();
    let issuer = issuer();
    let source = first.block_on(async { builder(&issuer).build() });
    first.block_on(async {
        let wait = tokio::time::timeout(Duration::from_secs(1), source.token_for(&ANN));
        wait.await.unwrap_err();
    });
    drop(first);
    assert_eq!(
        capture.lines(),
        ["WARN token_request_cancelled key=ExtensionKey(User(\"ann\")) provider=staging reason=runtime_ended"]
    );
    assert_eq!(capture.count("token_requests_total", &[("outcome", "cancelled"), ("error", "none")]), 1);
    assert_eq!(capture.count("waits_total", &[("outcome", "abandoned")]), 1);
    assert_eq!(capture.values("wait_duration_seconds", &[("outcome", "abandoned")]), [1.0]);
    equal_to_stats(&capture, &source.stats());
}

/// A runtime that nothing polls, and a clock that the test moves.
#[test]
fn a_fetch_in_an_idle_runtime_is_reported_as_cancelled() {
    let capture = Capture::start();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (stuck, other) = (runtime(), runtime());
    let clock = crate::StoppedClock::new();
    let (provider, requests) = crate::support::issuer::issuer(|n| async move { token(n) });
    let source = TokenSource::builder(provider).clock(clock.clone()).build();
    stuck.block_on(async {
        // Starts the fetch. Its task never runs.
        assert!(futures::poll!(Box::pin(source.token())).is_pending());
    });
    clock.advance(Duration::from_secs(60));
    other.block_on(source.token()).unwrap();
    assert_eq!(requests.count(), 1);
    let [cancelled] = &capture.named("token_request_cancelled")[..] else { panic!("{:?}", capture.lines()) };
    assert_eq!(cancelled.field("reason"), Some("runtime_stuck"));
    drop(stuck);
    assert_eq!(capture.count("token_requests_total", &[("outcome", "cancelled")]), 1);
    equal_to_stats(&capture, &source.stats());
}

// R46
#[tokio::test(start_paused = true)]
async fn a_day_without_requests_causes_no_event() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    source.token_for(&ANN).await.unwrap();
    let before = capture.text();
    for _ in 0..24 * 60 {
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(capture.text(), before);
    assert_eq!(issuer.requests(), 1);
    source.token_for(&ANN).await.unwrap();
    assert_eq!(capture.named("token_minted").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_reported_without_its_message() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    issuer.script(Outcome::Panic("cZ7kQ9vX-secret"));
    source.token_for(&ANN).await.unwrap_err();
    let [failed] = &capture.events()[..] else { panic!("{:?}", capture.lines()) };
    assert_eq!(failed.field("kind"), Some("panicked"));
    assert!(!capture.text().contains("cZ7kQ9vX"), "{}", capture.text());
    assert_eq!(capture.count("token_requests_total", &[("error", "panicked")]), 1);
}
