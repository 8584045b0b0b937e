//! Aeropay: which token a path needs, which request is idempotent, and which response body rejects a token.
//!
//! The first line of the input is one of
//!
//! - `v1 METHOD URI` or `v2 METHOD URI`. After a line break follows the `Idempotency-Key`, if there is one;
//! - `body STATUS SPLIT`. After a line break follows the response body. It is sent in frames of SPLIT bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::aeropay::{ApiVersion, Endpoint, Environment, Identity, RejectionLayer, TokenScope, UserId};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{
    Aeropay, Audit, BearerAuthLayer, BoxError, ErrorKind, IssuedToken, ReplayOutcome, RequestHead, TokenProvider,
    from_fn,
};

use crate::json::{self, Failure, Value, is_ambiguous, member};
use crate::run::{run, text};

static V1: LazyLock<Aeropay> = LazyLock::new(|| provider(ApiVersion::V1));
static V2: LazyLock<Aeropay> = LazyLock::new(|| provider(ApiVersion::V2));

fn provider(version: ApiVersion) -> Aeropay {
    let client = TokenClient::new(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::new(Full::new(Bytes::new())))
    }));
    let builder = Aeropay::builder().api_version(version).environment(Environment::Sandbox).http_client(client);
    builder.api_key("key").api_secret("secret").merchant_id(1057).build().unwrap()
}

pub fn check(input: &[u8]) {
    let mut parts = input.splitn(2, |b| *b == b'\n');
    let Some(first) = parts.next().and_then(text) else {
        return;
    };
    let rest = parts.next();
    let words: Vec<&str> = first.split(' ').collect();
    match words[..] {
        ["body", status, split] => check_body(status, split, rest.unwrap_or_default()),
        ["v1", method, uri] => check_path(&V1, method, uri, rest),
        ["v2", method, uri] => check_path(&V2, method, uri, rest),
        _ => {}
    }
}

fn check_path(provider: &Aeropay, method: &str, uri: &str, key: Option<&[u8]>) {
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), uri.parse::<Uri>()) else {
        return;
    };
    let mut request = Request::builder().method(method.clone()).uri(uri).extension(UserId::from("user")).body(());
    let Ok(request) = &mut request else {
        return;
    };
    if let Some(key) = key {
        let Ok(value) = HeaderValue::from_bytes(key) else {
            return;
        };
        request.headers_mut().insert("idempotency-key", value);
    }
    let head = RequestHead::of(request);
    let path = request.uri().path();
    let endpoint = plain_segments(path).and_then(|segments| find(provider.endpoints(), &method, &segments));
    let identity = endpoint.and_then(Endpoint::scope).map(|scope| match scope {
        TokenScope::UserForMerchant => Identity::user("user"),
        _ => Identity::merchant(),
    });
    match (provider.key(&head), identity) {
        (Ok(found), Some(expected)) => assert_eq!(found, expected),
        (Err(error), None) => assert_eq!(error.kind(), ErrorKind::MissingKey),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
    let has_key = key.is_some_and(|key| key.split(|b| *b == b',').all(has_value));
    let expected = is_idempotent(provider.api_version(), &method, path, has_key);
    assert_eq!(provider.is_idempotent(&head), expected, "is it idempotent?");
}

/// The decoded segments of a path that every server reads the same way.
fn plain_segments(path: &str) -> Option<Vec<Vec<u8>>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = Vec::new();
    for written in path.split('/') {
        let segment = decode(written)?;
        let is_dangerous = |b: &u8| b"/\\;%".contains(b) || *b < 0x20 || *b == 0x7f;
        if segment.is_empty() || segment == b"." || segment == b".." || segment.iter().any(is_dangerous) {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

/// `None` if an escape is not valid.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            decoded.push(b);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(decoded)
}

/// The endpoint with the most text of its own, counted from the left.
fn find<'a>(endpoints: &'a [Endpoint], method: &Method, segments: &[Vec<u8>]) -> Option<&'a Endpoint> {
    let is_name = |text: &str| text.starts_with('{');
    let of = |endpoint: &Endpoint| endpoint.template()[1..].split('/').map(str::to_owned).collect::<Vec<_>>();
    let mut matching: Vec<&Endpoint> = endpoints
        .iter()
        .filter(|endpoint| endpoint.method() == method)
        .filter(|endpoint| {
            let template = of(endpoint);
            let is_same = |(text, given): (&String, &Vec<u8>)| is_name(text) || text.as_bytes() == given.as_slice();
            template.len() == segments.len() && template.iter().zip(segments).all(is_same)
        })
        .collect();
    matching.sort_by_key(|endpoint| of(endpoint).iter().map(|text| is_name(text)).collect::<Vec<bool>>());
    matching.first().copied()
}

