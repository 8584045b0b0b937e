//! docs/errors.md: a row for each kind of error, and `Error::find` through the wrappers that the page names.

mod wrappers;

use std::collections::BTreeSet;
use std::fmt;
use std::future::{Ready, pending, ready};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::buffer::Buffer;
use tower::timeout::error::Elapsed;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _};
use tower_bearer_auth::{BearerAuthLayer, BoxError, Error, ErrorKind, FixedToken, TokenProvider, from_fn, replay};

use crate::support::error_kinds::{names_after, variants};

type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

struct Row<'a> {
    kind: &'a str,
    http: &'a str,
    grpc: &'a str,
    retry_after: &'a str,
    alert: &'a str,
}

/// The rows of the table with `ErrorKind` in its header. Only the first word of a cell counts for `grpc` and `retry_after`.
fn rows<'a>(page: &'a str) -> Vec<Row<'a>> {
    let lines = page.lines().skip_while(|line| !line.starts_with("| [`ErrorKind`] |")).skip(2);
    let cells = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [kind, http, grpc, retry_after, alert] = cells[..] else { panic!("not five cells: {line}") };
        let first_word = |cell: &'a str| cell.split([',', '`']).next().unwrap_or(cell);
        Row { kind, http, grpc: first_word(grpc), retry_after: first_word(retry_after), alert }
    });
    cells.collect()
}

#[test]
fn every_kind_of_error_has_exactly_one_row() {
    let source = include_str!("../../src/error/kind.rs");
    let listed: Vec<&str> = rows(include_str!("../../docs/errors.md")).iter().map(|row| row.kind).collect();
    assert_eq!(listed, variants(source), "the rows are the variants of ErrorKind, in their order");
    assert!(listed.len() > 14, "the table was found");
    assert_eq!(listed.len(), listed.iter().collect::<BTreeSet<_>>().len());
}

#[test]
fn each_row_agrees_with_the_code() {
    let source = include_str!("../../src/error/kind.rs");
    let transient = names_after(source, "fn is_transient_by_default");
    assert!(transient.contains(&"Unavailable") && !transient.contains(&"Config"), "{transient:?}");
    for Row { kind, http, grpc, retry_after, alert } in rows(include_str!("../../docs/errors.md")) {
        let expected =
            if transient.contains(&kind) { ("503", "UNAVAILABLE", "yes") } else { ("500", "INTERNAL", "no") };
        assert_eq!((http, grpc, retry_after), expected, "{kind}");
        let is_known = ["page", "ticket", "nobody", "as `"].iter().any(|word| alert.contains(word));
        assert!(is_known, "{kind}: whom to alert: {alert}");
    }
}

#[test]
fn the_parsers_of_the_page_and_of_the_source_find_each_entry() {
    assert_eq!(variants("pub enum ErrorKind {\n/// One.\n One,\n#[x]\n Two }"), ["One", "Two"]);
    let page = "| [`ErrorKind`] | HTTP |\n| --- | --- |\n| `One` | 500 | `INTERNAL` | no | page |\n\n| `Two` |";
    assert_eq!(rows(page).iter().map(|row| row.kind).collect::<Vec<_>>(), ["One"]);
}

fn issuer_that_is_down() -> impl TokenProvider<Key = ()> {
    from_fn(|| async { Err(Error::transient("connection refused").with_kind(ErrorKind::Unavailable)) })
}

fn issuer_that_hangs() -> impl TokenProvider<Key = ()> {
    from_fn(|| async { pending().await })
}

/// A service that counts requests and fails like a broken connection.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicUsize>);

impl Service<Request<Body>> for Broken {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        ready(Err(io::Error::from(io::ErrorKind::ConnectionReset).into()))
    }
}

