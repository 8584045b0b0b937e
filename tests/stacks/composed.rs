//! The layer in one stack with layers of tower and tower-http.

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

/// The output of the subscriber of this process.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    /// Each test installs it before it calls a stack, because a call site caches the subscriber that it finds first.
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

/// Retries once after a 503.
#[derive(Clone)]
struct On503(bool);

impl<T> Policy<Request<Body>, Response<T>, BoxError> for On503 {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<Body>, result: &mut Result<Response<T>, BoxError>) -> Option<Ready<()>> {
        let retry = result.as_ref().is_ok_and(|response| response.status() == 503) && self.0;
        self.0 = false;
        retry.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

type Boxed = BoxCloneSyncService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// A stack that traces all headers, outside and inside of the layer.
fn stack(stage: &Stage, http: Http) -> Boxed {
    Written::of_this_process();
    let span = || DefaultMakeSpan::new().level(Level::INFO).include_headers(true);
    let traced = || {
        let on_response = DefaultOnResponse::new().level(Level::INFO).include_headers(true);
        TraceLayer::new_for_http().make_span_with(span()).on_response(on_response)
    };
    let stack = ServiceBuilder::new()
        // For the headers of the caller. The layer marks the stamped header itself.
        .layer(SetSensitiveHeadersLayer::new([AUTHORIZATION]))
        .layer(traced())
        .layer(FollowRedirectLayer::new())
        .retry(On503(true))
        .buffer(CALLS)
        .timeout(crate::support::wait::GUARD)
        .concurrency_limit(CALLS)
        .layer(stage.source.layer().bodies(Cloned))
        .layer(traced())
        .service(https::client::<Body>(&stage.sandbox, http));
    is_shared(&stack);
    BoxCloneSyncService::new(
        stack.map_response(|response| response.map(|body| body.map_err(Into::into).boxed_unsync())),
    )
}

fn put(url: &str) -> Request<Body> {
    let request = Request::put(url).header(AUTHORIZATION, "Bearer canary-of-the-caller-1");
    request.body(Full::from("the same body twice")).unwrap()
}

// R4, R19, R20, R22, R48: neither a token of the caller nor one of the layer is in the trace.
#[tokio::test]
async fn a_stack_of_all_layers_survives_expired_and_revoked_tokens_and_traces_no_token() {
    for http in [Http::One, Http::Two] {
        let stage = Stage::set().await;
        let stack = stack(&stage, http);
        is_shared(&stack);
        through_expiries_and_a_revocation(&stage, http, || {
            let call = is_sent(stack.clone().oneshot(put(&stage.echo())));
            async move {
                let response = call.await.unwrap();
                let status = response.status();
                assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
                status
            }
        })
        .await;
        let text = String::from_utf8(Written::of_this_process().0.lock().clone()).unwrap();
        // At least one line for each send, and one for the header of the caller.
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
async fn in_a_stack_of_all_layers_a_redirect_sends_no_byte_of_a_token_to_another_origin() {
    let stage = Stage::set().await;
    let stack = stack(&stage, Http::One);
    let foreign = stage.sandbox.recorder().await.unwrap();
    let location = HeaderValue::from_str(&format!("{}/elsewhere", foreign.origin())).unwrap();
    stage.sandbox.script_api(ScriptedResponse::new(StatusCode::SEE_OTHER).header(LOCATION, location));
    assert_eq!(stack.oneshot(put(&stage.echo())).await.unwrap().status(), 200);
    assert_eq!((stage.sandbox.api_request_count(), foreign.request_count()), (1, 1));
    let stamped = stage.sandbox.api_requests()[0].headers[AUTHORIZATION].to_str().unwrap().to_owned();
    for part in stamped.split(['.', ' ']).chain(["uthorization", "canary-of-the-caller"]) {
        assert!(!foreign.has_received(part.as_bytes()), "{part} arrived");
    }
    assert!(foreign.has_received(b"GET /elsewhere"), "the search finds what the server received");
}

// The retry layer is outside. Its retry has the new token, and the replay is not one of its retries.
#[tokio::test]
async fn in_a_stack_of_all_layers_a_retry_and_a_replay_do_not_interfere() {
    let stage = Stage::set().await;
    let stack = stack(&stage, Http::Two);
    stage.source.warm_up().await.unwrap();
    stage.sandbox.revoke_all();
    stage.sandbox.script_api(ScriptedResponse::new(StatusCode::SERVICE_UNAVAILABLE));
    let response = stack.oneshot(put(&stage.echo())).await.unwrap();
    assert_eq!((response.status(), response.body().is_end_stream()), (StatusCode::OK, false));
    let statuses: Vec<_> = stage.sandbox.api_requests().iter().map(|seen| seen.status.unwrap().as_u16()).collect();
    assert_eq!((statuses, stage.sandbox.token_request_count()), (vec![401, 503, 200], 2));
}
