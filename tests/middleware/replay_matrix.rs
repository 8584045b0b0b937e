//! How often a request is sent, by method, idempotency key, body, rejection and setting. docs/replay.md has the same
//! tables.

mod faithful;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::replay::{Bodies, Buffered, Cloned, Empty, Mode, Off, ReplayBody};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, ConfigError, ReplayOutcome};

use crate::support::api::Api;
use crate::support::issuer::{issuer, token};
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};

type Stream = UnsyncBoxBody<Bytes, BoxError>;

const API: &str = "https://api.example.com";
const CHUNKS: [&str; 3] = ["pay ", "100 to ", "alice"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    NoReason,
    InvalidToken,
    Grpc,
    InsufficientScope,
    InsufficientAuthentication,
    Forbidden,
}
use Reply::{Forbidden, Grpc, InsufficientAuthentication, InsufficientScope, InvalidToken, NoReason};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Idempotent,
    Keyed,
    Other,
}
use Kind::{Idempotent, Keyed, Other};
use Mode::{Always, Never, Safe};

/// The sends for a body that is empty, cloneable, within the limit, above the limit, without a copy. Then the token
/// requests.
type Row = (Mode, Reply, Kind, [usize; 5], usize);

#[rustfmt::skip]
const TABLE: [Row; 54] = [
    (Safe, NoReason, Idempotent, [2, 2, 2, 1, 1], 2),
    (Safe, NoReason, Keyed, [2, 2, 2, 1, 1], 2),
    (Safe, NoReason, Other, [1, 1, 1, 1, 1], 2),
    (Safe, InvalidToken, Idempotent, [2, 2, 2, 1, 1], 2),
    (Safe, InvalidToken, Keyed, [2, 2, 2, 1, 1], 2),
    (Safe, InvalidToken, Other, [2, 2, 2, 1, 1], 2),
    (Safe, Grpc, Idempotent, [2, 2, 2, 1, 1], 2),
    (Safe, Grpc, Keyed, [2, 2, 2, 1, 1], 2),
    (Safe, Grpc, Other, [2, 2, 2, 1, 1], 2),
    (Safe, InsufficientScope, Idempotent, [1, 1, 1, 1, 1], 1),
    (Safe, InsufficientScope, Keyed, [1, 1, 1, 1, 1], 1),
    (Safe, InsufficientScope, Other, [1, 1, 1, 1, 1], 1),
    (Safe, InsufficientAuthentication, Idempotent, [1, 1, 1, 1, 1], 1),
    (Safe, InsufficientAuthentication, Keyed, [1, 1, 1, 1, 1], 1),
    (Safe, InsufficientAuthentication, Other, [1, 1, 1, 1, 1], 1),
    (Safe, Forbidden, Idempotent, [1, 1, 1, 1, 1], 1),
    (Safe, Forbidden, Keyed, [1, 1, 1, 1, 1], 1),
    (Safe, Forbidden, Other, [1, 1, 1, 1, 1], 1),
    (Never, NoReason, Idempotent, [1, 1, 1, 1, 1], 2),
    (Never, NoReason, Keyed, [1, 1, 1, 1, 1], 2),
    (Never, NoReason, Other, [1, 1, 1, 1, 1], 2),
    (Never, InvalidToken, Idempotent, [1, 1, 1, 1, 1], 2),
    (Never, InvalidToken, Keyed, [1, 1, 1, 1, 1], 2),
    (Never, InvalidToken, Other, [1, 1, 1, 1, 1], 2),
    (Never, Grpc, Idempotent, [1, 1, 1, 1, 1], 2),
    (Never, Grpc, Keyed, [1, 1, 1, 1, 1], 2),
    (Never, Grpc, Other, [1, 1, 1, 1, 1], 2),
    (Never, InsufficientScope, Idempotent, [1, 1, 1, 1, 1], 1),
    (Never, InsufficientScope, Keyed, [1, 1, 1, 1, 1], 1),
    (Never, InsufficientScope, Other, [1, 1, 1, 1, 1], 1),
    (Never, InsufficientAuthentication, Idempotent, [1, 1, 1, 1, 1], 1),
    (Never, InsufficientAuthentication, Keyed, [1, 1, 1, 1, 1], 1),
    (Never, InsufficientAuthentication, Other, [1, 1, 1, 1, 1], 1),
    (Never, Forbidden, Idempotent, [1, 1, 1, 1, 1], 1),
    (Never, Forbidden, Keyed, [1, 1, 1, 1, 1], 1),
    (Never, Forbidden, Other, [1, 1, 1, 1, 1], 1),
    (Always, NoReason, Idempotent, [2, 2, 2, 1, 1], 2),
    (Always, NoReason, Keyed, [2, 2, 2, 1, 1], 2),
    (Always, NoReason, Other, [2, 2, 2, 1, 1], 2),
    (Always, InvalidToken, Idempotent, [2, 2, 2, 1, 1], 2),
    (Always, InvalidToken, Keyed, [2, 2, 2, 1, 1], 2),
    (Always, InvalidToken, Other, [2, 2, 2, 1, 1], 2),
    (Always, Grpc, Idempotent, [2, 2, 2, 1, 1], 2),
    (Always, Grpc, Keyed, [2, 2, 2, 1, 1], 2),
    (Always, Grpc, Other, [2, 2, 2, 1, 1], 2),
    (Always, InsufficientScope, Idempotent, [1, 1, 1, 1, 1], 1),
    (Always, InsufficientScope, Keyed, [1, 1, 1, 1, 1], 1),
    (Always, InsufficientScope, Other, [1, 1, 1, 1, 1], 1),
    (Always, InsufficientAuthentication, Idempotent, [1, 1, 1, 1, 1], 1),
    (Always, InsufficientAuthentication, Keyed, [1, 1, 1, 1, 1], 1),
    (Always, InsufficientAuthentication, Other, [1, 1, 1, 1, 1], 1),
    (Always, Forbidden, Idempotent, [1, 1, 1, 1, 1], 1),
    (Always, Forbidden, Keyed, [1, 1, 1, 1, 1], 1),
    (Always, Forbidden, Other, [1, 1, 1, 1, 1], 1),
];

