//! Events and metrics of rejections, replays and foreign origins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::time::advance;
use tower::{Layer as _, Service as _, ServiceExt as _};
use tower_bearer_auth::{BearerAuthLayer, Error, ErrorKind, TokenSource, replay};

use crate::equal_to_stats;
use crate::support::api::Api;
use crate::support::issuer::Outcome;
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};
use crate::support::telemetry::{Capture, Captured};
use crate::users::{ANN, Issuer, User, builder, issuer};

pub(crate) type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

/// An API that rejects the tokens in its list.
#[derive(Clone, Default)]
pub(crate) struct Revoked(Arc<Mutex<Vec<String>>>);

impl Revoked {
    pub(crate) fn add(&self, token: &str) {
        self.0.lock().push(token.to_owned());
    }

    pub(crate) fn api(&self, challenge: &'static str) -> Api {
        let revoked = self.clone();
        Api::new(move |request| {
            let revoked = revoked.0.lock().iter().any(|token| token == "all" || token == bearer(request));
            if revoked { rejection(challenge) } else { response(StatusCode::OK) }
        })
    }
}

pub(crate) fn layer(source: &TokenSource<Issuer>) -> BearerAuthLayer<Issuer> {
    source.layer().allow_origin(API).unwrap()
}

pub(crate) fn request(method: &str, uri: &str) -> Request<Body> {
    Request::builder().method(method).uri(uri).extension(User("ann")).body(Full::default()).unwrap()
}

async fn get(source: &TokenSource<Issuer>, api: &Api) -> Response<Body> {
    layer(source).layer(api.clone()).oneshot(request("GET", API)).await.unwrap()
}

fn lines(events: &[Captured]) -> Vec<String> {
    events.iter().map(Captured::line).collect()
}

// R22, R51: a token that was accepted and is rejected before it expires.
#[tokio::test(start_paused = true)]
async fn a_revocation_is_one_warning_and_one_debug_event_per_request() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    assert_eq!(get(&source, &api).await.status(), 200);
    advance(Duration::from_secs(100)).await;
    revoked.add("token-1");
    let responses = join_all((0..100).map(|_| get(&source, &api))).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    assert_eq!((issuer.requests(), api.sends().len()), (2, 201));

    let rejections = capture.named("token_rejected");
    let (warnings, rest): (Vec<_>, Vec<_>) =
        rejections.into_iter().partition(|seen| seen.level == tracing::Level::WARN);
    let fields = "age_seconds=102 expires_in_seconds=1698 generation=1 key=ExtensionKey(User(\"ann\")) provider=staging \
                  refresh=in_flight rejection=invalid_token token=accepted";
    assert_eq!(lines(&warnings), [format!("WARN token_rejected {fields}")]);
    assert_eq!(lines(&rest), vec![format!("DEBUG token_rejected {fields}"); 99]);
    let replayed = "DEBUG request_replayed generation=2 key=ExtensionKey(User(\"ann\")) provider=staging";
    assert_eq!(lines(&capture.named("request_replayed")), vec![replayed; 100]);

    assert_eq!(capture.count("tokens_rejected_total", &[("provider", "staging"), ("token", "accepted")]), 1);
    assert_eq!(capture.count("tokens_rejected_total", &[]), 1);
    assert_eq!(source.stats().tokens_rejected_early, 1);
    let labels = [("provider", "staging"), ("token", "accepted"), ("refresh", "in_flight")];
    assert_eq!(capture.count("rejections_total", &labels), 100);
    assert_eq!(capture.count("replays_total", &[("provider", "staging")]), 100);
    let labels = [("provider", "staging"), ("outcome", "replayed"), ("error", "none")];
    assert_eq!(capture.count("rejected_requests_total", &labels), 100);
    equal_to_stats(&capture, &source.stats());
}

