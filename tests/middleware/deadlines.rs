//! A request waits for its tokens until its deadline at most.

mod backoff;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use parking_lot::Mutex;
use tokio::time::sleep;
use tower::util::BoxCloneService;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{
    Audit, BearerAuthLayer, BoxError, Deadline, Error, ErrorKind, NotSent, ReplayOutcome, TokenSource,
};

use crate::support::issuer::Issuer;
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};
use crate::support::time::{Stopwatch, ms, secs, settle};

type Body = Full<Bytes>;
type Client = BoxCloneService<Request<Body>, Response<Body>, BoxError>;

const API: &str = "https://api.example.com/call";

/// A server that takes `latency`, and rejects the tokens before `first.2`. It records the timeout of each request.
#[derive(Clone)]
struct Server {
    latency: Duration,
    timeouts: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    fn new(latency: Duration) -> Self {
        Self { latency, timeouts: Arc::default() }
    }

    async fn respond(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let timeout = request.headers().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        self.timeouts.lock().push(timeout);
        sleep(self.latency).await;
        Ok(if bearer(&request) == "first.1" { rejection(INVALID_TOKEN) } else { response(StatusCode::OK) })
    }

    fn timeouts(&self) -> Vec<Option<String>> {
        self.timeouts.lock().clone()
    }

    fn behind(&self, layer: &BearerAuthLayer<Issuer>) -> Client {
        let server = self.clone();
        BoxCloneService::new(layer.layer(service_fn(move |request| server.clone().respond(request))))
    }
}

fn layer(source: &TokenSource<Issuer>) -> BearerAuthLayer<Issuer> {
    source.layer().allow_origin(API.strip_suffix("/call").unwrap()).unwrap()
}

fn issuer(latency: Duration) -> (Issuer, TokenSource<Issuer>) {
    let issuer = Issuer::new();
    issuer.set_latency(latency);
    (issuer.clone(), TokenSource::new(issuer))
}

fn with_timeout(timeout: &str) -> Request<Body> {
    Request::get(API).header("grpc-timeout", timeout).body(Body::default()).unwrap()
}

fn with_deadline(time: Duration) -> Request<Body> {
    Request::get(API).extension(Deadline::after(time)).body(Body::default()).unwrap()
}

fn kind(error: &BoxError) -> ErrorKind {
    assert!(error.is::<NotSent>());
    Error::find(&**error).unwrap().kind()
}

fn some(timeouts: &[&str]) -> Vec<Option<String>> {
    timeouts.iter().map(|&timeout| Some(timeout.to_owned())).collect()
}

// R72: grpc-rust #75. The earlier of the two deadlines counts.
#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_token_no_longer_than_its_deadline() {
    let both = |header: &str, extension| {
        let mut request = with_timeout(header);
        request.extensions_mut().insert(Deadline::after(extension));
        request
    };
    let requests: [fn() -> Request<Body>; 3] =
        [|| with_timeout("200m"), || with_deadline(ms(200)), || with_timeout("200000u")];
    for request in requests {
        expect_timeout(request, ms(200)).await;
    }
    expect_timeout(|| both("200m", secs(1)), ms(200)).await;
    expect_timeout(|| both("1S", ms(200)), ms(200)).await;
    expect_timeout(|| with_timeout("0m"), Duration::ZERO).await;
}

async fn expect_timeout(request: impl Fn() -> Request<Body>, expected: Duration) {
    let (issuer, source) = issuer(secs(3));
    let server = Server::new(ms(0));
    let client = server.behind(&layer(&source));
    let watch = Stopwatch::start();
    let error = client.clone().oneshot(request()).await.unwrap_err();
    let took = watch.read();
    assert_eq!(kind(&error), ErrorKind::Timeout);
    let error = Error::find(&*error).unwrap();
    assert!(error.is_transient() && error.to_string().contains("before the deadline of the request"), "{error}");
    assert!((expected..=expected + ms(1)).contains(&took), "{took:?}");
    settle().await;
    assert_eq!((issuer.requests(), server.timeouts().len()), (1, 0));
    // The fetch continues, and a later request gets its token.
    client.oneshot(with_timeout("10S")).await.unwrap();
    assert_eq!(issuer.requests(), 2, "one for the first request, one after the rejection");
}

