//! A tonic server on a socket that rejects in each form, and a tonic client with both layers.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::uri::PathAndQuery;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request};
use tower::ServiceBuilder;
use tower_bearer_auth::grpc::{self, tonic_0_14::StatusLayer};
use tower_bearer_auth::replay::Off;
use tower_bearer_auth::{BearerAuthLayer, Error, ErrorKind, TokenProvider, TokenSource};

use super::{is_sent, is_shared};
use crate::support::issuer::{Issuer, Outcome, RequestCount, issuer, token};
use crate::support::time::{Stopwatch, ms, secs};
use crate::support::wait::within;
use crate::tonic_calls::client::CallClient;
use crate::tonic_calls::server::{CallServer, Counts, Form, Method, Raw};

/// A server that rejects the first token of each source, and a channel to it.
struct Peer {
    server: CallServer,
    origin: String,
    channel: Channel,
}

impl Peer {
    async fn start(form: Form) -> Self {
        let server = CallServer::new(|headers| headers["authorization"] != "Bearer token-1");
        server.reject_as(form);
        let origin = format!("http://{}", server.start(Server::builder()).unwrap());
        let channel = Channel::from_shared(origin.clone()).unwrap().connect().await.unwrap();
        Self { server, origin, channel }
    }

    /// A client with the first token in its cache.
    async fn client(
        &self,
        hold_head: Option<Duration>,
    ) -> (CallClient<impl TokenProvider<Key = ()> + use<>>, RequestCount) {
        let (provider, requests) = issuer(|n| async move { token(n) });
        let layer = BearerAuthLayer::new(provider).allow_origin(&self.origin).unwrap();
        layer.source().warm_up().await.unwrap();
        (CallClient::new(layer, self.channel.clone(), self.origin.parse().unwrap(), hold_head), requests)
    }
}

fn expected(method: Method) -> Vec<Bytes> {
    let messages: &[&str] = match method {
        Method::Unary => &["only"],
        Method::ServerStream => &["only"; 3],
        Method::ClientStream => &["last"],
        Method::Bidirectional => &["first", "last"],
    };
    messages.iter().map(|&message| Bytes::from(message)).collect()
}

const TIMES: usize = 50;

// R73
#[tokio::test]
async fn fifty_of_fifty_calls_that_are_rejected_without_a_message_are_replayed() {
    for form in [Form::TrailersOnly, Form::HeadThenTrailers, Form::EmptyMessage] {
        let peer = Peer::start(form).await;
        for method in Method::ALL.into_iter().cycle().take(TIMES) {
            let (mut client, requests) = peer.client(None).await;
            is_shared(&client.grpc);
            let call = is_sent(async move { client.call(method).await });
            let messages = within("a call", call).await.unwrap();
            assert_eq!((messages, requests.count()), (expected(method), 2), "{form}, {method:?}");
        }
        assert_eq!(peer.server.take_counts(), Counts { calls: 2 * TIMES, rejected: TIMES }, "{form}");
    }
}

// R73: the call fails once, and the next one has a new token.
#[tokio::test]
async fn fifty_of_fifty_calls_that_are_rejected_after_a_message_lead_to_a_new_token() {
    for form in [Form::Message, Form::MidStream] {
        let peer = Peer::start(form).await;
        for method in Method::ALL.into_iter().cycle().take(TIMES) {
            let (mut client, requests) = peer.client(None).await;
            let status = within("a call", client.call(method)).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{form}, {method:?}");
            let messages = within("the next call", client.call(method)).await.unwrap();
            assert_eq!((messages, requests.count()), (expected(method), 2), "{form}, {method:?}");
        }
    }
}

