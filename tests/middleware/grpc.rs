//! gRPC statuses in trailers, with a response body that a test drives by hand.

mod body;
mod hold_head;
mod late;
mod script;

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use tokio_test::task;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_bearer_auth::grpc::{self, GrpcBody};
use tower_bearer_auth::replay::{Cloned, Mode};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, ReplayOutcome, TokenSource};

use crate::support::issuer::Issuer;
use crate::support::responses::bearer;
use crate::support::time::{Stopwatch, ms, secs, settle};

use self::script::Step::{self, Data, Fail, Pending, Status, Wait};
use self::script::{EMPTY_MESSAGE, Script};

type Call = Request<Full<Bytes>>;

const API: &str = "https://api.example.com";

fn call() -> Call {
    let request = Request::post(format!("{API}/test.Service/Method")).header("content-type", "application/grpc");
    request.body(Full::from("request")).unwrap()
}

/// A server that answers the token `first.1` with a scripted body, and every other one with a message and status 0.
#[derive(Clone)]
struct Server {
    content_type: &'static str,
    rejecting: Arc<Vec<Step>>,
    tokens: Arc<Mutex<Vec<String>>>,
    /// The bodies of the rejections.
    bodies: Arc<Mutex<Vec<script::Probe>>>,
}

impl Server {
    fn new(rejecting: impl Into<Vec<Step>>) -> Self {
        let rejecting = Arc::new(rejecting.into());
        Self { content_type: "application/grpc", rejecting, tokens: Arc::default(), bodies: Arc::default() }
    }

    async fn respond(self, request: Call) -> Result<Response<Script>, BoxError> {
        let token = bearer(&request).to_owned();
        let body = if token == "first.1" {
            Script::new(self.rejecting.iter().cloned())
        } else {
            Script::new([Data(b"\0\0\0\0\x02ok"), Status("0")])
        };
        self.tokens.lock().push(token);
        self.bodies.lock().push(body.probe());
        Ok(Response::builder().header("content-type", self.content_type).body(body).unwrap())
    }

    fn tokens(&self) -> Vec<String> {
        self.tokens.lock().clone()
    }

    /// How often the body of the first response was polled, and whether it was dropped.
    fn first_body(&self) -> (usize, bool) {
        self.bodies.lock()[0].read()
    }
}

/// A client with a token in its cache.
async fn client(
    server: &Server,
    change: impl FnOnce(grpc::GrpcLayer<Issuer, Cloned>) -> grpc::GrpcLayer<Issuer, Cloned>,
) -> (
    impl Service<Call, Response = Response<GrpcBody<Script, Issuer>>, Error = BoxError> + Clone,
    Issuer,
    TokenSource<Issuer>,
) {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    source.warm_up().await.unwrap();
    let layer = source.layer().allow_origin(API).unwrap().bodies(Cloned);
    let server = server.clone();
    let client = change(grpc::layer(layer)).layer(service_fn(move |request| server.clone().respond(request)));
    (client, issuer, source)
}

fn unchanged(layer: grpc::GrpcLayer<Issuer, Cloned>) -> grpc::GrpcLayer<Issuer, Cloned> {
    layer
}

/// The data and the status of a body.
async fn read(response: Response<GrpcBody<Script, Issuer>>) -> (Vec<u8>, Option<String>) {
    let collected = response.into_body().collect().await.unwrap();
    let status = collected.trailers().map(|trailers| trailers["grpc-status"].to_str().unwrap().to_owned());
    (collected.to_bytes().to_vec(), status)
}

const BOTH: [&str; 2] = ["first.1", "first.2"];

