use http::header::WWW_AUTHENTICATE;
use http::{Method, Request, Response, Version};

use super::*;
use crate::error::ErrorKind;

mod origins;

const UNSPECIFIED: Option<Rejection> = Some(Rejection::Unspecified);
const INVALID_TOKEN: Option<Rejection> = Some(Rejection::InvalidToken);

fn of(status: u16, challenges: &[&str]) -> Option<Rejection> {
    let mut response = Response::builder().status(status);
    for challenge in challenges {
        response = response.header(WWW_AUTHENTICATE, *challenge);
    }
    Rejection::standard(&ResponseHead::of(&response.body(()).unwrap()))
}

#[test]
fn every_form_of_a_challenge_is_parsed() {
    let table: &[(u16, &[&str], Option<Rejection>)] = &[
        (401, &[], UNSPECIFIED),
        (401, &["Bearer"], UNSPECIFIED),
        (401, &["Bearer realm=\"x\""], UNSPECIFIED),
        (401, &["Basic realm=\"error=invalid_token\""], UNSPECIFIED),
        (401, &["Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Bearer error=invalid_token"], INVALID_TOKEN),
        (401, &["bEaReR ERROR = \"invalid_token\" "], INVALID_TOKEN),
        (401, &["Bearer realm=\"a, b\", error=\"invalid_token\", error_description=\"x\""], INVALID_TOKEN),
        (401, &["Basic realm=\"x\", Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Basic realm=\"x\"", "Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Bearer realm=\"x\", Basic error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer error=\"invalid_token\", Basic realm=\"x\""], INVALID_TOKEN),
        (401, &["Negotiate YWJj==, Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Negotiate Bearer, Basic error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Negotiate Bearer, error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer error=\"insufficient_scope\", scope=\"a b\""], None),
        (401, &["Bearer error=\"insufficient_user_authentication\""], None),
        (401, &["Bearer error=\"insufficient_scope\"", "Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Bearer error=\"inv\\alid_token\""], INVALID_TOKEN),
        (401, &["Bearer error=\"never ends"], UNSPECIFIED),
        (401, &["Bearer error=\"invalid_token"], UNSPECIFIED),
        (401, &["Bearer error=\"invalid_token\\\""], UNSPECIFIED),
        (401, &["Bearer error=\"insufficient_scope"], UNSPECIFIED),
        (401, &["Bearer error=\"invalid_token\", realm=\"x"], INVALID_TOKEN),
        (401, &["Bearer error=\"insufficient_scope", "Bearer error=\"invalid_token\""], INVALID_TOKEN),
        (401, &["Bearer realm=\"x, Bearer error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer realm=\"x\", a=, error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer error='invalid_token'"], UNSPECIFIED),
        (401, &["Bearer error='insufficient_scope'"], UNSPECIFIED),
        (401, &["Bearer: error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer: realm=\"x\", error=\"invalid_token\""], UNSPECIFIED),
        (401, &["Bearer:"], UNSPECIFIED),
        (401, &["=,;\"\\\",,, ,Bearer error=invalid_token"], UNSPECIFIED),
        (401, &["@@@ \"x,y\", Bearer error=invalid_token"], INVALID_TOKEN),
        (401, &["DPoP error=\"invalid_token\""], UNSPECIFIED),
        (403, &["Bearer error=\"insufficient_scope\""], None),
        (403, &["Bearer error=\"invalid_token\""], None),
        (200, &["Bearer error=\"invalid_token\""], None),
        (407, &[], None),
    ];
    for (status, challenges, expected) in table {
        assert_eq!(of(*status, challenges), *expected, "{status} {challenges:?}");
    }
}

#[test]
fn grpc_unauthenticated_is_a_rejection_only_in_the_headers_of_a_grpc_200() {
    for (status, grpc, content, expected) in [
        (200, "16", "application/grpc", INVALID_TOKEN),
        (200, "16", "application/grpc+proto", INVALID_TOKEN),
        (200, "16", "Application/gRPC-web; charset=utf-8", INVALID_TOKEN),
        (200, "7", "application/grpc", None),
        (500, "16", "application/grpc", None),
        (200, "16", "application/json", None),
        (200, "16", "application/grp", None),
        (200, "16", "", None),
    ] {
        let mut response = Response::builder().status(status).header("grpc-status", grpc);
        if !content.is_empty() {
            response = response.header("content-type", content);
        }
        let response = response.body(()).unwrap();
        assert_eq!(Rejection::standard(&ResponseHead::of(&response)), expected, "{status} {grpc} {content}");
    }
}

