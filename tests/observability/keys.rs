//! Events and metrics of keys, rotations and invalidations.

use std::time::Duration;

use tower_bearer_auth::ExtensionKey;

use crate::support::issuer::Outcome;
use crate::support::telemetry::{Capture, Captured};
use crate::users::{ANN, BOB, Issuer, User, builder, issuer};
use crate::{equal_to_stats, eventually};

const CROWD: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

// R31
#[tokio::test(start_paused = true)]
async fn evicted_keys_are_counted_and_not_named() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).max_keys(2).build();
    for name in CROWD {
        source.token_for(&ExtensionKey(User(name))).await.unwrap();
    }
    assert_eq!(source.stats().keys, 2);
    let lines: Vec<_> = capture.named("keys_evicted").iter().map(Captured::line).collect();
    assert_eq!(lines, vec!["DEBUG keys_evicted keys=1 provider=staging"; 4]);
    assert_eq!(capture.count("evictions_total", &[("provider", "staging")]), 4);
    equal_to_stats(&capture, &source.stats());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_no_label() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    for name in CROWD {
        source.token_for(&ExtensionKey(User(name))).await.unwrap();
    }
    source.token_for(&ANN).await.unwrap();
    let metrics = capture.metrics();
    assert!(!metrics.is_empty());
    for (name, labels) in metrics.keys() {
        assert!(labels.values().all(|value| !value.contains("ann")), "{name}: {labels:?}");
    }
    // All keys share one set of labels.
    let of_requests = metrics
        .iter()
        .filter(|((name, _), metric)| name == "tower_bearer_auth_token_requests_total" && metric.count > 0);
    assert_eq!(of_requests.map(|(_, metric)| metric.count).collect::<Vec<_>>(), [7]);
    // An event has the key.
    assert_eq!(capture.named("token_minted").last().unwrap().field("key"), Some("ExtensionKey(User(\"ann\"))"));
}

// R50
#[tokio::test(start_paused = true)]
async fn a_rotation_is_reported_with_the_fetches_that_it_made_stale() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    source.token_for(&ANN).await.unwrap();
    let waiting = tokio::spawn(source.token_for(&BOB));
    eventually("the token request has started", || issuer.requests() == 2).await;
    source.rotate();
    assert_eq!(capture.lines()[1..], ["INFO credentials_rotated keys=2 provider=staging"]);
    eventually("the cancelled token request has ended", || source.stats().fetches_discarded == 1).await;
    let stale = "INFO token_request_discarded key=ExtensionKey(User(\"bob\")) provider=staging";
    assert_eq!(capture.lines()[2..], [stale]);
    waiting.await.unwrap().unwrap();
    assert_eq!(issuer.requests(), 3);
    assert_eq!(capture.count("rotations_total", &[("provider", "staging")]), 1);
    let labels = [("provider", "staging"), ("outcome", "discarded"), ("error", "none")];
    assert_eq!(capture.count("token_requests_total", &labels), 1);
    equal_to_stats(&capture, &source.stats());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_is_reported_for_a_key_in_the_cache() {
    let capture = Capture::start();
    let source = builder(&issuer()).build();
    source.invalidate_for(&ANN);
    assert_eq!(capture.lines(), [""; 0]);
    source.token_for(&ANN).await.unwrap();
    source.invalidate_for(&ANN);
    assert_eq!(capture.lines()[1..], ["INFO token_invalidated key=ExtensionKey(User(\"ann\")) provider=staging"]);
    assert_eq!(capture.count("invalidations_total", &[("provider", "staging")]), 1);
}

/// No lock may be held while a subscriber runs, because it may call the source.
#[tokio::test(start_paused = true)]
async fn a_subscriber_may_call_the_source() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower_bearer_auth::TokenSource;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Curious {
        source: Arc<std::sync::OnceLock<TokenSource<Issuer>>>,
        events: Arc<AtomicUsize>,
    }
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Curious {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if let ("tower_bearer_auth", Some(source)) = (event.metadata().target(), self.source.get()) {
                for key in [ANN, BOB] {
                    let _ = (source.status_for(&key), source.peek_for(&key), source.stats());
                }
                self.events.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let curious = Curious::default();
    crate::support::telemetry::enable_every_call_site();
    let subscriber = tracing_subscriber::registry().with(curious.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let issuer = issuer();
    let source = builder(&issuer).max_keys(1).build();
    assert!(curious.source.set(source.clone()).is_ok());
    let token = source.token_for(&ANN).await.unwrap();
    source.reject(&ANN, &token);
    source.token_for(&BOB).await.unwrap();
    issuer.script(Outcome::Fail(tower_bearer_auth::Error::transient("down").with_retry_after(Duration::from_secs(9))));
    source.rotate();
    source.token_for(&ANN).await.unwrap_err();
    source.token_for(&ANN).await.unwrap_err();
    source.invalidate_for(&ANN);
    // A rejection during a backoff, with a usable token.
    source.rotate();
    let token = source.token_for(&ANN).await.unwrap();
    issuer.script(Outcome::Fail(tower_bearer_auth::Error::permanent("wrong secret")));
    tokio::time::advance(Duration::from_secs(1200)).await;
    source.token_for(&ANN).await.unwrap();
    tokio::time::sleep(crate::users::LATENCY).await;
    tokio::task::yield_now().await;
    assert!(source.status_for(&ANN).last_error.is_some());
    let before = curious.events.load(Ordering::SeqCst);
    assert!(!source.reject(&ANN, &token));
    assert!(curious.events.load(Ordering::SeqCst) > before.max(6));
}

/// A subscriber is not called while its own panic unwinds, because that would abort the process.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_costs_a_token_request_and_aborts_nothing() {
    use futures::FutureExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    struct Bomb;
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Bomb {
        fn on_new_span(
            &self,
            _: &tracing::span::Attributes<'_>,
            _: &tracing::span::Id,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            panic!("the subscriber fails");
        }

        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            panic!("the subscriber fails");
        }
    }
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(Bomb));
    let source = builder(&issuer()).build();
    let result = std::panic::AssertUnwindSafe(source.token_for(&ANN)).catch_unwind().await;
    assert!(!matches!(result, Ok(Ok(_))), "the subscriber received the fetch");
    assert_eq!(source.stats().fetches_in_flight, 0);
}