// R71, R72: a wait that is shorter than the deadline ends at `max_wait`.
#[tokio::test(start_paused = true)]
async fn a_late_deadline_does_not_extend_max_wait() {
    for request in [with_timeout("20S"), with_deadline(secs(20)), with_deadline(Duration::MAX)] {
        let issuer = Issuer::new();
        issuer.set_latency(secs(10));
        let source = TokenSource::builder(issuer).max_wait(secs(2)).build();
        let watch = Stopwatch::start();
        let error = Server::new(ms(0)).behind(&layer(&source)).oneshot(request).await.unwrap_err();
        assert_eq!((kind(&error), watch.read()), (ErrorKind::Timeout, secs(2)));
        let message = Error::find(&*error).unwrap().to_string();
        assert!(!message.contains("deadline"), "{message}");
    }
}

// R71: a cold start and a rejection of one request share `max_wait`.
#[tokio::test(start_paused = true)]
async fn the_waits_before_and_after_a_rejection_together_end_at_max_wait() {
    let issuer = Issuer::new();
    issuer.set_latency(secs(3));
    let source = TokenSource::builder(issuer).max_wait(secs(5)).build();
    let watch = Stopwatch::start();
    let request = Request::get(API).body(Body::default()).unwrap();
    let response = Server::new(ms(0)).behind(&layer(&source)).oneshot(request).await.unwrap();
    let outcome = Audit::of(&response).unwrap().replay;
    assert_eq!(outcome, ReplayOutcome::RefreshFailed(ErrorKind::Timeout));
    assert_eq!((response.status(), watch.read()), (StatusCode::UNAUTHORIZED, secs(5)));
}

// R72: an extreme `max_wait` must not hide the deadline.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_wait_without_a_limit() {
    let issuer = Issuer::new();
    issuer.set_latency(secs(10));
    let source = TokenSource::builder(issuer).max_wait(Duration::MAX).build();
    let watch = Stopwatch::start();
    let error = Server::new(ms(0)).behind(&layer(&source)).oneshot(with_timeout("200m")).await.unwrap_err();
    assert_eq!((kind(&error), watch.read()), (ErrorKind::Timeout, ms(200)));
}