/// A version 1 path that moves money with a `GET` is not idempotent in any spelling. A key counts for four operations.
fn is_idempotent(version: ApiVersion, method: &Method, path: &str, has_key: bool) -> bool {
    let by_method = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method.as_str());
    let segments = plain_segments(path);
    if version == ApiVersion::V1 {
        let Some(segments) = segments else {
            return false;
        };
        let text = String::from_utf8_lossy(&segments.join(&b'/')).to_uppercase();
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        return by_method && !words.any(|word| word == "REVERSETRANSACTION");
    }
    let uses_key = ["transaction", "preauthTransaction", "reverseTransaction", "payoutTransaction"];
    let takes_key = segments.is_some_and(|segments| {
        let named = |name: &&str| segments == [b"v2".to_vec(), name.as_bytes().to_vec()];
        *method == Method::POST && uses_key.iter().any(named)
    });
    by_method || takes_key && has_key
}

fn has_value(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value);
    let text = text.trim_matches([' ', '\t']);
    let inside =
        if text.len() >= 2 && text.starts_with('"') && text.ends_with('"') { &text[1..text.len() - 1] } else { text };
    !inside.trim_matches([' ', '\t']).is_empty()
}

/// What a body says about the token.
#[derive(Debug, PartialEq)]
enum Mark {
    /// The status decides.
    Nothing,
    Valid,
    Unspecified,
    Invalid,
}

fn check_body(status: &str, split: &str, body: &[u8]) {
    let (Ok(status), Ok(split)) = (status.parse::<StatusCode>(), split.parse::<usize>()) else {
        return;
    };
    if ![200, 401, 403, 404].contains(&status.as_u16()) || split == 0 || body.is_empty() {
        return;
    }
    let (outcome, read) = run(send(status, split, Bytes::copy_from_slice(body)));
    assert_eq!(read, body, "the caller gets another body");
    let Some(body) = text(body) else {
        return;
    };
    let Some(mark) = mark(status.as_u16(), body) else {
        return;
    };
    let expected = match mark {
        Mark::Nothing if status == 401 => ReplayOutcome::NotSafe,
        Mark::Nothing | Mark::Valid => ReplayOutcome::NotNeeded,
        Mark::Unspecified => ReplayOutcome::NotSafe,
        Mark::Invalid => ReplayOutcome::RejectedAgain,
    };
    assert_eq!(outcome, expected, "{mark:?}");
}

/// Sends a `POST` without a key, which is replayed only if the server names the token as the reason.
async fn send(status: StatusCode, split: usize, body: Bytes) -> (ReplayOutcome, Bytes) {
    let service = service_fn(move |_: Request<Empty<Bytes>>| {
        let frames = body.chunks(split).map(Bytes::copy_from_slice);
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .body(Frames(frames.collect()));
        async move { Ok::<_, BoxError>(response?) }
    });
    let minted = Arc::new(AtomicU32::new(0));
    let provider = from_fn(move || {
        let number = minted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(IssuedToken::bearer(format!("token-{number}")))
    });
    let layer = BearerAuthLayer::new(provider).allow_origin("https://api.example").unwrap().audit_all();
    // The token of this provider is in `authorization`, as in version 2.
    let below = RejectionLayer::new(ApiVersion::V2);
    let service = layer.layer(below.layer(service));
    let request = Request::post("https://api.example/v2/transaction").body(Empty::new()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let outcome = Audit::of(&response).unwrap().replay;
    (outcome, response.into_body().collect().await.unwrap().to_bytes())
}

struct Frames(VecDeque<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}

/// Aeropay's glossary of errors. `None` if the document is too deep for the oracle.
fn mark(status: u16, body: &str) -> Option<Mark> {
    let document = match json::parse(body) {
        Ok(document) => document,
        Err(Failure::NotJson) => return Some(Mark::Nothing),
        Err(Failure::TooDeep) => return None,
    };
    let Some(envelope) = document.as_object().filter(|_| [200, 401, 403].contains(&status)) else {
        return Some(Mark::Nothing);
    };
    if is_ambiguous(envelope, &["success", "error", "code"]) {
        return Some(Mark::Nothing);
    }
    let error = member(envelope, "error");
    let success = match member(envelope, "success") {
        Some(Value::Bool(success)) => Some(*success),
        Some(Value::Number(digit)) if digit == "0" || digit == "1" => Some(digit == "1"),
        _ => None,
    };
    let is_error = status != 200 || !success.unwrap_or(error.is_none());
    let inside = error.and_then(Value::as_object).filter(|object| !is_ambiguous(object, &["code"]));
    let code = inside.and_then(|object| member(object, "code")).or_else(|| member(envelope, "code"));
    let code = code.and_then(Value::as_text).and_then(|code| code.decoded.as_deref());
    Some(match code {
        _ if !is_error => Mark::Nothing,
        Some("AP007" | "AP008") => Mark::Invalid,
        Some("AP005" | "AP101") => Mark::Unspecified,
        Some("AP002") if status == 401 => Mark::Unspecified,
        Some(
            "AP001" | "AP002" | "AP003" | "AP004" | "AP006" | "AP009" | "AP010" | "AP011" | "AP113" | "AP317" | "AP605"
            | "AP700" | "AP701" | "AP800",
        ) => Mark::Valid,
        _ => Mark::Nothing,
    })
}
