//! Compares `docs/observability.md` with the code, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, sleep, timeout};
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, TokenSource, replay};

use crate::StoppedClock;
use crate::rejections::{Revoked, layer, request};
use crate::support::api::Api;
use crate::support::error_kinds::variants;
use crate::support::issuer::Outcome;
use crate::support::responses::{INVALID_TOKEN, response};
use crate::support::telemetry::{Capture, Kind};
use crate::users::{ANN, BOB, User, builder, issuer};

const PAGE: &str = include_str!("../../docs/observability.md");
const API: &str = "https://api.example.com";

const KINDS: [(ErrorKind, &str); 16] = [
    (ErrorKind::InvalidCredentials, "invalid_credentials"),
    (ErrorKind::InvalidRequest, "invalid_request"),
    (ErrorKind::Throttled, "throttled"),
    (ErrorKind::Unavailable, "unavailable"),
    (ErrorKind::Tls, "tls"),
    (ErrorKind::Timeout, "timeout"),
    (ErrorKind::MalformedResponse, "malformed_response"),
    (ErrorKind::UnsupportedTokenType, "unsupported_token_type"),
    (ErrorKind::MissingKey, "missing_key"),
    (ErrorKind::NoOrigin, "no_origin"),
    (ErrorKind::InsecureUrl, "insecure_url"),
    (ErrorKind::NoRuntime, "no_runtime"),
    (ErrorKind::Reentrant, "reentrant"),
    (ErrorKind::Panicked, "panicked"),
    (ErrorKind::Config, "config"),
    (ErrorKind::Other, "other"),
];

type Words = BTreeSet<String>;

