//! What docs/grpc.md and docs/errors.md say about tonic's channel: at the deadline of a call, and without a connection.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::pending;
use std::io;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::uri::PathAndQuery;
use http::{Response, Uri};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, ConnectError, Request, Status};
use tower::{ServiceBuilder, service_fn};
use tower_bearer_auth::grpc::{self, tonic_0_14::StatusLayer};
use tower_bearer_auth::replay::Off;
use tower_bearer_auth::{Error, TokenSource};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use crate::support::issuer::Issuer;
use crate::support::time::secs;
use crate::support::wait::within;
use crate::tonic_calls::client::CallClient;
use crate::tonic_calls::server::{Method, Raw};

/// Longer than a test takes in real time, so only paused time reaches it.
const DEADLINE: Duration = secs(30);

fn call() -> (Request<Bytes>, PathAndQuery) {
    let mut request = Request::new(Bytes::from("request"));
    request.set_timeout(DEADLINE);
    (request, PathAndQuery::from_static(Method::Unary.path()))
}

// R72: neither the deadline nor `tower::timeout` counts once the head is there.
#[tokio::test]
async fn a_call_whose_response_stalls_is_pending_until_a_timeout_around_it_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stall = hyper::service::service_fn(async |_| {
            let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
            let head = Response::builder().header("content-type", "application/grpc");
            Ok::<_, Infallible>(head.body(body).unwrap())
        });
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), stall).await
    });
    let channel = Channel::from_shared(origin.clone()).unwrap().connect().await.unwrap();
    let (seen, mut heads) = mpsc::unbounded_channel();
    let stack = ServiceBuilder::new()
        .map_response(move |response| {
            seen.send(()).unwrap();
            response
        })
        .timeout(DEADLINE)
        .layer(StatusLayer::new())
        .layer(grpc::layer(TokenSource::new(Issuer::new()).layer().allow_origin(&origin).unwrap().bodies(Off)))
        .service(channel);
    let mut client = tonic::client::Grpc::with_origin(stack, origin.parse().unwrap());
    client.ready().await.unwrap();
    let (request, path) = call();
    let call = client.unary(request, path, Raw);
    tokio::pin!(call);
    tokio::select! {
        outcome = &mut call => panic!("{outcome:?}"),
        head = within("the head", heads.recv()) => head.unwrap(),
    }
    // Nobody waits for a socket from here on.
    tokio::time::pause();
    assert!(timeout(DEADLINE * 10, call).await.is_err());
}

// R72
#[tokio::test(start_paused = true)]
async fn a_call_whose_channel_is_connecting_is_pending_after_its_deadline() {
    let origin = "http://api.example.com";
    let connector = service_fn(|_: Uri| pending::<io::Result<TokioIo<TcpStream>>>());
    let channel = Channel::from_static(origin).connect_with_connector_lazy(connector);
    let source = TokenSource::new(Issuer::new());
    source.warm_up().await.unwrap();
    let layer = source.layer().danger_allow_http(origin).unwrap();
    let mut client = CallClient::new(layer, channel, origin.parse().unwrap(), None);
    client.grpc.ready().await.unwrap();
    let (request, path) = call();
    assert!(timeout(DEADLINE * 10, client.grpc.unary(request, path, Raw)).await.is_err());
}

/// The status of a call over a channel to `origin` that cannot connect.
async fn unconnected(origin: &str, tls: ClientTlsConfig) -> Status {
    let channel = Channel::from_shared(origin.to_owned()).unwrap().tls_config(tls).unwrap().connect_lazy();
    let layer = TokenSource::new(Issuer::new()).layer().allow_origin(origin).unwrap();
    let mut client = CallClient::new(layer, channel, origin.parse().unwrap(), None);
    within("a call", client.call(Method::Unary)).await.unwrap_err()
}

#[tokio::test]
async fn a_closed_port_and_a_wrong_tls_root_are_connect_errors_and_nothing_is_sent() {
    let server = AccessPspSandbox::start().await.unwrap();
    let other_root = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(another_root().await));
    let wrong_root = unconnected(&server.api_origin(), other_root).await;
    assert_eq!(server.api_request_count(), 0);
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = unconnected(&format!("http://{address}"), ClientTlsConfig::new()).await;
    for status in [wrong_root, closed] {
        let mut sources = iter::successors(status.source(), |&error| error.source());
        let is_connect = sources.any(|error| error.is::<ConnectError>());
        assert_eq!((status.code(), is_connect), (Code::Unavailable, true), "{status:?}");
        assert!(Error::find(&status).is_none());
    }
}

async fn another_root() -> String {
    AccessPspSandbox::start().await.unwrap().ca_pem().to_owned()
}
