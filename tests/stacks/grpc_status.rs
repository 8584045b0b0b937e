//! `StatusLayer`, and the tables of docs/errors.md and docs/grpc.md.

use std::convert::Infallible;
use std::error::Error as _;
use std::fs;
use std::future::ready;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use parking_lot::Mutex;
use tonic::{Code, Status};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_bearer_auth::grpc::tonic_0_14::StatusLayer;
use tower_bearer_auth::replay::Mode;
use tower_bearer_auth::{BearerAuthLayer, BoxError, Error, ErrorKind, NotReplayed, NotSent, TokenSource};

use crate::support::error_kinds::variants;
use crate::support::issuer::{Issuer, Outcome, issuer, token};
use crate::support::responses::{INVALID_TOKEN, rejection};

type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

const KINDS: [ErrorKind; 16] = [
    ErrorKind::InvalidCredentials,
    ErrorKind::InvalidRequest,
    ErrorKind::Throttled,
    ErrorKind::Unavailable,
    ErrorKind::Tls,
    ErrorKind::Timeout,
    ErrorKind::MalformedResponse,
    ErrorKind::UnsupportedTokenType,
    ErrorKind::MissingKey,
    ErrorKind::NoOrigin,
    ErrorKind::InsecureUrl,
    ErrorKind::NoRuntime,
    ErrorKind::Reentrant,
    ErrorKind::Panicked,
    ErrorKind::Config,
    ErrorKind::Other,
];

fn request() -> Request<Body> {
    Request::get(API).body(Body::default()).unwrap()
}

/// The error of a call whose token request fails with `error`.
async fn not_sent(error: Error) -> BoxError {
    let issuer = Issuer::new();
    issuer.script(Outcome::Fail(error));
    let source = TokenSource::builder(issuer).patience(Duration::ZERO).build();
    let layer = source.layer().allow_origin(API).unwrap();
    let inner = service_fn(|_: Request<Body>| ready(Ok::<_, Infallible>(Response::new(Body::default()))));
    ServiceBuilder::new().layer(StatusLayer::new()).layer(layer).service(inner).oneshot(request()).await.unwrap_err()
}

/// The name of a code in the gRPC specification.
fn name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// The cells of the rows below a line that begins with `header`.
fn table(page: &'static str, header: &str) -> Vec<Vec<&'static str>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

// gRFC A83: failures have a status code that tells whether a retry can help.
#[tokio::test(start_paused = true)]
async fn the_code_of_each_kind_of_error_is_the_one_in_the_table() {
    let rows = table(include_str!("../../docs/errors.md"), "| [`ErrorKind`] |");
    let listed: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, variants(include_str!("../../src/error/kind.rs")));
    assert_eq!(listed, KINDS.map(|kind| format!("{kind:?}")));
    for (row, kind) in rows.iter().zip(KINDS) {
        let error = not_sent(Error::new(kind, "no")).await;
        let status = Status::from_error(error);
        assert!(row[2].starts_with(&format!("`{}`", name(status.code()))), "{kind:?}: {status}");
        assert_eq!(Error::find(&status).unwrap().kind(), kind);
        assert!(status.source().unwrap().is::<NotSent>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_passed_on_shows_no_details_of_the_issuer() {
    let error =
        Error::new(ErrorKind::InvalidCredentials, "the issuer rejects the client").with_hint("check the secret");
    let status = Status::from_error(not_sent(error).await);
    assert_eq!(status.message(), "request not sent: the issuer rejects the credentials");
    assert_eq!(Error::find(&status).unwrap().hint(), Some("check the secret"));
    // A permanent error of a transient kind.
    let error = Error::permanent("no").with_kind(ErrorKind::Unavailable);
    assert_eq!(Status::from_error(not_sent(error).await).code(), Code::Internal);
}

// What the channel returns is for tonic to read.
#[tokio::test]
async fn errors_of_the_channel_are_not_changed() {
    let through = |error: fn() -> BoxError| {
        StatusLayer::new().layer(service_fn(move |_: Request<Body>| ready(Err::<(), _>(error())))).oneshot(request())
    };
    let reset = through(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()).await.unwrap_err();
    assert_eq!(reset.downcast::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::ConnectionReset);
    let status = through(|| Status::with_details(Code::Aborted, "later", Bytes::from("details")).into()).await;
    let status = status.unwrap_err().downcast::<Status>().unwrap();
    assert_eq!((status.code(), status.message(), status.details()), (Code::Aborted, "later", &b"details"[..]));
}

// The request was sent, so it is not `UNAVAILABLE`, and `Error::find` finds nothing.
#[tokio::test(start_paused = true)]
async fn a_rejected_call_whose_replay_was_not_sent_is_unauthenticated() {
    let below = not_sent(Error::permanent("below")).await;
    let below = below.downcast::<Status>().unwrap();
    let below = below.source().unwrap().downcast_ref::<NotSent>().unwrap().clone();
    let responses = std::sync::Arc::new(Mutex::new(vec![Err(below), Ok(rejection(INVALID_TOKEN))]));
    let inner = service_fn(move |_: Request<Body>| ready(responses.lock().pop().unwrap()));
    let (provider, _) = issuer(|n| async move { token(n) });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().replay(Mode::Always);
    let stack = ServiceBuilder::new().layer(StatusLayer::new()).layer(layer).service(inner);
    let error = stack.oneshot(request()).await.unwrap_err();
    let status = Status::from_error(error);
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(Error::find(&status).is_none());
    assert!(status.source().unwrap().is::<NotReplayed>());
}

#[test]
fn each_test_that_the_page_on_grpc_names_exists() {
    fn read(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                read(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut sources = String::new();
    for folder in ["cache", "middleware", "stacks"] {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder), &mut sources);
    }
    let rows = table(include_str!("../../docs/grpc.md"), "| A83 | this crate | test |");
    assert!(rows.len() > 12);
    for row in &rows {
        let names: Vec<_> = row[2].split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "{row:?}");
        }
    }
}
