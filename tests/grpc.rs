//! tonic calls through the layer: a token that was revoked, refused by `grpc-status: 16`.
//!
//! Messages are plain bytes under a codec of the test's own, so that no protobuf is compiled.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes};
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
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tower::Layer as _;
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{Audit, BearerAuth, BearerAuthLayer, ReplayOutcome, TokenProvider};

#[path = "common/eventually.rs"]
mod eventually;
#[path = "common/issuer.rs"]
mod issuer;
use eventually::eventually;
use issuer::{issuer, token};

const UNARY: &str = "/test/Unary";
const STREAMING: &str = "/test/Streaming";

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// When the server looks at the token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Looks {
    /// At the head, before it reads anything.
    AtOnce,
    /// When it has read the request to its end.
    AtTheEnd,
    /// After a message of the answer: too late for anyone to heal.
    AfterAMessage,
}

#[derive(Clone)]
struct Server {
    looks: Looks,
    revoked: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// A call as it arrived: its token, and what was read of its body.
struct Call {
    token: String,
    messages: Vec<Bytes>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Server {
    async fn start(looks: Looks) -> (Self, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { looks, revoked: Arc::default(), calls: Arc::default() };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                tokio::spawn(async move {
                    let service = hyper_service(move |request| {
                        let server = server.clone();
                        async move { Ok::<_, Infallible>(server.answer(request).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                    // A client that goes away ends its connection, and that is all.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (server, origin)
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let token = request.headers()["authorization"].to_str().unwrap().to_owned();
        let number: usize = token.rsplit('-').next().unwrap().parse().unwrap();
        let call = {
            let mut calls = self.calls.lock();
            calls.push(Call { token, messages: Vec::new() });
            calls.len() - 1
        };
        let refused = number <= self.revoked.load(Ordering::SeqCst);
        if refused && self.looks == Looks::AtOnce {
            return Status::unauthenticated("revoked").into_http();
        }
        let server = self.clone();
        let answers = if request.uri().path() == UNARY { 1 } else { 3 };
        let handler = tower::service_fn(move |request: tonic::Request<tonic::Streaming<Bytes>>| {
            let server = server.clone();
            async move { server.handle(call, refused, answers, request.into_inner()).await }
        });
        tonic::server::Grpc::new(Raw).streaming(handler, request).await
    }

    async fn handle(
        &self,
        call: usize,
        refused: bool,
        answers: usize,
        mut messages: tonic::Streaming<Bytes>,
    ) -> Result<tonic::Response<Answers>, Status> {
        while let Some(message) = messages.message().await? {
            self.calls.lock()[call].messages.push(message);
        }
        let answers: Vec<Result<Bytes, Status>> = match (refused, self.looks) {
            (true, Looks::AfterAMessage) => {
                vec![Ok(Bytes::from("answer 0")), Err(Status::unauthenticated("revoked meanwhile"))]
            }
            (true, _) => return Err(Status::unauthenticated("revoked")),
            (false, _) => (0..answers).map(|n| Ok(Bytes::from(format!("answer {n}")))).collect(),
        };
        Ok(tonic::Response::new(stream::iter(answers).boxed()))
    }
}

type Wrap = fn(ReplayBody<Body>) -> Body;

/// A tonic client whose first token is minted already, and revoked at the server.
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

// R19, R22: a unary call succeeds on the first try, also when the refusal comes before its message was read.
#[tokio::test]
async fn a_unary_call_under_a_revoked_token_succeeds_on_the_first_try() {
    for looks in [Looks::AtOnce, Looks::AtTheEnd] {
        // The long one is more than a window of HTTP/2: it cannot have been sent when the early refusal comes.
        for message in ["short".to_owned(), "long".repeat(256 * 1024)] {
            let (server, origin) = Server::start(looks).await;
            let (provider, asked) = issuer(|n| async move { token(n) });
            let mut client = client(provider, &server, &origin, 4 << 20).await;
            client.ready().await.unwrap();
            let message = Bytes::from(message);
            let answer = client.unary(tonic::Request::new(message.clone()), path(UNARY), Raw).await.unwrap();
            assert_eq!(answer.get_ref(), "answer 0", "{looks:?}");
            let audit = answer.extensions().get::<Audit>().unwrap();
            assert_eq!((audit.generation, audit.sends, audit.replay), (Some(2), 2, ReplayOutcome::Made));
            assert_eq!((tokens(&server), asked.count()), (BOTH.map(str::to_owned).into(), 2));
            let calls = server.calls.lock();
            assert_eq!(calls[1].messages, std::slice::from_ref(&message), "{looks:?}: the whole message, once");
            let first: &[Bytes] = if looks == Looks::AtOnce { &[] } else { &[message] };
            assert_eq!(calls[0].messages, first);
        }
    }
}

// A server-streaming call that is refused in its headers heals; one that is refused behind messages is the caller's.
#[tokio::test]
async fn a_server_streaming_call_refused_in_its_headers_heals() {
    for (looks, expected) in
        [(Looks::AtOnce, Ok(3)), (Looks::AtTheEnd, Ok(3)), (Looks::AfterAMessage, Err((1, Code::Unauthenticated)))]
    {
        let (server, origin) = Server::start(looks).await;
        let (provider, asked) = issuer(|n| async move { token(n) });
        let mut client = client(provider, &server, &origin, 1024).await;
        client.ready().await.unwrap();
        let request = tonic::Request::new(Bytes::from("all of them"));
        let mut answers = client.server_streaming(request, path(STREAMING), Raw).await.unwrap().into_inner();
        let mut received = 0;
        let outcome = loop {
            match answers.message().await {
                Ok(Some(message)) => {
                    assert_eq!(message, format!("answer {received}"));
                    received += 1;
                }
                Ok(None) => break Ok(received),
                Err(status) => break Err((received, status.code())),
            }
        };
        assert_eq!(outcome, expected, "{looks:?}");
        let sends = if expected.is_ok() { 2 } else { 1 };
        assert_eq!((tokens(&server).len(), asked.count()), (sends, sends), "{looks:?}");
    }
}

// R17: past the limit the call gets its own status, and the next one the new token.
#[tokio::test]
async fn past_the_limit_a_call_gets_its_own_status() {
    let (server, origin) = Server::start(Looks::AtTheEnd).await;
    let (provider, asked) = issuer(|n| async move { token(n) });
    let mut client = client(provider, &server, &origin, 16).await;
    client.ready().await.unwrap();
    let long = tonic::Request::new(Bytes::from("more than sixteen bytes"));
    let status = client.unary(long, path(UNARY), Raw).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "revoked"));
    client.ready().await.unwrap();
    let short = tonic::Request::new(Bytes::from("short"));
    assert_eq!(client.unary(short, path(UNARY), Raw).await.unwrap().get_ref(), "answer 0");
    assert_eq!((tokens(&server), asked.count()), (BOTH.map(str::to_owned).into(), 2));
}

// R19: messages that were sent before the refusal and those that came after it arrive once, in order.
#[tokio::test]
async fn a_client_stream_that_is_refused_at_once_arrives_whole_at_the_second_sending() {
    let (server, origin) = Server::start(Looks::AtOnce).await;
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
    eventually("the second sending has begun", || server.calls.lock().len() == 2).await;
    for message in &sent[1..] {
        sender.send(message.clone()).await.unwrap();
    }
    drop(sender);
    assert_eq!(call.await.unwrap().unwrap().get_ref(), "answer 0");
    assert_eq!(server.calls.lock()[1].messages, sent);
}