// R24: a new token that is rejected.
#[tokio::test(start_paused = true)]
async fn a_rejected_new_token_and_an_empty_budget_are_reported() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api("");
    revoked.add("all");
    for _ in 0..50 {
        assert_eq!(get(&source, &api).await.status(), 401);
    }
    assert_eq!(issuer.requests(), 2);
    // 50 responses, and one to the one replay.
    assert_eq!(api.sends().len(), 51);

    let warnings: Vec<_> = capture
        .events()
        .into_iter()
        .filter(|seen| seen.level == tracing::Level::WARN)
        .map(|seen| seen.line())
        .collect();
    let rejected = |generation, age, refresh| {
        format!(
            "WARN token_rejected age_seconds={age} expires_in_seconds=1798 generation={generation} \
             key=ExtensionKey(User(\"ann\")) provider=staging refresh={refresh} rejection=unspecified token=unaccepted"
        )
    };
    assert_eq!(warnings, [rejected(1, 2, "in_flight"), rejected(2, 2, "none")]);
    assert_eq!(capture.count("tokens_rejected_total", &[("token", "unaccepted")]), 2);
    assert_eq!(capture.count("rejections_total", &[("token", "unaccepted"), ("refresh", "budget_exhausted")]), 49);
    assert_eq!(capture.count("rejected_requests_total", &[("outcome", "rejected_again")]), 1);
    assert_eq!(capture.count("rejected_requests_total", &[("outcome", "budget_exhausted")]), 49);
    let not_replayed = capture.named("request_not_replayed");
    assert_eq!(not_replayed.len(), 50);
    let line = "DEBUG request_not_replayed generation=2 key=ExtensionKey(User(\"ann\")) provider=staging reason=";
    assert_eq!(not_replayed[0].line(), format!("{line}rejected_again"));
    assert_eq!(not_replayed[1].line(), format!("{line}budget_exhausted"));
    equal_to_stats(&capture, &source.stats());
}