impl Reply {
    const ALL: [(&'static str, Self); 6] = [
        ("401 without a reason", NoReason),
        ("401 invalid_token", InvalidToken),
        ("gRPC status 16", Grpc),
        ("401 insufficient_scope", InsufficientScope),
        ("401 insufficient_user_authentication", InsufficientAuthentication),
        ("403", Forbidden),
    ];

    fn response(self) -> Response<Full<Bytes>> {
        match self {
            NoReason => rejection(""),
            InvalidToken => rejection(INVALID_TOKEN),
            InsufficientScope => rejection("Bearer error=\"insufficient_scope\", scope=\"pay\""),
            InsufficientAuthentication => rejection("Bearer error=\"insufficient_user_authentication\""),
            Forbidden => response(StatusCode::FORBIDDEN),
            Grpc => {
                let mut response = response(StatusCode::OK);
                response.headers_mut().insert("grpc-status", "16".parse().unwrap());
                response.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
                response
            }
        }
    }
}

impl Kind {
    const ALL: [(&'static str, Self); 3] = [("idempotent", Idempotent), ("keyed", Keyed), ("other", Other)];

    /// Every method of this kind, with each key that does not change the kind.
    fn requests(self) -> Vec<(Method, Option<&'static str>)> {
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        let others = [Method::POST, Method::PATCH, Method::CONNECT, "TRANSFER".parse().unwrap()];
        let (methods, keys): (&[Method], &[Option<&'static str>]) = match self {
            Idempotent => (&idempotent, &[None, Some("k-1")]),
            Keyed => (&others, &[Some("k-1"), Some("\"k-2\""), Some(" k-3 ")]),
            Other => (&others, &[None, Some(""), Some("\"\"")]),
        };
        methods.iter().flat_map(|method| keys.iter().map(|key| (method.clone(), *key))).collect()
    }
}

/// A value in the extensions of the request.
#[derive(Clone, Debug, PartialEq)]
struct Order(u32);

fn request<B>(method: &Method, key: Option<&str>, body: B) -> Request<B> {
    let mut request = Request::builder()
        .method(method)
        .uri("https://api.example.com/pay?x=1")
        .version(Version::HTTP_2)
        .header("x-trace", "1")
        .header("x-trace", "2")
        .header("authorization", "Bearer of-the-caller")
        .extension(Order(7));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(body).unwrap()
}

fn stream() -> Stream {
    let frames = CHUNKS.map(|chunk| Ok::<_, BoxError>(Frame::data(Bytes::from(chunk))));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

fn length() -> usize {
    CHUNKS.concat().len()
}

fn buffered(limit: usize) -> Buffered<fn(ReplayBody<Stream>) -> Stream> {
    Buffered::new(limit, |body| body.boxed_unsync())
}

/// Sends one request, and its first token is rejected. Returns how often it was sent, and the number of token requests.
async fn run<B, R>(row: &Row, request: Request<B>, bodies: R, bytes: &str, no_copy: ReplayOutcome) -> (usize, usize)
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Bodies<B>,
{
    let (mode, reply, ..) = *row;
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let api = Api::new(move |request| match bearer(request) {
        "token-1" => reply.response(),
        _ => response(StatusCode::CREATED),
    });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().replay(mode).bodies(bodies);
    let what = format!("{row:?} {} {:?}", request.method(), request.headers().get("idempotency-key"));
    let got = layer.layer(api.clone()).oneshot(request).await.unwrap();
    // A fetch without a waiter runs in a task of its own.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;

    let sends = api.sends();
    let expected = if sends.len() == 2 { response(StatusCode::CREATED) } else { reply.response() };
    assert_eq!(got.status(), expected.status(), "{what}");
    let reason = Audit::of(&got).map(|audit| (usize::from(audit.sends), audit.replay));
    assert_eq!(reason, reason_for(row, sends.len(), no_copy), "{what}");
    let body = got.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, expected.into_body().collect().await.unwrap().to_bytes(), "the body is complete: {what}");
    for (sent, token) in sends.iter().zip(["token-1", "token-2"]) {
        assert_eq!(bearer(sent), token, "{what}");
        assert_eq!(sent.body(), bytes, "{what}");
        assert_same(&sends[0], sent);
    }
    (sends.len(), fetches.count())
}

/// The audit that the response must have: the sends, and why the request was or was not replayed.
fn reason_for(row: &Row, sends: usize, no_copy: ReplayOutcome) -> Option<(usize, ReplayOutcome)> {
    let (mode, reply, kind, ..) = *row;
    let is_rejection = matches!(reply, NoReason | InvalidToken | Grpc);
    let reason = match (sends, mode) {
        _ if !is_rejection => return None,
        (2, _) => ReplayOutcome::Replayed,
        (_, Never) => ReplayOutcome::Off,
        _ if no_copy != ReplayOutcome::Replayed => no_copy,
        _ => {
            assert_eq!((reply, kind), (NoReason, Other), "only this row is not safe to replay");
            ReplayOutcome::NotSafe
        }
    };
    Some((sends, reason))
}

// R20: only the token differs.
fn assert_same(first: &Request<Bytes>, second: &Request<Bytes>) {
    assert_eq!((first.method(), first.uri(), first.version()), (second.method(), second.uri(), second.version()));
    assert_eq!((first.body(), second.extensions().get::<Order>()), (second.body(), Some(&Order(7))));
    let [first, second] = [first, second].map(|request| {
        let mut headers = request.headers().clone();
        headers.remove("authorization");
        headers
    });
    assert_eq!(first, second);
    assert_eq!(first.get_all("x-trace").iter().count(), 2);
}

// R15, R18, R19, R20: each cell, for every method and key of its row.
#[tokio::test(start_paused = true)]
async fn a_request_is_sent_as_often_as_its_cell_of_the_table_says() {
    let (mut cells, mut calls) = (0, 0);
    for row in &TABLE {
        let (_, _, kind, expected, tokens) = *row;
        let whole = CHUNKS.concat();
        for (method, key) in kind.requests() {
            let full = |bytes: &str| request(&method, key, Full::new(Bytes::from(bytes.to_owned())));
            let streamed = || request(&method, key, stream());
            let made = ReplayOutcome::Replayed;
            let columns: [Vec<(usize, usize)>; 5] = [
                vec![
                    run(row, full(""), Empty, "", made).await,
                    run(row, full(""), Cloned, "", made).await,
                    run(row, request(&method, key, Stream::default()), buffered(0), "", made).await,
                ],
                vec![run(row, full(&whole), Cloned, &whole, made).await],
                vec![
                    run(row, streamed(), buffered(length()), &whole, made).await,
                    run(row, streamed(), buffered(usize::MAX), &whole, made).await,
                ],
                vec![run(row, streamed(), buffered(length() - 1), &whole, ReplayOutcome::NoCopy).await],
                vec![
                    run(row, full(&whole), Empty, &whole, ReplayOutcome::NoCopy).await,
                    run(row, streamed(), Empty, &whole, ReplayOutcome::NoCopy).await,
                    run(row, full(&whole), Off, &whole, ReplayOutcome::Off).await,
                    run(row, full(""), Off, "", ReplayOutcome::Off).await,
                ],
            ];
            for (column, (found, sends)) in columns.iter().zip(expected).enumerate() {
                for counted in found {
                    assert_eq!(*counted, (sends, tokens), "{row:?} {method} {key:?}, column {column}");
                    calls += 1;
                }
            }
        }
        cells += expected.len();
    }
    println!("{cells} cells, {calls} requests");
    assert_eq!((cells, calls), (270, 54 / 3 * 11 * (10 + 12 + 12)));
}

#[test]
fn a_mode_prints_and_parses_its_name() {
    for (mode, name) in [(Never, "never"), (Safe, "safe"), (Always, "always")] {
        assert_eq!(mode.to_string(), name);
        assert_eq!(name.parse::<Mode>().unwrap(), mode);
    }
    assert_eq!(format!("{:>6}|{:<6}|", Safe, Never), "  safe|never |");
    assert_eq!(Mode::default(), Safe);
    for name in ["", "Safe", "SAFE", " safe", "safe ", "sometimes", "canary"] {
        let error: ConfigError = name.parse::<Mode>().unwrap_err();
        assert_eq!(error.setting(), "replay", "{name}");
        assert_eq!(error.to_string(), "replay: it is not the name of a mode: use never, safe or always");
    }
}

#[test]
fn the_documented_table_is_the_tested_table() {
    let document = include_str!("../../docs/replay.md");
    let mut mode = None;
    let mut rows: Vec<Row> = Vec::new();
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let settings = [("`Mode::Safe`", Safe), ("`Mode::Never`", Never), ("`Mode::Always`", Always)];
            mode = settings.into_iter().find(|(name, _)| title.starts_with(name)).map(|(_, mode)| mode);
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(mode), [reply, kind, sends @ .., tokens]) = (mode, &*cells) else { continue };
        if !line.starts_with('|') || matches!(*reply, "rejection" | "---") {
            continue;
        }
        let reply = Reply::ALL.iter().find(|(name, _)| name == reply).unwrap().1;
        let kind = Kind::ALL.iter().find(|(name, _)| name == kind).unwrap().1;
        let sends: Vec<usize> = sends.iter().map(|cell| cell.parse().unwrap()).collect();
        rows.push((mode, reply, kind, sends.try_into().unwrap(), tokens.parse().unwrap()));
    }
    assert_eq!(rows, TABLE);
    for (index, row) in rows.iter().enumerate() {
        let repeated = rows[..index].iter().any(|earlier| (earlier.0, earlier.1, earlier.2) == (row.0, row.1, row.2));
        assert!(!repeated, "{row:?} occurs twice");
    }
}