impl Broken {
    fn sends(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn get() -> Request<Body> {
    Request::get(API).body(Body::default()).unwrap()
}

/// The kind of the error that `Error::find` finds.
fn kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    Error::find(error).map(Error::kind)
}

#[tokio::test(start_paused = true)]
async fn an_error_is_found_through_a_buffer() {
    let below = Broken::default();
    let layer = BearerAuthLayer::new(issuer_that_is_down()).allow_origin(API).unwrap();
    let client = Buffer::new(layer.layer(below.clone()), 8);
    let error = client.oneshot(get()).await.unwrap_err();
    assert_eq!((kind(&*error), below.sends()), (Some(ErrorKind::Unavailable), 0));

    let layer = BearerAuthLayer::new(FixedToken::new("token").unwrap()).allow_origin(API).unwrap();
    let client = Buffer::new(layer.layer(below.clone()), 8);
    let error = client.oneshot(get()).await.unwrap_err();
    assert!(kind(&*error).is_none() && error.is::<io::Error>(), "{error}");
    assert_eq!(below.sends(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_passes_an_error_of_the_layer_on_and_its_own_error_is_not_found() {
    let below = Broken::default();
    let within = |provider| {
        let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
        ServiceBuilder::new().timeout(Duration::from_secs(5)).layer(layer).service(below.clone())
    };
    let error = within(issuer_that_is_down()).oneshot(get()).await.unwrap_err();
    assert_eq!(kind(&*error), Some(ErrorKind::Unavailable));

    let layer = BearerAuthLayer::new(issuer_that_hangs()).allow_origin(API).unwrap();
    let stack = |patience| ServiceBuilder::new().timeout(patience).layer(layer.clone()).service(below.clone());
    let error = stack(Duration::from_secs(5)).oneshot(get()).await.unwrap_err();
    assert!(kind(&*error).is_none() && error.is::<Elapsed>(), "{error}");
    // The fetch times out first.
    let error = stack(Duration::from_secs(60)).oneshot(get()).await.unwrap_err();
    assert_eq!((kind(&*error), below.sends()), (Some(ErrorKind::Timeout), 0));
}

/// An error of a service, with a source.
#[derive(Debug)]
struct Failed(BoxError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order could not be placed")
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

// The `source()` of an `io::Error` is the source of its inner error, so it skips the inner error.
#[test]
fn an_error_is_found_as_a_source_and_in_an_io_error() {
    let error = || Error::transient("down").with_kind(ErrorKind::Throttled);
    for error in [
        Failed(error().into()),
        Failed(Failed(error().into()).into()),
        Failed(io::Error::other(error()).into()),
        Failed(io::Error::other(Failed(error().into())).into()),
        Failed(io::Error::other(io::Error::other(error())).into()),
    ] {
        assert_eq!(kind(&error), Some(ErrorKind::Throttled), "{error:?}");
    }
    for error in [Failed("down".into()), Failed(io::Error::from(io::ErrorKind::TimedOut).into())] {
        assert_eq!(kind(&error), None, "{error:?}");
    }
}

/// A port on loopback that counts connections. It keeps them open and sends nothing.
async fn silent_server() -> (String, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
        }
    });
    (origin, accepted, task)
}

fn reqwest_client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn through_reqwest(
    provider: impl TokenProvider<Key = ()>,
    origin: &str,
    body: reqwest::Body,
) -> Result<Response<reqwest::Body>, BoxError> {
    let layer = BearerAuthLayer::new(provider).allow_origin(origin).unwrap().bodies(replay::Off);
    let stack = ServiceBuilder::new()
        .layer(layer)
        .map_request(|request: Request<reqwest::Body>| reqwest::Request::try_from(request).unwrap())
        .map_response(Response::<reqwest::Body>::from)
        .service(reqwest_client());
    stack.oneshot(Request::post(format!("{origin}/orders")).body(body).unwrap()).await
}

#[tokio::test]
async fn in_a_stack_over_reqwest_only_errors_of_this_crate_are_found() {
    let (origin, accepted, server) = silent_server().await;
    let error = through_reqwest(issuer_that_is_down(), &origin, "{}".into()).await.unwrap_err();
    assert_eq!((kind(&*error), accepted.load(Ordering::SeqCst)), (Some(ErrorKind::Unavailable), 0));

    // A request body that fails with an error of this crate. It is a source of reqwest's error.
    let body_error = Error::permanent("no").with_kind(ErrorKind::InvalidCredentials);
    let body = reqwest::Body::wrap_stream(stream::iter([Ok(Bytes::from("{")), Err(body_error)]));
    let error = through_reqwest(FixedToken::new("token").unwrap(), &origin, body).await.unwrap_err();
    assert!(error.is::<reqwest::Error>(), "{error:?}");
    assert_eq!((kind(&*error), accepted.load(Ordering::SeqCst)), (Some(ErrorKind::InvalidCredentials), 1));

    // No server listens any more, so the error is reqwest's own.
    server.abort();
    let _ = server.await;
    let error = through_reqwest(FixedToken::new("token").unwrap(), &origin, "{}".into()).await.unwrap_err();
    assert!(kind(&*error).is_none(), "{error:?}");
    assert!(error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect), "{error:?}");
}

#[tokio::test]
async fn an_error_of_the_layer_is_a_source_of_the_status_of_tonic() {
    let (origin, accepted, server) = silent_server().await;
    let channel = Channel::from_shared(origin).unwrap().connect_lazy();
    let over = |provider| HealthClient::new(BearerAuthLayer::new(provider).layer(channel.clone()));
    let unary = over(issuer_that_is_down()).check(HealthCheckRequest::default()).await.unwrap_err();
    let streaming = over(issuer_that_is_down()).watch(HealthCheckRequest::default()).await.unwrap_err();
    for status in [unary, streaming] {
        assert_eq!((status.code(), kind(&status)), (Code::Unknown, Some(ErrorKind::Unavailable)), "{status:?}");
        assert!(Error::find(&status).unwrap().retry_after().is_some());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);

    server.abort();
    let _ = server.await;
    let client = BearerAuthLayer::new(FixedToken::new("token").unwrap()).layer(channel);
    let status = HealthClient::new(client).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), kind(&status)), (Code::Unavailable, None), "{status:?}");
}