#[tokio::test(start_paused = true)]
async fn each_reason_for_no_replay_is_reported() {
    for (method, when, bodies, reason) in [
        ("GET", replay::Mode::Never, true, "off"),
        ("POST", replay::Mode::Safe, true, "not_safe"),
        ("GET", replay::Mode::Safe, false, "no_copy"),
    ] {
        let capture = Capture::start();
        let (issuer, revoked) = (issuer(), Revoked::default());
        let source = builder(&issuer).build();
        revoked.add("token-1");
        let layer = layer(&source).replay(when);
        let body: Body = if bodies { Full::default() } else { Full::from("not empty") };
        let (head, _) = request(method, API).into_parts();
        let response = layer.layer(revoked.api("")).oneshot(Request::from_parts(head, body)).await.unwrap();
        assert_eq!(response.status(), 401);
        let lines: Vec<_> = capture.named("request_not_replayed").iter().map(Captured::line).collect();
        let fields = "generation=1 key=ExtensionKey(User(\"ann\")) provider=staging";
        assert_eq!(lines, [format!("DEBUG request_not_replayed {fields} reason={reason}")]);
        let labels = [("provider", "staging"), ("outcome", reason), ("error", "none")];
        assert_eq!(capture.count("rejected_requests_total", &labels), 1, "{reason}");
        assert_eq!(capture.count("replays_total", &[]), 0);
        equal_to_stats(&capture, &source.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_reported_with_its_error() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    revoked.add("token-1");
    issuer.script(Outcome::Fail(Error::permanent("wrong").with_kind(ErrorKind::InvalidCredentials)));
    assert_eq!(get(&source, &api).await.status(), 401);
    let lines: Vec<_> = capture.named("request_not_replayed").iter().map(Captured::line).collect();
    assert_eq!(
        lines,
        ["DEBUG request_not_replayed generation=1 key=ExtensionKey(User(\"ann\")) \
          kind=invalid_credentials provider=staging reason=refresh_failed"]
    );
    let labels = [("outcome", "refresh_failed"), ("error", "invalid_credentials")];
    assert_eq!(capture.count("rejected_requests_total", &labels), 1);
    // The token is stamped again, and a backoff runs: the next rejection starts no token request.
    assert_eq!(get(&source, &api).await.status(), 401);
    assert_eq!(capture.count("rejected_requests_total", &labels), 2);
    assert_eq!(issuer.requests(), 2);
    equal_to_stats(&capture, &source.stats());
}

/// Only a token that died early counts: a server had accepted it, and it had not expired at its first rejection.
// R100
#[tokio::test(start_paused = true)]
async fn a_token_counts_as_rejected_early_only_once_and_only_if_it_was_accepted_and_has_not_expired() {
    // For each rejection: whether a server accepts the token before it, and how long the token is valid after it, in s.
    let table: [(&[(bool, u64)], u64); 5] = [
        (&[(true, 1)], 1),
        (&[(true, 1799), (true, 1), (false, 0)], 1),
        (&[(false, 1799)], 0),
        (&[(true, 0)], 0),
        // Each token is counted at its first rejection alone.
        (&[(false, 1799), (true, 1)], 0),
    ];
    for (rejections, expected) in table {
        let capture = Capture::start();
        let issuer = issuer();
        issuer.set_latency(Duration::ZERO);
        let source = builder(&issuer).build();
        let token = source.token_for(&ANN).await.unwrap();
        let mut valid = 1800;
        for (accepted, left) in rejections {
            if *accepted {
                source.accept(&token);
            }
            advance(Duration::from_secs(valid - left)).await;
            valid = *left;
            source.reject(&ANN, &token);
        }
        assert_eq!(source.stats().tokens_rejected_early, expected, "{rejections:?}");
        let left: Vec<_> =
            capture.named("token_rejected").iter().map(|seen| seen.fields["expires_in_seconds"].clone()).collect();
        assert_eq!(left, rejections.iter().map(|(_, left)| left.to_string()).collect::<Vec<_>>());
        equal_to_stats(&capture, &source.stats());
    }
}

/// A rejection that arrives after the refresh, and one that arrives after the token has expired.
#[tokio::test(start_paused = true)]
async fn a_late_rejection_is_reported_as_ready_and_expired() {
    let capture = Capture::start();
    let (issuer, revoked) = (issuer(), Revoked::default());
    let source = builder(&issuer).build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    revoked.add("token-1");
    let late = layer(&source).layer(api.clone()).call(request("GET", API));
    get(&source, &api).await;
    advance(Duration::from_secs(3600)).await;
    get(&source, &api).await;
    assert_eq!(late.await.unwrap().status(), 200);
    let last = capture.named("token_rejected").last().unwrap().line();
    assert_eq!(
        last,
        "DEBUG token_rejected age_seconds=3606 expires_in_seconds=0 generation=1 \
         key=ExtensionKey(User(\"ann\")) provider=staging refresh=ready rejection=invalid_token token=expired"
    );
    assert_eq!(capture.count("rejections_total", &[("token", "expired"), ("refresh", "ready")]), 1);
    equal_to_stats(&capture, &source.stats());
}

// R25: reported without the rest of the foreign URL.
#[tokio::test(start_paused = true)]
async fn a_request_to_a_foreign_origin_is_reported_with_its_host_alone() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    let api = Api::new(|_| response(StatusCode::OK));
    let uri = "https://user:cZ7kQ9vX@elsewhere.test:8443/cZ7kQ9vX?key=cZ7kQ9vX";
    let client = layer(&source).audit_all().layer(api.clone());
    client.oneshot(request("GET", uri)).await.unwrap();
    assert!(api.sends()[0].headers().get("authorization").is_none());
    assert_eq!(
        capture.lines(),
        ["DEBUG request_not_stamped host=elsewhere.test provider=staging reason=foreign_origin"]
    );
    assert_eq!(capture.count("not_stamped_total", &[("provider", "staging")]), 1);
    assert!(!capture.text().contains("cZ7kQ9vX"), "{}", capture.text());
    equal_to_stats(&capture, &source.stats());
    assert_eq!(issuer.requests(), 0);
}

/// A request that is not rejected causes no event, audited or not.
#[tokio::test(start_paused = true)]
async fn a_stamped_request_causes_no_event() {
    let capture = Capture::start();
    let source = builder(&issuer()).build();
    let api = Api::new(|_| response(StatusCode::OK));
    let client = layer(&source).audit_all().layer(api.clone());
    client.clone().oneshot(request("GET", API)).await.unwrap();
    let before = capture.text();
    for _ in 0..100 {
        client.clone().oneshot(request("GET", API)).await.unwrap();
    }
    assert_eq!(capture.text(), before);
    assert_eq!((api.sends().len(), source.stats().hits), (101, 100));
}

// R76: the event names the host that makes the request foreign, and nothing else that the caller sent.
#[tokio::test(start_paused = true)]
async fn a_host_header_that_makes_a_request_foreign_is_reported_with_its_host_alone() {
    let capture = Capture::start();
    let issuer = issuer();
    let source = builder(&issuer).build();
    let api = Api::new(|_| response(StatusCode::OK));
    for (uri, hosts, expected) in [
        (API, &["elsewhere.test:8443"][..], "elsewhere.test"),
        (API, &["api.example.com:8443"], "api.example.com"),
        (API, &["cZ7kQ9vX@elsewhere.test"], ""),
        ("/x", &["api.example.com", "elsewhere.test"], "elsewhere.test"),
        ("//cZ7kQ9vX/x", &[], ""),
    ] {
        let before = capture.lines().len();
        let mut request = request("GET", uri);
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        layer(&source).layer(api.clone()).oneshot(request).await.unwrap();
        assert!(!api.sends().last().unwrap().headers().contains_key("authorization"));
        let line = format!("DEBUG request_not_stamped host={expected} provider=staging reason=foreign_origin");
        assert_eq!(capture.lines()[before..], [line], "{uri} {hosts:?}");
    }
    assert!(!capture.text().contains("cZ7kQ9vX"), "{}", capture.text());
    equal_to_stats(&capture, &source.stats());
}
