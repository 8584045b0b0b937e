//! A rejection that arrives while the request's body is still being sent.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use futures::SinkExt as _;
use futures::channel::mpsc;
use http_body::{Body as _, Frame};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{IssuedToken, from_fn};

use super::*;

type Stream = UnsyncBoxBody<Bytes, BoxError>;
type Sender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

fn buffered() -> Buffered<fn(ReplayBody<Stream>) -> Stream> {
    Buffered::new(64 * 1024, |body| body.boxed_unsync())
}

fn channel() -> (Sender, Stream) {
    let (sender, receiver) = mpsc::channel(0);
    (sender, StreamBody::new(receiver).boxed_unsync())
}

async fn send(sender: &mut Sender, bytes: &'static str) {
    sender.send(Ok(Frame::data(Bytes::from(bytes)))).await.unwrap();
}

/// What the server received: how the first body ended, and the complete other bodies.
struct Bodies {
    first: Mutex<Option<oneshot::Sender<Result<Bytes, String>>>>,
    complete: Mutex<Vec<Bytes>>,
}

/// Rejects the first request after a part of its body, and continues to read that body.
async fn server(version: Http) -> (String, Arc<Bodies>, oneshot::Receiver<Result<Bytes, String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, first) = oneshot::channel();
    let bodies = Arc::new(Bodies { first: Mutex::new(Some(sender)), complete: Mutex::default() });
    let seen = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request| respond(request, Arc::clone(&seen)));
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let builder = if version == Http::One { builder.http1_only() } else { builder.http2_only() };
                // The client resets the connection, and the test expects that.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (origin, bodies, first)
}

async fn respond(request: Request<Incoming>, bodies: Arc<Bodies>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    let first = bodies.first.lock().take();
    let Some(first) = first else {
        let bytes = body.collect().await.unwrap().to_bytes();
        bodies.complete.lock().push(bytes);
        return Ok(Response::new(Full::default()));
    };
    let start = body.frame().await.unwrap().unwrap().into_data().unwrap();
    tokio::spawn(async move {
        let mut seen = start.to_vec();
        let end = loop {
            match body.frame().await {
                Some(Ok(frame)) => seen.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(error)) => break Err(error.to_string()),
                None => break Ok(Bytes::from(seen)),
            }
        };
        let _ = first.send(end);
    });
    let rejection = Response::builder().status(401).header("www-authenticate", "Bearer error=\"invalid_token\"");
    Ok(rejection.body(Full::from("the body of the rejection")).unwrap())
}

// R19: the server never takes the truncated first body for a complete one, with or without a content-length.
#[tokio::test]
async fn an_early_rejection_resets_the_first_send_and_the_replay_is_complete() {
    let _files = super::FILES.read().await;
    for version in [Http::One, Http::Two] {
        for content_length in [false, true] {
            let sandbox = AccessPspSandbox::start().await.unwrap();
            let (origin, bodies, first) = server(version).await;
            let minted = Arc::new(parking_lot::Mutex::new(0));
            let provider = from_fn(move || {
                *minted.lock() += 1;
                std::future::ready(IssuedToken::bearer(format!("token-{}", minted.lock())))
            });
            let layer = BearerAuthLayer::new(provider).allow_origin(&origin).unwrap().bodies(buffered());
            let client = layer.layer(client::<Stream>(&sandbox, version));
            let (mut sender, body) = channel();
            assert!(!body.is_end_stream());
            let mut request = Request::post(format!("{origin}/pay"));
            if content_length {
                request = request.header("content-length", "16");
            }
            let call = tokio::spawn(client.oneshot(request.body(body).unwrap()));
            send(&mut sender, "pay ").await;
            let end = first.await.unwrap();
            assert!(end.is_err(), "{version:?}, content-length: {content_length}: {end:?}");
            send(&mut sender, "100 to ").await;
            send(&mut sender, "alice").await;
            drop(sender);
            let response = call.await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::Replayed);
            assert_eq!(*bodies.complete.lock(), ["pay 100 to alice"]);
        }
    }
}

// R19: the sandbox rejects a request as soon as it has the head. Nothing is applied twice.
#[tokio::test]
async fn a_rejection_before_the_body_is_read_is_replayed() {
    let _files = super::FILES.read().await;
    for version in [Http::One, Http::Two] {
        let sandbox = AccessPspSandbox::start().await.unwrap();
        let layer = BearerAuthLayer::new(provider(&sandbox).build().unwrap()).bodies(buffered());
        layer.source().warm_up().await.unwrap();
        sandbox.revoke_all();
        sandbox.reject_early(true);
        let client = layer.layer(client::<Stream>(&sandbox, version));
        let (mut sender, body) = channel();
        let request = Request::post(format!("{}/wallets/wsps/sessions", sandbox.api_origin()));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let call = tokio::spawn(client.oneshot(request));
        within("the API requests", sandbox.wait_api_requests(2)).await;
        send(&mut sender, r#"{"reference":"#).await;
        send(&mut sender, r#""1"}"#).await;
        drop(sender);
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), 201, "{version:?}");
        let verdicts: Vec<_> = sandbox.api_requests().iter().map(|request| request.verdict).collect();
        assert_eq!(verdicts, [Some(Verdict::Revoked), Some(Verdict::Accepted)]);
        let sessions = sandbox.sessions();
        assert_eq!((sessions.len(), &sessions[0].body[..]), (1, br#"{"reference":"1"}"#.as_slice()));
        assert_eq!(sandbox.token_request_count(), 2);
    }
}
