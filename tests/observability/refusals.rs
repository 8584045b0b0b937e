//! Rejections, second sendings and foreign origins, seen from outside.

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

use crate::api::{Api, INVALID_TOKEN, answer, bearer, refused};
use crate::equal_to_stats;
use crate::observed::{Seen, Watch};
use crate::users::{Issuer, User};

pub(crate) type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

/// An API that refuses the tokens that stand in its list.
#[derive(Clone, Default)]
pub(crate) struct Revoked(Arc<Mutex<Vec<String>>>);

impl Revoked {
    pub(crate) fn add(&self, token: &str) {
        self.0.lock().push(token.to_owned());
    }

    pub(crate) fn api(&self, challenge: &'static str) -> Api {
        let revoked = self.clone();
        Api::new(move |request| {
            let gone = revoked.0.lock().iter().any(|token| token == "all" || token == bearer(request));
            if gone { refused(challenge) } else { answer(StatusCode::OK) }
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

fn lines(events: &[Seen]) -> Vec<String> {
    events.iter().map(Seen::line).collect()
}

// R22, R51: a token that was accepted and is refused before its end.
#[tokio::test(start_paused = true)]
async fn a_healed_revocation_is_one_warning_and_a_line_per_request() {
    let watch = Watch::start();
    let (issuer, revoked) = (Issuer::default(), Revoked::default());
    let source = issuer.builder().build();
    let api = revoked.api(INVALID_TOKEN);
    assert_eq!(get(&source, &api).await.status(), 200);
    advance(Duration::from_secs(100)).await;
    revoked.add("token-1");
    let answers = join_all((0..100).map(|_| get(&source, &api))).await;
    assert!(answers.iter().all(|response| response.status() == 200));
    assert_eq!((issuer.asked(), api.sends().len()), (2, 201));

    let refusals = watch.named("token_refused");
    let (warnings, rest): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|seen| seen.level == tracing::Level::WARN);
    let fields = "age_seconds=102 environment=staging generation=1 key=FromExtension(User(\"ann\")) \
                  refusal=explicit renewal=under_way token=accepted";
    assert_eq!(lines(&warnings), [format!("WARN token_refused {fields}")]);
    assert_eq!(lines(&rest), vec![format!("DEBUG token_refused {fields}"); 99]);
    let healed = "DEBUG request_healed environment=staging generation=2 key=FromExtension(User(\"ann\"))";
    assert_eq!(lines(&watch.named("request_healed")), vec![healed; 100]);

    assert_eq!(watch.count("tokens_refused_total", &[("environment", "staging"), ("token", "accepted")]), 1);
    assert_eq!(watch.count("tokens_refused_total", &[]), 1);
    let labels = [("environment", "staging"), ("token", "accepted"), ("renewal", "under_way")];
    assert_eq!(watch.count("refusals_total", &labels), 100);
    assert_eq!(watch.count("replays_total", &[("environment", "staging")]), 100);
    let labels = [("environment", "staging"), ("outcome", "healed"), ("error", "none")];
    assert_eq!(watch.count("refused_requests_total", &labels), 100);
    equal_to_stats(&watch, &source.stats());
}

// R24: a token that was only just minted, and is refused.
#[tokio::test(start_paused = true)]
async fn a_new_token_that_is_refused_is_told_as_such_and_the_end_of_the_budget_too() {
    let watch = Watch::start();
    let (issuer, revoked) = (Issuer::default(), Revoked::default());
    let source = issuer.builder().build();
    let api = revoked.api("");
    revoked.add("all");
    for _ in 0..50 {
        assert_eq!(get(&source, &api).await.status(), 401);
    }
    assert_eq!(issuer.asked(), 2);
    // 50 answers, and one to the one second sending.
    assert_eq!(api.sends().len(), 51);

    let warnings: Vec<_> =
        watch.events().into_iter().filter(|seen| seen.level == tracing::Level::WARN).map(|seen| seen.line()).collect();
    let refused = |generation, age, renewal| {
        format!(
            "WARN token_refused age_seconds={age} environment=staging generation={generation} \
             key=FromExtension(User(\"ann\")) refusal=bare renewal={renewal} token=unaccepted"
        )
    };
    assert_eq!(warnings, [refused(1, 2, "under_way"), refused(2, 2, "none")]);
    assert_eq!(watch.count("tokens_refused_total", &[("token", "unaccepted")]), 2);
    assert_eq!(watch.count("refusals_total", &[("token", "unaccepted"), ("renewal", "declined")]), 49);
    assert_eq!(watch.count("refused_requests_total", &[("outcome", "refused_again")]), 1);
    assert_eq!(watch.count("refused_requests_total", &[("outcome", "budget_exhausted")]), 49);
    let not_healed = watch.named("request_not_healed");
    assert_eq!(not_healed.len(), 50);
    let line = "DEBUG request_not_healed environment=staging generation=2 key=FromExtension(User(\"ann\")) reason=";
    assert_eq!(not_healed[0].line(), format!("{line}refused_again"));
    assert_eq!(not_healed[1].line(), format!("{line}budget_exhausted"));
    equal_to_stats(&watch, &source.stats());
}

#[tokio::test(start_paused = true)]
async fn each_reason_for_not_sending_again_is_told() {
    for (method, when, bodies, reason) in [
        ("GET", replay::Mode::Never, true, "off"),
        ("POST", replay::Mode::Safe, true, "not_safe"),
        ("GET", replay::Mode::Safe, false, "no_copy"),
    ] {
        let watch = Watch::start();
        let (issuer, revoked) = (Issuer::default(), Revoked::default());
        let source = issuer.builder().build();
        revoked.add("token-1");
        let layer = layer(&source).replay(when);
        let body: Body = if bodies { Full::default() } else { Full::from("not empty") };
        let (head, _) = request(method, API).into_parts();
        let response = layer.layer(revoked.api("")).oneshot(Request::from_parts(head, body)).await.unwrap();
        assert_eq!(response.status(), 401);
        let lines: Vec<_> = watch.named("request_not_healed").iter().map(Seen::line).collect();
        let fields = "environment=staging generation=1 key=FromExtension(User(\"ann\"))";
        assert_eq!(lines, [format!("DEBUG request_not_healed {fields} reason={reason}")]);
        let labels = [("environment", "staging"), ("outcome", reason), ("error", "none")];
        assert_eq!(watch.count("refused_requests_total", &labels), 1, "{reason}");
        assert_eq!(watch.count("replays_total", &[]), 0);
        equal_to_stats(&watch, &source.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_says_with_what() {
    let watch = Watch::start();
    let (issuer, revoked) = (Issuer::default(), Revoked::default());
    let source = issuer.builder().build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    revoked.add("token-1");
    issuer.next(|| Err(Error::permanent("wrong").with_kind(ErrorKind::InvalidCredentials)));
    assert_eq!(get(&source, &api).await.status(), 401);
    let lines: Vec<_> = watch.named("request_not_healed").iter().map(Seen::line).collect();
    assert_eq!(
        lines,
        ["DEBUG request_not_healed environment=staging generation=1 key=FromExtension(User(\"ann\")) \
          kind=invalid_credentials reason=renewal_failed"]
    );
    let labels = [("outcome", "renewal_failed"), ("error", "invalid_credentials")];
    assert_eq!(watch.count("refused_requests_total", &labels), 1);
    // The token is gone, and the issuer is left alone: the next one is turned away, and says nothing.
    let before = watch.lines();
    layer(&source).layer(api).oneshot(request("GET", API)).await.unwrap_err();
    assert_eq!(watch.lines(), before);
    assert_eq!(watch.count("turned_away_total", &[("error", "invalid_credentials")]), 1);
    equal_to_stats(&watch, &source.stats());
}

/// A request that was out when the token was renewed, and one that came back after the token's end.
#[tokio::test(start_paused = true)]
async fn a_late_refusal_says_that_there_is_a_newer_token_or_that_the_token_had_ended() {
    let watch = Watch::start();
    let (issuer, revoked) = (Issuer::default(), Revoked::default());
    let source = issuer.builder().build();
    let api = revoked.api(INVALID_TOKEN);
    get(&source, &api).await;
    revoked.add("token-1");
    let late = layer(&source).layer(api.clone()).call(request("GET", API));
    get(&source, &api).await;
    advance(Duration::from_secs(3600)).await;
    get(&source, &api).await;
    assert_eq!(late.await.unwrap().status(), 200);
    let last = watch.named("token_refused").last().unwrap().line();
    assert_eq!(
        last,
        "DEBUG token_refused age_seconds=3606 environment=staging generation=1 \
         key=FromExtension(User(\"ann\")) refusal=explicit renewal=ready token=expired"
    );
    assert_eq!(watch.count("refusals_total", &[("token", "expired"), ("renewal", "ready")]), 1);
    equal_to_stats(&watch, &source.stats());
}

// R25: told, and without what a foreign URL may have in it.
#[tokio::test(start_paused = true)]
async fn a_request_to_a_foreign_origin_is_told_with_its_host_alone() {
    let watch = Watch::start();
    let issuer = Issuer::default();
    let source = issuer.builder().build();
    let api = Api::new(|_| answer(StatusCode::OK));
    let uri = "https://user:cZ7kQ9vX@elsewhere.test:8443/cZ7kQ9vX?key=cZ7kQ9vX";
    let client = layer(&source).audit_all().layer(api.clone());
    client.oneshot(request("GET", uri)).await.unwrap();
    assert!(api.sends()[0].headers().get("authorization").is_none());
    assert_eq!(
        watch.lines(),
        ["DEBUG request_not_stamped environment=staging host=elsewhere.test reason=foreign_origin"]
    );
    assert_eq!(watch.count("not_stamped_total", &[("environment", "staging")]), 1);
    assert!(!watch.text().contains("cZ7kQ9vX"), "{}", watch.text());
    equal_to_stats(&watch, &source.stats());
    assert_eq!(issuer.asked(), 0);
}

/// What is not refused is not told, audited or not.
#[tokio::test(start_paused = true)]
async fn a_stamped_request_leaves_no_trace() {
    let watch = Watch::start();
    let source = Issuer::default().builder().build();
    let api = Api::new(|_| answer(StatusCode::OK));
    let client = layer(&source).audit_all().layer(api.clone());
    client.clone().oneshot(request("GET", API)).await.unwrap();
    let before = watch.text();
    for _ in 0..100 {
        client.clone().oneshot(request("GET", API)).await.unwrap();
    }
    assert_eq!(watch.text(), before);
    assert_eq!((api.sends().len(), source.stats().hits), (101, 100));
}