/// The rows of the first table below a heading, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The texts in backticks.
fn quoted(text: &str) -> Words {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn name(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Causes every event at least once.
fn everything() -> Capture {
    let capture = Capture::start();
    runtime().block_on(async {
        fetches().await;
        rejections().await;
        late_rejections().await;
        each_kind().await;
        crate::store::each_outcome().await;
    });
    cancelled_fetches();
    capture
}

async fn fetches() {
    let issuer = issuer();
    let source = builder(&issuer).max_keys(1).build();
    source.token_for(&ANN).await.unwrap();
    advance(Duration::from_secs(1400)).await;
    issuer.script(Outcome::Return("token-1"));
    source.token_for(&ANN).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    source.token_for(&BOB).await.unwrap();
    source.invalidate_for(&BOB);
    timeout(Duration::from_secs(1), source.token_for(&BOB)).await.unwrap_err();
    source.rotate();
    issuer.script(Outcome::Fail(Error::transient("down")));
    source.token_for(&ANN).await.unwrap_err();
    source.token_for(&ANN).await.unwrap_err();
}

async fn rejections() {
    // replayed; off, no_copy, not_safe; budget_exhausted; rejected_again; refresh_failed; and a foreign origin.
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    let client = layer(&source).layer(api.clone());
    client.clone().oneshot(request("GET", API)).await.unwrap();
    revoked.add("token-1");
    client.clone().oneshot(request("GET", API)).await.unwrap();
    client.clone().oneshot(request("GET", "https://elsewhere.test/")).await.unwrap();
    for token in 2..8 {
        revoked.add(&format!("token-{token}"));
        let layer = layer(&source);
        let layer = if token == 2 { layer.replay(replay::Mode::Never) } else { layer };
        let bare = revoked.api("");
        if token == 3 {
            layer.layer(bare).oneshot(request("POST", API)).await.unwrap();
        } else {
            let (head, _) = request("POST", API).into_parts();
            let request = Request::from_parts(head, Full::<bytes::Bytes>::from("body"));
            layer.layer(bare).oneshot(request).await.unwrap();
        }
        sleep(Duration::from_secs(60)).await;
        // The next request carries the new token, and the API accepts it.
        client.clone().oneshot(request("GET", API)).await.unwrap();
    }
    revoked.add("all");
    for _ in 0..3 {
        client.clone().oneshot(request("GET", API)).await.unwrap();
    }
    sleep(Duration::from_secs(70)).await;
    issuer.script(Outcome::Fail(Error::permanent("wrong").with_kind(ErrorKind::Config)));
    let bare = layer(&source).layer(revoked.api(""));
    // After the first one the token is put back. The second one meets a backoff.
    for _ in 0..2 {
        bare.clone().oneshot(request("GET", API)).await.unwrap();
    }
}

async fn late_rejections() {
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let mut client = layer(&source).layer(revoked.api(INVALID_TOKEN));
    client.call(request("GET", API)).await.unwrap();
    revoked.add("token-1");
    let [first, second] = [(); 2].map(|()| client.call(request("GET", API)));
    first.await.unwrap();
    advance(Duration::from_secs(3600)).await;
    layer(&source).layer(Api::new(|_| response(StatusCode::OK))).oneshot(request("GET", API)).await.unwrap();
    second.await.unwrap();
    // The first rejection of a token that has expired.
    let third = client.call(request("GET", API));
    revoked.add("token-3");
    advance(Duration::from_secs(3600)).await;
    third.await.unwrap();
    super::grpc::too_late().await;
}

async fn each_kind() {
    for (kind, _) in KINDS {
        let issuer = issuer();
        let source = builder(&issuer).build();
        issuer.script(Outcome::Fail(Error::permanent("no").with_kind(kind)));
        source.token_for(&ExtensionKey(User("kind"))).await.unwrap_err();
        source.token_for(&ExtensionKey(User("kind"))).await.unwrap_err();
    }
}

fn cancelled_fetches() {
    let clock = StoppedClock::new();
    let source = TokenSource::builder(issuer()).clock(clock.clone()).build();
    let stuck = runtime();
    stuck.block_on(async { assert!(futures::poll!(Box::pin(source.token_for(&ANN))).is_pending()) });
    clock.advance(Duration::from_secs(60));
    let ends = runtime();
    ends.block_on(async { assert!(futures::poll!(Box::pin(source.token_for(&ANN))).is_pending()) });
    drop(ends);
}

#[test]
fn the_page_has_each_span_and_event_and_no_other() {
    let seen = everything().all();
    let mut code: BTreeMap<(String, bool), (Words, Words)> = BTreeMap::new();
    for seen in seen.into_iter().filter(|seen| seen.target == "tower_bearer_auth") {
        let (levels, fields) = code.entry((seen.name.clone(), seen.span)).or_default();
        levels.insert(seen.level.to_string());
        fields.extend(seen.declared.into_iter().filter(|field| field != "message"));
    }
    let mut page = BTreeMap::new();
    for (heading, span) in [("Spans", true), ("Events", false)] {
        for row in table(heading) {
            let levels = row[1].split(", ").map(str::to_owned).collect();
            page.insert((name(&row[0]), span), (levels, quoted(&row[2])));
        }
    }
    assert_eq!(code, page);
}

#[test]
fn the_page_has_each_metric_and_no_other() {
    let mut code = BTreeMap::new();
    for ((name, labels), metric) in everything().metrics() {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let row = (kind.to_owned(), labels.into_keys().collect::<Words>(), metric.unit.unwrap(), metric.text.unwrap());
        // All series of a metric have the same labels.
        assert_eq!(code.entry(name).or_insert_with(|| row.clone()), &row);
    }
    let row = |row: Vec<String>| (name(&row[0]), (row[1].clone(), quoted(&row[2]), row[3].clone(), row[4].clone()));
    assert_eq!(code, table("Metrics").into_iter().map(row).collect());
}

#[test]
fn the_page_has_each_word_and_no_other() {
    let capture = everything();
    let mut code: BTreeMap<(String, String), Words> = BTreeMap::new();
    let mut errors = Words::new();
    let mut add = |name: &str, label: &str, word: &str| {
        if label == "error" || label == "kind" {
            errors.insert(word.to_owned());
        } else {
            code.entry((name.to_owned(), label.to_owned())).or_default().insert(word.to_owned());
        }
    };
    for ((name, labels), metric) in capture.metrics() {
        if metric.count == 0 && metric.values.is_empty() {
            continue;
        }
        for (label, word) in labels.iter().filter(|(label, _)| *label != "provider") {
            add(&name, label, word);
        }
    }
    for seen in capture.all().iter().filter(|seen| seen.target == "tower_bearer_auth") {
        for field in ["outcome", "reason", "token", "rejection", "refresh", "kind"] {
            if let Some(word) = seen.field(field) {
                add(&seen.name, field, word);
            }
        }
    }
    let page = table("Words").into_iter().map(|row| ((name(&row[0]), name(&row[1])), quoted(&row[2]))).collect();
    assert_eq!(code, page);

    let listed = PAGE.split("- `error`, and `kind`").nth(1).unwrap().split("\n- ").next().unwrap();
    let mut listed = quoted(listed.split_once("is the `ErrorKind`").unwrap().1);
    assert_eq!(errors, listed);
    assert!(listed.remove("none"));
    assert_eq!(listed, KINDS.iter().map(|(_, word)| (*word).to_owned()).collect());
}

/// Every metric and every word in the alerts and in the runbook exists.
#[test]
fn every_alert_uses_metrics_and_words_that_exist() {
    let metrics: Words = table("Metrics").iter().map(|row| name(&row[0])).collect();
    let labels: Words = table("Metrics").iter().flat_map(|row| quoted(&row[2])).collect();
    let mut words: Words = table("Words").iter().flat_map(|row| quoted(&row[2])).collect();
    words.extend(KINDS.iter().map(|(_, word)| (*word).to_owned()));
    let fences = PAGE.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let alerts: Vec<_> = fences.flat_map(str::lines).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let mut named = 0;
        for part in alert.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let part = part.trim_end_matches("_sum").trim_end_matches("_count");
            if part.starts_with("tower_bearer_auth") {
                assert!(metrics.contains(part), "{part} in {alert}");
                named += 1;
            }
        }
        assert!(named > 0, "{alert}");
        for selector in alert.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            for matcher in selector.split(',') {
                let (label, values) = matcher.split_once('=').unwrap();
                assert!(labels.contains(label), "{label} in {alert}");
                for value in values.trim_matches(['~', '"']).split('|') {
                    assert!(words.contains(value), "{value} in {alert}");
                }
            }
        }
    }
    let events: Words =
        ["Spans", "Events"].iter().flat_map(|heading| table(heading)).map(|row| name(&row[0])).collect();
    let runbook = PAGE.split("\n## ").find(|section| section.starts_with("Runbook")).unwrap();
    let mut checked = 0;
    for word in quoted(runbook) {
        let base = word.split('{').next().unwrap();
        if base.ends_with("_total") {
            assert!(metrics.contains(&format!("tower_bearer_auth_{base}")), "{word}");
        }
        let is_event = ["token_", "request_", "credentials_", "keys_"].iter().any(|start| base.starts_with(start));
        if is_event && !base.ends_with("_total") {
            assert!(events.contains(base), "{word}");
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}

#[test]
fn every_kind_of_error_has_its_word() {
    let there = variants(include_str!("../../src/error/kind.rs"));
    assert_eq!(KINDS.map(|(kind, _)| format!("{kind:?}")).to_vec(), there, "the variants of ErrorKind, in their order");
    let words: BTreeSet<_> = KINDS.iter().map(|(_, word)| word).collect();
    assert_eq!(words.len(), KINDS.len());
}

/// The counters that alerts use with `increase` exist before the first event.
#[test]
fn rare_counters_begin_at_zero() {
    let capture = Capture::start();
    let source = TokenSource::new(issuer());
    let metrics = capture.metrics();
    assert!(metrics.values().all(|metric| metric.count == 0 && metric.values.is_empty()), "{metrics:?}");
    for (name, label, words) in [
        ("tokens_rejected_total", "token", vec!["unaccepted", "accepted", "expired"]),
        ("token_requests_total", "outcome", vec!["minted", "kept", "failed", "cancelled", "discarded"]),
        ("rotations_total", "provider", vec!["staging"]),
        ("invalidations_total", "provider", vec!["staging"]),
    ] {
        let name = format!("tower_bearer_auth_{name}");
        let sets = metrics.keys().filter(|(there, _)| *there == name);
        let there: BTreeSet<_> = sets.map(|(_, labels)| labels[label].as_str()).collect();
        assert_eq!(there, words.into_iter().collect(), "{name}");
    }
    let failed = metrics.keys().filter(|(_, labels)| labels.get("outcome").is_some_and(|outcome| outcome == "failed"));
    let words: BTreeSet<_> = failed.map(|(_, labels)| labels["error"].as_str()).collect();
    assert_eq!(words, KINDS.iter().map(|(_, word)| *word).collect());
    assert_eq!(capture.lines(), [""; 0]);
    drop(source);
}