// R73: grpcio's `set_code`, hyper's and grpc-js's trailers. The token is dead, and nothing was applied.
#[tokio::test(start_paused = true)]
async fn a_call_with_status_16_in_trailers_that_are_there_with_the_head_is_replayed() {
    let cases: [&[Step]; 4] = [
        &[Status("16")],
        &[Data(EMPTY_MESSAGE), Status("16")],
        &[Data(b""), Status("16")],
        &[Data(EMPTY_MESSAGE), Status("16"), Fail],
    ];
    for steps in cases {
        let server = Server::new(steps);
        let (client, issuer, source) = client(&server, unchanged).await;
        let response = client.oneshot(call()).await.unwrap();
        let audit = Audit::of(&response).unwrap();
        assert_eq!((audit.sends, audit.replay), (2, ReplayOutcome::Replayed), "{steps:?}");
        assert_eq!(read(response).await, (b"\0\0\0\0\x02ok".to_vec(), Some("0".to_owned())));
        assert_eq!((server.tokens(), issuer.requests()), (BOTH.map(str::to_owned).into(), 2));
        let stats = source.stats();
        // The head of the rejection, a 200, must not count as an acceptance.
        assert_eq!((stats.rejections, stats.replays, stats.rejections_of_unaccepted), (1, 1, 1));
    }
}

// R73: what a message or a later status says is too late for a replay.
#[tokio::test(start_paused = true)]
async fn in_every_other_case_the_caller_gets_the_status_and_the_next_call_a_new_token() {
    let message = b"\0\0\0\0\x01m";
    let cases: [(&[Step], &[u8], u64); 7] = [
        (&[Data(message), Status("16")], message, 0),
        (&[Data(message), Pending, Status("16")], message, 0),
        (&[Pending, Status("16")], b"", 1),
        (&[Pending, Data(EMPTY_MESSAGE), Status("16")], EMPTY_MESSAGE, 1),
        (&[Data(EMPTY_MESSAGE), Pending, Status("16")], EMPTY_MESSAGE, 1),
        (&[Data(EMPTY_MESSAGE), Data(EMPTY_MESSAGE), Status("16")], b"\0\0\0\0\0\0\0\0\0\0", 1),
        // A compressed message of length 0 is a message.
        (&[Data(b"\x01\0\0\0\0"), Status("16")], b"\x01\0\0\0\0", 0),
    ];
    for (steps, data, unaccepted) in cases {
        let server = Server::new(steps);
        let (client, issuer, source) = client(&server, unchanged).await;
        let response = client.clone().oneshot(call()).await.unwrap();
        assert!(Audit::of(&response).is_none(), "{steps:?}");
        assert_eq!(read(response).await, (data.to_vec(), Some("16".to_owned())), "{steps:?}");
        assert_eq!(server.tokens(), ["first.1"]);
        let next = client.oneshot(call()).await.unwrap();
        assert_eq!(read(next).await.1.as_deref(), Some("0"));
        assert_eq!((server.tokens(), issuer.requests()), (BOTH.map(str::to_owned).into(), 2), "{steps:?}");
        let stats = source.stats();
        assert_eq!((stats.rejections, stats.replays, stats.rejections_of_unaccepted), (1, 0, unaccepted), "{steps:?}");
    }
}

// R73: another status is not about the token.
#[tokio::test(start_paused = true)]
async fn no_other_status_and_no_error_rejects_the_token() {
    let cases: [&[Step]; 8] = [
        &[Status("0")],
        &[Status("7")],
        &[Status("160")],
        &[Status("016")],
        &[Data(EMPTY_MESSAGE), Status("5")],
        &[Pending, Status("14")],
        &[Fail],
        &[],
    ];
    for steps in cases {
        let server = Server::new(steps);
        let (client, issuer, source) = client(&server, unchanged).await;
        for _ in 0..2 {
            let response = client.clone().oneshot(call()).await.unwrap();
            let _ = response.into_body().collect().await;
        }
        assert_eq!(server.tokens(), ["first.1"; 2], "{steps:?}");
        assert_eq!((issuer.requests(), source.stats().rejections), (1, 0));
    }
}

