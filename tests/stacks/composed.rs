//! As one layer among those of tower and tower-http, in one stack.

use std::future::{Ready, ready};
use std::io;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tower::retry::Policy;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_bearer_auth::BoxError;
use tower_bearer_auth::replay::Cloned;
use tower_bearer_auth_sandbox::ScriptedResponse;
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::sensitive_headers::SetSensitiveHeadersLayer;
use tower_http::trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

type Body = Full<Bytes>;

/// What the subscriber of this process wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Installed before any stack here is called: what a call site finds the first time, it remembers.
    fn of_this_process() -> &'static Self {
        static WRITTEN: OnceLock<Written> = OnceLock::new();
        WRITTEN.get_or_init(|| {
            let written = Self::default();
            let subscriber = tracing_subscriber::fmt().with_writer(written.clone()).with_max_level(Level::INFO);
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            written
        })
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Sends again what was answered with 503, once.
#[derive(Clone)]
struct On503(bool);

impl<T> Policy<Request<Body>, Response<T>, BoxError> for On503 {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<Body>, answer: &mut Result<Response<T>, BoxError>) -> Option<Ready<()>> {
        let again = answer.as_ref().is_ok_and(|answer| answer.status() == 503) && self.0;
        self.0 = false;
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

type Boxed = BoxCloneSyncService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// Traces with all headers, above the layer and below it, where they are stamped.
fn stack(stage: &Stage, http: Http) -> Boxed {
    Written::of_this_process();
    let span = || DefaultMakeSpan::new().level(Level::INFO).include_headers(true);
    let traced = || {
        let on_response = DefaultOnResponse::new().level(Level::INFO).include_headers(true);
        TraceLayer::new_for_http().make_span_with(span()).on_response(on_response)
    };
    let stack = ServiceBuilder::new()
        // For what the caller sends. What is stamped below is marked already.
        .layer(SetSensitiveHeadersLayer::new([AUTHORIZATION]))
        .layer(traced())
        .layer(FollowRedirectLayer::new())
        .retry(On503(true))
        .buffer(CALLS)
        .timeout(within::GUARD)
        .concurrency_limit(CALLS)
        .layer(stage.source.layer().bodies(Cloned))
        .layer(traced())
        .service(https::client::<Body>(&stage.sandbox, http));
    is_shared(&stack);
    BoxCloneSyncService::new(stack.map_response(|answer| answer.map(|body| body.map_err(Into::into).boxed_unsync())))
}

fn put(url: &str) -> Request<Body> {
    let request = Request::put(url).header(AUTHORIZATION, "Bearer canary-of-the-caller-1");
    request.body(Full::from("the same body twice")).unwrap()
}

// R4, R19, R20, R22, R48: what tower-http traces with all headers shows no token, neither the caller's nor ours.
#[tokio::test]
async fn a_stack_of_everything_goes_through_expiries_and_a_revocation_and_traces_no_token() {
    for http in [Http::One, Http::Two] {
        let stage = Stage::set().await;
        let stack = stack(&stage, http);
        is_shared(&stack);
        through_expiries_and_a_revocation(&stage, http, || {
            let answer = is_sent(stack.clone().oneshot(put(&stage.echo())));
            async move {
                let answer = answer.await.unwrap();
                let status = answer.status();
                assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
                status
            }
        })
        .await;
        let text = String::from_utf8(Written::of_this_process().0.lock().clone()).unwrap();
        // At least one for each sending, on top of what the caller sent.
        let port = stage.sandbox.api_origin().rsplit(':').next().unwrap().to_owned();
        let lines = text.lines().filter(|line| line.contains(&format!(":{port}/echo")));
        let marked = lines.filter(|line| line.contains(r#""authorization": Sensitive"#)).count();
        assert!(marked > stage.sandbox.api_request_count(), "{marked} lines");
        assert!(!text.contains("canary-of-the-caller"));
        for request in stage.sandbox.api_requests() {
            let stamped = request.headers[AUTHORIZATION].to_str().unwrap();
            for part in stamped.trim_start_matches("Bearer ").split('.') {
                assert!(!text.contains(part), "a part of a token was traced");
            }
        }
    }
}

// R25, R28
#[tokio::test]
async fn in_a_stack_of_everything_a_redirect_to_another_origin_takes_no_byte_of_a_token_along() {
    let stage = Stage::set().await;
    let stack = stack(&stage, Http::One);
    let foreign = stage.sandbox.recorder().await.unwrap();
    let location = HeaderValue::from_str(&format!("{}/elsewhere", foreign.origin())).unwrap();
    stage.sandbox.script_api(ScriptedResponse::new(StatusCode::SEE_OTHER).header(LOCATION, location));
    assert_eq!(stack.oneshot(put(&stage.echo())).await.unwrap().status(), 200);
    assert_eq!((stage.sandbox.api_request_count(), foreign.request_count()), (1, 1));
    let stamped = stage.sandbox.api_requests()[0].headers[AUTHORIZATION].to_str().unwrap().to_owned();
    for part in stamped.split(['.', ' ']).chain(["uthorization", "canary-of-the-caller"]) {
        assert!(!foreign.has_seen(part.as_bytes()), "{part} arrived");
    }
    assert!(foreign.has_seen(b"GET /elsewhere"), "the search finds what is there");
}

// A retry above the layer tries again under the token that was there, and a heal is not one of its tries.
#[tokio::test]
async fn in_a_stack_of_everything_a_retry_and_a_heal_keep_to_themselves() {
    let stage = Stage::set().await;
    let stack = stack(&stage, Http::Two);
    stage.source.warm_up().await.unwrap();
    stage.sandbox.revoke_all();
    stage.sandbox.script_api(ScriptedResponse::new(StatusCode::SERVICE_UNAVAILABLE));
    let answer = stack.oneshot(put(&stage.echo())).await.unwrap();
    assert_eq!((answer.status(), answer.body().is_end_stream()), (StatusCode::OK, false));
    let statuses: Vec<_> = stage.sandbox.api_requests().iter().map(|seen| seen.status.unwrap().as_u16()).collect();
    assert_eq!((statuses, stage.sandbox.token_request_count()), (vec![401, 503, 200], 2));
}