#[test]
fn only_a_2xx_or_a_304_without_a_grpc_failure_accepts_a_token() {
    for (status, grpc, expected) in [
        (200, None, true),
        (204, None, true),
        (304, None, true),
        (303, None, false),
        (200, Some("0"), true),
        (200, Some("5"), false),
        (404, None, false),
    ] {
        let mut response = Response::builder().status(status);
        if let Some(grpc) = grpc {
            response = response.header("grpc-status", grpc);
        }
        assert_eq!(accepts(&ResponseHead::of(&response.body(()).unwrap())), expected, "{status} {grpc:?}");
    }
}

// R29
#[test]
fn a_missing_key_is_an_error_that_names_its_type() {
    let request = http::Request::new(());
    let error = ExtensionKey::<u64>::from_request(&RequestHead::of(&request)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingKey);
    assert!(error.hint().unwrap().contains("u64"));
}

#[test]
fn a_request_is_idempotent_by_its_method_or_by_a_key() {
    let get = |method: &str, key: Option<&str>| {
        let mut request = http::Request::builder().method(method);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        RequestHead::of(&request.body(()).unwrap()).is_idempotent()
    };
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(get(method, None), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "TRANSFER", "get"] {
        assert!(!get(method, None) && !get(method, Some("")), "{method}");
        assert!(get(method, Some("k-1")), "{method}");
    }
}

// R77
#[test]
fn an_idempotency_key_without_a_value_does_not_count() {
    let is_idempotent = |keys: &[&[u8]]| {
        let mut request = http::Request::post("/");
        for key in keys {
            request = request.header("idempotency-key", *key);
        }
        RequestHead::of(&request.body(()).unwrap()).is_idempotent()
    };
    let without: &[&[&[u8]]] = &[
        &[],
        &[b""],
        &[b" "],
        &[b"\t"],
        &[b" \t "],
        &[b"\"\""],
        &[b" \"\" "],
        &[b"\" \t\""],
        &[b"k-1", b""],
        &[b"", b"k-1"],
        &[b"k-1", b"\"\"", b"k-2"],
        &[b"k-1", b" "],
        &[b"k-1,"],
        &[b", k-1"],
        &[b"\"\",\"k-1\""],
    ];
    for keys in without {
        assert!(!is_idempotent(keys), "{keys:?}");
    }
    let with: &[&[&[u8]]] =
        &[&[b"k"], &[b"\"k\""], &[b" k\t"], &[b"0"], &[b"-"], &[b"\xff"], &[b"k-1", b"k-2"], &[b"\"\"\"\""], &[b"a,b"]];
    for keys in with {
        assert!(is_idempotent(keys), "{keys:?}");
    }
}

#[test]
fn the_last_mark_of_a_response_is_read_once() {
    let mut response = Response::new(());
    assert_eq!(take_mark(response.extensions_mut()), None);
    response.extensions_mut().insert("something else");
    assert_eq!(take_mark(response.extensions_mut()), None);
    Rejection::mark(&mut response, INVALID_TOKEN);
    Rejection::mark(&mut response, None);
    assert_eq!(take_mark(response.extensions_mut()), Some(None));
    Rejection::mark(&mut response, None);
    Rejection::mark(&mut response, UNSPECIFIED);
    assert_eq!(take_mark(response.extensions_mut()), Some(UNSPECIFIED));
    assert_eq!(take_mark(response.extensions_mut()), None);
    assert!(response.extensions().get::<&str>().is_some());
}

#[test]
fn a_head_shows_its_message_and_debug_shows_nothing_that_may_be_secret() {
    let request = Request::put("https://api.test/path?canary")
        .version(Version::HTTP_2)
        .header("x", "canary")
        .extension(7_u8)
        .body(())
        .unwrap();
    let head = RequestHead::of(&request);
    assert_eq!((head.method(), head.uri(), head.version()), (&Method::PUT, request.uri(), Version::HTTP_2));
    assert_eq!((head.headers(), head.extensions().get::<u8>()), (request.headers(), Some(&7)));
    let response = Response::builder().status(418).header("x", "canary").extension(8_u8).body(()).unwrap();
    let shown = ResponseHead::of(&response);
    assert_eq!((shown.status().as_u16(), shown.headers()), (418, response.headers()));
    assert_eq!(shown.extensions().get::<u8>(), Some(&8));
    let text = format!("{head:?} {shown:?}");
    assert!(text.contains("PUT") && text.contains("\"/path\"") && text.contains("418"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