// R73: the head says nothing about the token. The first message or a status of 0 shows that it was accepted.
#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_marks_its_token_as_accepted() {
    let message = b"\0\0\0\0\x01m";
    let cases: [(&[Step], u64); 7] = [
        (&[Status("0")], 0),
        (&[Pending, Status("0")], 0),
        (&[Data(EMPTY_MESSAGE), Pending, Status("0")], 0),
        (&[Pending, Data(message), Status("14")], 0),
        (&[Status("14")], 1),
        (&[Pending, Status("14")], 1),
        (&[Pending, Fail], 1),
    ];
    for (steps, unaccepted) in cases {
        let first = steps.to_vec();
        let source = TokenSource::new(Issuer::new());
        let layer = source.layer().allow_origin(API).unwrap().replay(Mode::Never).bodies(Cloned);
        let sends = Arc::new(Mutex::new(0));
        let client = grpc::layer(layer).layer(service_fn(move |_: Call| {
            let mut sends = sends.lock();
            *sends += 1;
            let steps = if *sends == 1 { first.clone() } else { vec![Status("16")] };
            let response = Response::builder().header("content-type", "application/grpc");
            std::future::ready(Ok::<_, BoxError>(response.body(Script::new(steps)).unwrap()))
        }));
        for _ in 0..2 {
            let _ = client.clone().oneshot(call()).await.unwrap().into_body().collect().await;
        }
        let stats = source.stats();
        assert_eq!((stats.rejections, stats.rejections_of_unaccepted), (1, unaccepted), "{steps:?}");
    }
}

// R73: only gRPC is watched. A body of another type is not polled before its caller polls it.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_grpc_is_passed_on() {
    for (content_type, polled) in [
        ("application/json", 0),
        ("text/plain", 0),
        ("", 0),
        ("application/grpc", 1),
        ("application/grpc+proto", 1),
        ("Application/GRPC;charset=utf-8", 1),
    ] {
        let server = Server { content_type, ..Server::new([Pending, Status("16")]) };
        let (client, issuer, _source) = client(&server, unchanged).await;
        let response = client.oneshot(call()).await.unwrap();
        assert_eq!(server.first_body().0, polled, "{content_type}");
        read(response).await;
        settle().await;
        assert_eq!(issuer.requests(), 1 + polled, "{content_type}");
    }
}

// R16, R73: status 16 in each response, whatever the token.
#[tokio::test(start_paused = true)]
async fn a_replay_that_is_rejected_in_trailers_too_is_not_replayed() {
    for late in [false, true] {
        let steps: &[Step] = if late { &[Pending, Status("16")] } else { &[Status("16")] };
        let issuer = Issuer::new();
        let layer = BearerAuthLayer::new(issuer.clone()).allow_origin(API).unwrap().bodies(Cloned);
        let source = layer.source().clone();
        let sends = Arc::new(Mutex::new(0));
        let client = grpc::layer(layer).layer(service_fn(move |_: Call| {
            let mut sends = sends.lock();
            *sends += 1;
            let now: &[Step] = if *sends == 1 { &[Status("16")] } else { steps };
            let body = Script::new(now.iter().cloned());
            std::future::ready(Ok::<_, BoxError>(
                Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
            ))
        }));
        let response = client.oneshot(call()).await.unwrap();
        let outcome = Audit::of(&response).unwrap().replay;
        assert_eq!(outcome, if late { ReplayOutcome::Replayed } else { ReplayOutcome::RejectedAgain });
        assert_eq!(read(response).await.1.as_deref(), Some("16"));
        settle().await;
        let stats = source.stats();
        assert_eq!((issuer.requests(), stats.rejections, stats.replays), (2, 2, 1), "late: {late}");
    }
}

// A caller reaches the channel below, for example to read a setting of it. The source comes from the layer.
#[tokio::test(start_paused = true)]
async fn the_inner_service_and_the_source_can_be_reached() {
    let source = TokenSource::new(Issuer::new());
    let mut service = grpc::layer(source.layer().allow_origin(API).unwrap()).layer(String::from("channel"));
    assert_eq!(service.get_ref(), "channel");
    service.get_mut().push_str(" 2");
    assert_eq!(service.clone().into_inner(), "channel 2");
    source.warm_up().await.unwrap();

    let server = Server::new([Status("16")]);
    let inner = server.clone();
    let layer = grpc::layer(source.layer().allow_origin(API).unwrap().bodies(Cloned));
    let client = layer.layer(service_fn(move |request| inner.clone().respond(request)));
    client.oneshot(call()).await.unwrap();
    assert_eq!((server.tokens(), source.stats().replays), (BOTH.map(str::to_owned).into(), 1));
}
