//! tonic calls through the layer: the server rejects a revoked token with `grpc-status: 16`.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::service::service_fn as hyper_service;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Layer as _;
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{Audit, BearerAuth, BearerAuthLayer, ReplayOutcome, TokenProvider};

use crate::support::issuer::{issuer, token};
use crate::support::wait::eventually;
use crate::tonic_calls::server::Raw;

const UNARY: &str = "/test/Unary";
const STREAMING: &str = "/test/Streaming";

/// When the server checks the token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Check {
    /// Before it reads the body.
    AtOnce,
    /// After it has read the whole request.
    AtTheEnd,
    /// After it has sent a message. That is too late for a replay.
    AfterAMessage,
}

#[derive(Clone)]
struct Server {
    check: Check,
    revoked: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// The token of a call, and the messages that were read.
struct Call {
    token: String,
    messages: Vec<Bytes>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Server {
    async fn start(check: Check) -> (Self, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { check, revoked: Arc::default(), calls: Arc::default() };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                tokio::spawn(async move {
                    let service = hyper_service(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.respond(request).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                    // The client may close its connection.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (server, origin)
    }

    async fn respond(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let token = request.headers()["authorization"].to_str().unwrap().to_owned();
        let number: usize = token.rsplit('-').next().unwrap().parse().unwrap();
        let call = {
            let mut calls = self.calls.lock();
            calls.push(Call { token, messages: Vec::new() });
            calls.len() - 1
        };
        let rejected = number <= self.revoked.load(Ordering::SeqCst);
        if rejected && self.check == Check::AtOnce {
            return Status::unauthenticated("revoked").into_http();
        }
        let server = self.clone();
        let responses = if request.uri().path() == UNARY { 1 } else { 3 };
        let handler = tower::service_fn(move |request: tonic::Request<tonic::Streaming<Bytes>>| {
            let server = server.clone();
            async move { server.handle(call, rejected, responses, request.into_inner()).await }
        });
        tonic::server::Grpc::new(Raw).streaming(handler, request).await
    }

    async fn handle(
        &self,
        call: usize,
        rejected: bool,
        responses: usize,
        mut messages: tonic::Streaming<Bytes>,
    ) -> Result<tonic::Response<Responses>, Status> {
        while let Some(message) = messages.message().await? {
            self.calls.lock()[call].messages.push(message);
        }
        let responses: Vec<Result<Bytes, Status>> = match (rejected, self.check) {
            (true, Check::AfterAMessage) => {
                vec![Ok(Bytes::from("response 0")), Err(Status::unauthenticated("revoked meanwhile"))]
            }
            (true, _) => return Err(Status::unauthenticated("revoked")),
            (false, _) => (0..responses).map(|n| Ok(Bytes::from(format!("response {n}")))).collect(),
        };
        Ok(tonic::Response::new(stream::iter(responses).boxed()))
    }
}

type Wrap = fn(ReplayBody<Body>) -> Body;

/// A tonic client that has its first token already. The server has revoked that token.
async fn client<P: TokenProvider<Key = ()>>(
    provider: P,
    server: &Server,
    origin: &str,
    limit: usize,
) -> tonic::client::Grpc<BearerAuth<Client<HttpConnector, Body>, P, Buffered<Wrap>>> {
    let layer = BearerAuthLayer::new(provider).allow_origin(origin).unwrap();
    layer.source().warm_up().await.unwrap();
    server.revoked.store(1, Ordering::SeqCst);
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let stack = layer.bodies(Buffered::new(limit, Body::new as Wrap)).layer(http);
    tonic::client::Grpc::with_origin(stack, origin.parse().unwrap())
}

fn tokens(server: &Server) -> Vec<String> {
    server.calls.lock().iter().map(|call| call.token.clone()).collect()
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

const BOTH: [&str; 2] = ["Bearer token-1", "Bearer token-2"];

// R19, R22: also if the server rejects the call before it reads the message.
#[tokio::test]
async fn a_unary_call_with_a_revoked_token_succeeds_at_the_first_attempt() {
    for check in [Check::AtOnce, Check::AtTheEnd] {
        // The long message exceeds the HTTP/2 window, so it is not sent yet when the early rejection arrives.
        for message in ["short".to_owned(), "long".repeat(256 * 1024)] {
            let (server, origin) = Server::start(check).await;
            let (provider, fetches) = issuer(|n| async move { token(n) });
            let mut client = client(provider, &server, &origin, 4 << 20).await;
            client.ready().await.unwrap();
            let message = Bytes::from(message);
            let response = client.unary(tonic::Request::new(message.clone()), path(UNARY), Raw).await.unwrap();
            assert_eq!(response.get_ref(), "response 0", "{check:?}");
            let audit = response.extensions().get::<Audit>().unwrap();
            assert_eq!((audit.generation, audit.sends, audit.replay), (Some(2), 2, ReplayOutcome::Replayed));
            assert_eq!((tokens(&server), fetches.count()), (BOTH.map(str::to_owned).into(), 2));
            let calls = server.calls.lock();
            assert_eq!(calls[1].messages, std::slice::from_ref(&message), "{check:?}: the whole message, once");
            let first: &[Bytes] = if check == Check::AtOnce { &[] } else { &[message] };
            assert_eq!(calls[0].messages, first);
        }
    }
}

// After a message, the caller gets the status.
#[tokio::test]
async fn a_server_streaming_call_that_is_rejected_in_its_headers_is_replayed() {
    for (check, expected) in
        [(Check::AtOnce, Ok(3)), (Check::AtTheEnd, Ok(3)), (Check::AfterAMessage, Err((1, Code::Unauthenticated)))]
    {
        let (server, origin) = Server::start(check).await;
        let (provider, fetches) = issuer(|n| async move { token(n) });
        let mut client = client(provider, &server, &origin, 1024).await;
        client.ready().await.unwrap();
        let request = tonic::Request::new(Bytes::from("all of them"));
        let mut responses = client.server_streaming(request, path(STREAMING), Raw).await.unwrap().into_inner();
        let mut received = 0;
        let outcome = loop {
            match responses.message().await {
                Ok(Some(message)) => {
                    assert_eq!(message, format!("response {received}"));
                    received += 1;
                }
                Ok(None) => break Ok(received),
                Err(status) => break Err((received, status.code())),
            }
        };
        assert_eq!(outcome, expected, "{check:?}");
        let sends = if expected.is_ok() { 2 } else { 1 };
        assert_eq!((tokens(&server).len(), fetches.count()), (sends, sends), "{check:?}");
    }
}

// R17: the next call has the new token.
#[tokio::test]
async fn above_the_limit_the_caller_gets_the_status_of_the_rejection() {
    let (server, origin) = Server::start(Check::AtTheEnd).await;
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let mut client = client(provider, &server, &origin, 16).await;
    client.ready().await.unwrap();
    let long = tonic::Request::new(Bytes::from("more than sixteen bytes"));
    let status = client.unary(long, path(UNARY), Raw).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "revoked"));
    client.ready().await.unwrap();
    let short = tonic::Request::new(Bytes::from("short"));
    assert_eq!(client.unary(short, path(UNARY), Raw).await.unwrap().get_ref(), "response 0");
    assert_eq!((tokens(&server), fetches.count()), (BOTH.map(str::to_owned).into(), 2));
}

// R19: messages from before and after the rejection arrive once and in order.
#[tokio::test]
async fn a_client_stream_that_is_rejected_at_once_arrives_complete_with_the_replay() {
    let (server, origin) = Server::start(Check::AtOnce).await;
    let (provider, _) = issuer(|n| async move { token(n) });
    let mut client = client(provider, &server, &origin, 1024).await;
    client.ready().await.unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let messages = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message: Bytes| (message, receiver))
    });
    let call =
        tokio::spawn(async move { client.client_streaming(tonic::Request::new(messages), path(UNARY), Raw).await });
    let sent = ["one", "two", "three", "four"].map(Bytes::from);
    sender.send(sent[0].clone()).await.unwrap();
    eventually("the replay has started", || server.calls.lock().len() == 2).await;
    for message in &sent[1..] {
        sender.send(message.clone()).await.unwrap();
    }
    drop(sender);
    assert_eq!(call.await.unwrap().unwrap().get_ref(), "response 0");
    assert_eq!(server.calls.lock()[1].messages, sent);
}