// R72: the server must not work for a caller that has given up.
#[tokio::test(start_paused = true)]
async fn a_request_that_has_waited_says_how_much_time_is_left() {
    let (issuer, source) = issuer(ms(50));
    let server = Server::new(ms(30));
    let client = server.behind(&layer(&source));
    let response = client.oneshot(with_timeout("200m")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // 200 - 50 for the first token; then 30 for the server and 50 for the second token.
    assert_eq!(server.timeouts(), some(&["150000u", "70000000n"]));
    assert_eq!(issuer.requests(), 2);
}

// Without a wait, the header is the one of the caller, byte for byte.
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_wait_keeps_its_timeout() {
    let (issuer, source) = issuer(ms(50));
    issuer.name_tokens(|_| "good".into());
    source.warm_up().await.unwrap();
    let server = Server::new(ms(0));
    let client = server.behind(&layer(&source));
    client.clone().oneshot(with_timeout("0200m")).await.unwrap();
    client.oneshot(with_deadline(ms(200))).await.unwrap();
    assert_eq!(server.timeouts(), [Some("0200m".to_owned()), None]);
}

// R71, R72
#[tokio::test(start_paused = true)]
async fn all_waits_of_a_request_together_end_at_its_deadline() {
    for request in [|| with_timeout("200m"), || with_deadline(ms(200))] {
        let (issuer, source) = issuer(ms(150));
        let server = Server::new(ms(0));
        let watch = Stopwatch::start();
        let response = server.behind(&layer(&source)).oneshot(request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let outcome = Audit::of(&response).unwrap().replay;
        assert_eq!(outcome, ReplayOutcome::RefreshFailed(ErrorKind::Timeout));
        assert_eq!((watch.read(), issuer.requests()), (ms(200), 2));
    }
}

// R69, R72: a token that was rejected once is better than none, but not for a caller that has given up.
#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_request_gets_a_token_that_is_set_aside_and_a_grpc_call_ends() {
    let (issuer, source) = issuer(ms(50));
    let server = Server::new(ms(0));
    let client = server.behind(&layer(&source));
    source.warm_up().await.unwrap();
    issuer.set_latency(secs(30));
    assert_eq!(client.clone().oneshot(with_deadline(ms(0))).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let watch = Stopwatch::start();
    let error = client.clone().oneshot(with_timeout("200m")).await.unwrap_err();
    assert_eq!((kind(&error), watch.read(), server.timeouts().len()), (ErrorKind::Timeout, ms(200), 1));
    assert_eq!(client.oneshot(with_deadline(ms(200))).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!((watch.read(), server.timeouts().len()), (ms(400), 2));
}

// R72: nobody waits for the response to a replay that begins after the deadline.
#[tokio::test(start_paused = true)]
async fn after_its_deadline_a_rejected_request_waits_for_no_token() {
    let (issuer, source) = issuer(ms(50));
    source.warm_up().await.unwrap();
    let server = Server::new(ms(300));
    let client = server.behind(&layer(&source));
    let watch = Stopwatch::start();
    let response = client.clone().oneshot(with_deadline(ms(200))).await.unwrap();
    assert_eq!((response.status(), watch.read()), (StatusCode::UNAUTHORIZED, ms(300)));
    let outcome = Audit::of(&response).unwrap().replay;
    assert_eq!(outcome, ReplayOutcome::RefreshFailed(ErrorKind::Timeout));
    // The refresh has started for later requests.
    assert_eq!(client.oneshot(with_deadline(secs(1))).await.unwrap().status(), StatusCode::OK);
    assert_eq!((issuer.requests(), server.timeouts().len()), (2, 2));
}

// R72: another caller has fetched a new token, but the caller of this request has given up.
#[tokio::test(start_paused = true)]
async fn after_its_deadline_a_rejected_request_is_not_replayed_with_a_token_that_is_cached() {
    let (_, source) = issuer(ms(50));
    source.warm_up().await.unwrap();
    let server = Server::new(ms(300));
    let call = tokio::spawn(server.behind(&layer(&source)).oneshot(with_deadline(ms(200))));
    settle().await;
    source.invalidate();
    assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::RefreshFailed(ErrorKind::Timeout));
    assert_eq!(server.timeouts().len(), 1);
}

// R72: the rejection is read to its end for 100 ms, but not after the deadline.
#[tokio::test(start_paused = true)]
async fn a_rejection_whose_body_stalls_does_not_take_the_time_that_is_left() {
    let (_, source) = issuer(ms(50));
    source.warm_up().await.unwrap();
    let watch = Arc::new(Stopwatch::start());
    let sent_at = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&sent_at);
    let client = layer(&source).layer(service_fn(move |request: Request<Body>| {
        record.lock().push(watch.read());
        let rejected = bearer(&request) == "first.1";
        let status = if rejected { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        let stalled = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        ready(Ok::<_, BoxError>(Response::builder().status(status).body(stalled).unwrap()))
    }));
    client.oneshot(with_deadline(ms(90))).await.unwrap();
    // 50 ms for the token, and the rest for the body.
    assert_eq!(*sent_at.lock(), [ms(0), ms(90)]);
}

#[cfg(feature = "grpc")]
mod with_the_grpc_layer {
    use tower_bearer_auth::grpc;

    use super::*;

    fn behind(
        server: &Server,
        source: &TokenSource<Issuer>,
    ) -> impl tower::Service<Request<Body>, Response = Response<grpc::GrpcBody<Body, Issuer>>, Error = BoxError> + Clone
    {
        let server = server.clone();
        grpc::layer(layer(source)).layer(service_fn(move |request| server.clone().respond(request)))
    }

    // R72: the time at the server counts too, although the first send did not wait.
    #[tokio::test(start_paused = true)]
    async fn a_replay_has_the_time_that_the_first_send_has_left() {
        let (issuer, source) = issuer(ms(50));
        source.warm_up().await.unwrap();
        let server = Server::new(ms(60));
        let response = behind(&server, &source).oneshot(with_timeout("200m")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        // 200 - 60 for the server - 50 for the token.
        assert_eq!(server.timeouts(), some(&["200m", "90000000n"]));
        assert_eq!(issuer.requests(), 2);
    }

    // R72
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_token_of_a_replay_ends_at_the_deadline_of_the_call() {
        for (latency, expected) in [(ms(60), ms(200)), (ms(250), ms(250))] {
            let (issuer, source) = issuer(ms(50));
            source.warm_up().await.unwrap();
            issuer.set_latency(secs(3));
            let server = Server::new(latency);
            let watch = Stopwatch::start();
            let response = behind(&server, &source).oneshot(with_timeout("200m")).await.unwrap();
            assert_eq!((response.status(), watch.read()), (StatusCode::UNAUTHORIZED, expected));
            settle().await;
            assert_eq!((issuer.requests(), server.timeouts()), (2, some(&["200m"])));
        }
    }

    // R72: a first send that has waited has less time than the caller's header says.
    #[tokio::test(start_paused = true)]
    async fn the_waits_and_the_time_at_the_server_add_up() {
        let (_, source) = issuer(ms(50));
        let server = Server::new(ms(30));
        behind(&server, &source).oneshot(with_timeout("200m")).await.unwrap();
        assert_eq!(server.timeouts(), some(&["150000u", "70000000n"]));
    }
}