// R73: a bidirectional caller may wait for the head before it sends. The head must not wait for a message then.
#[tokio::test]
async fn a_caller_that_sends_its_first_message_after_the_head_is_not_blocked() {
    for hold_head in [None, Some(ms(5))] {
        for form in Form::ALL {
            let peer = Peer::start(form).await;
            let (mut client, _) = peer.client(hold_head).await;
            let _ = client.call(Method::Unary).await;
            client.grpc.ready().await.unwrap();
            let (sender, receiver) = mpsc::channel::<Bytes>(1);
            let messages =
                stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
            let path = PathAndQuery::from_static(Method::Bidirectional.path());
            let call = client.grpc.streaming(Request::new(messages), path, Raw);
            let mut responses = within("the head", call).await.unwrap().into_inner();
            sender.send(Bytes::from("hello")).await.unwrap();
            let response = within("a response", responses.message()).await.unwrap();
            assert_eq!(response.unwrap(), "hello", "{form}");
        }
    }
}

/// A client of a channel that never connects, in paused time.
fn unconnected(source: &TokenSource<Issuer>) -> CallClient<Issuer> {
    let origin = "https://api.example.com";
    let channel = Channel::from_static(origin).timeout(ms(500)).connect_lazy();
    CallClient::new(source.layer().allow_origin(origin).unwrap(), channel, origin.parse().unwrap(), None)
}

// R72: with a channel timeout of 500 ms, it took 3.006 s.
#[tokio::test(start_paused = true)]
async fn a_call_with_a_deadline_of_200_ms_returns_after_200_ms_whatever_the_issuer_does() {
    let issuer = Issuer::new();
    issuer.set_latency(secs(3));
    let source = TokenSource::new(issuer.clone());
    let mut client = unconnected(&source);
    client.grpc.ready().await.unwrap();
    let mut request = Request::new(Bytes::from("request"));
    request.set_timeout(ms(200));
    let watch = Stopwatch::start();
    let path = PathAndQuery::from_static(Method::Unary.path());
    let status = client.grpc.unary(request, path, Raw).await.unwrap_err();
    assert_eq!((watch.read(), status.code()), (ms(200), Code::DeadlineExceeded));
    assert_eq!(Error::find(&status).unwrap().kind(), ErrorKind::Timeout);
    assert_eq!(issuer.requests(), 1);
}

// R72: without a deadline, the same kind of error means that the issuer is slow.
#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_that_gets_no_token_in_time_is_unavailable() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Hang);
    let source = TokenSource::builder(issuer).max_wait(secs(2)).build();
    let status = unconnected(&source).call(Method::Unary).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(Error::find(&status).unwrap().kind(), ErrorKind::Timeout);
}

// R72: the rows of docs/errors.md and docs/grpc.md about calls that may have been applied.
#[tokio::test]
async fn a_deadline_that_passes_after_the_send_has_another_code_than_one_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (arrived, mut calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let hang = service_fn(move |_| {
            arrived.send(()).unwrap();
            pending::<Result<http::Response<Full<Bytes>>, Infallible>>()
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), hang).await
    });
    let channel = Channel::from_shared(origin.clone()).unwrap().connect().await.unwrap();
    let source = TokenSource::new(Issuer::new());
    source.warm_up().await.unwrap();
    let layer = source.layer().allow_origin(&origin).unwrap().bodies(Off);
    let stack = ServiceBuilder::new().layer(StatusLayer::new()).layer(grpc::layer(layer)).service(channel);
    let path = || PathAndQuery::from_static(Method::Unary.path());

    let mut client = tonic::client::Grpc::with_origin(stack.clone(), origin.parse().unwrap());
    client.ready().await.unwrap();
    let mut request = Request::new(Bytes::from("request"));
    request.set_timeout(ms(400));
    let status = within("the channel", client.unary(request, path(), Raw)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Cancelled, "Timeout expired"));
    assert!(Error::find(&status).is_none());
    within("the first call", calls.recv()).await.unwrap();

    let stack = ServiceBuilder::new().timeout(ms(400)).service(stack);
    let mut client = tonic::client::Grpc::with_origin(stack, origin.parse().unwrap());
    client.ready().await.unwrap();
    let request = Request::new(Bytes::from("request"));
    let status = within("tower::timeout", client.unary(request, path(), Raw)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(Error::find(&status).is_none());
    within("the second call", calls.recv()).await.unwrap();
}
