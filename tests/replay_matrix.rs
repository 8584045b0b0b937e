//! Method x idempotency key x body x refusal x setting: how often a request goes out. docs/replay.md says the same.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::replay::{Bodies, Buffered, Cloned, Empty, Mode, Off, ReplayBody};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, ReplayOutcome};

#[path = "common/api.rs"]
mod api;
#[path = "replay/faithful.rs"]
mod faithful;
#[path = "common/issuer.rs"]
mod issuer;
use api::{Api, INVALID_TOKEN, answer as respond, bearer, refused as rejected};
use issuer::{issuer, token};

type Stream = UnsyncBoxBody<Bytes, BoxError>;

const API: &str = "https://api.example.com";
const CHUNKS: [&str; 3] = ["pay ", "100 to ", "alice"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    Bare,
    Explicit,
    Grpc,
    InsufficientScope,
    InsufficientAuthentication,
    Forbidden,
}
use Refused::{Bare, Explicit, Forbidden, Grpc, InsufficientAuthentication, InsufficientScope};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    Idempotent,
    Keyed,
    Other,
}
use Asks::{Idempotent, Keyed, Other};
use Mode::{Always, Never, Safe};

/// Sends for a body that is: empty, cloneable, within the limit, past the limit, without a copy. Then the tokens asked for.
type Row = (Mode, Refused, Asks, [usize; 5], usize);

#[rustfmt::skip]
const TABLE: [Row; 54] = [
    (Safe, Bare, Idempotent, [2, 2, 2, 1, 1], 2),
    (Safe, Bare, Keyed, [2, 2, 2, 1, 1], 2),
    (Safe, Bare, Other, [1, 1, 1, 1, 1], 2),
    (Safe, Explicit, Idempotent, [2, 2, 2, 1, 1], 2),
    (Safe, Explicit, Keyed, [2, 2, 2, 1, 1], 2),
    (Safe, Explicit, Other, [2, 2, 2, 1, 1], 2),
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
    (Never, Bare, Idempotent, [1, 1, 1, 1, 1], 2),
    (Never, Bare, Keyed, [1, 1, 1, 1, 1], 2),
    (Never, Bare, Other, [1, 1, 1, 1, 1], 2),
    (Never, Explicit, Idempotent, [1, 1, 1, 1, 1], 2),
    (Never, Explicit, Keyed, [1, 1, 1, 1, 1], 2),
    (Never, Explicit, Other, [1, 1, 1, 1, 1], 2),
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
    (Always, Bare, Idempotent, [2, 2, 2, 1, 1], 2),
    (Always, Bare, Keyed, [2, 2, 2, 1, 1], 2),
    (Always, Bare, Other, [2, 2, 2, 1, 1], 2),
    (Always, Explicit, Idempotent, [2, 2, 2, 1, 1], 2),
    (Always, Explicit, Keyed, [2, 2, 2, 1, 1], 2),
    (Always, Explicit, Other, [2, 2, 2, 1, 1], 2),
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

impl Refused {
    const ALL: [(&'static str, Self); 6] = [
        ("401 without a reason", Bare),
        ("401 invalid_token", Explicit),
        ("gRPC status 16", Grpc),
        ("401 insufficient_scope", InsufficientScope),
        ("401 insufficient_user_authentication", InsufficientAuthentication),
        ("403", Forbidden),
    ];

    fn answer(self) -> Response<Full<Bytes>> {
        match self {
            Bare => rejected(""),
            Explicit => rejected(INVALID_TOKEN),
            InsufficientScope => rejected("Bearer error=\"insufficient_scope\", scope=\"pay\""),
            InsufficientAuthentication => rejected("Bearer error=\"insufficient_user_authentication\""),
            Forbidden => respond(StatusCode::FORBIDDEN),
            Grpc => {
                let mut response = respond(StatusCode::OK);
                response.headers_mut().insert("grpc-status", "16".parse().unwrap());
                response.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
                response
            }
        }
    }
}

impl Asks {
    const ALL: [(&'static str, Self); 3] = [("idempotent", Idempotent), ("keyed", Keyed), ("other", Other)];

    /// Every method that the class holds, each with every key that does not change its class.
    fn requests(self) -> Vec<(Method, Option<&'static str>)> {
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
        let others = [Method::POST, Method::PATCH, Method::CONNECT, "TRANSFER".parse().unwrap()];
        let (methods, keys): (&[Method], _) = match self {
            Idempotent => (&idempotent, [None, Some("k-1")]),
            Keyed => (&others, [Some("k-1"), Some("\"k-2\"")]),
            Other => (&others, [None, Some("")]),
        };
        methods.iter().flat_map(|method| keys.map(|key| (method.clone(), key))).collect()
    }
}

/// Something that a caller keeps in the request's extensions.
#[derive(Clone, Debug, PartialEq)]
struct Order(u32);

fn request<B>(method: &Method, key: Option<&str>, body: B) -> Request<B> {
    let mut request = Request::builder()
        .method(method)
        .uri("https://api.example.com/pay?x=1")
        .version(Version::HTTP_2)
        .header("x-trace", "1")
        .header("x-trace", "2")
        .header("authorization", "Bearer the-callers-own")
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

/// One request whose first token is refused: how often it was sent, how many tokens were asked for.
async fn run<B, R>(row: &Row, request: Request<B>, bodies: R, bytes: &str, no_copy: ReplayOutcome) -> (usize, usize)
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Bodies<B>,
{
    let (when, refusal, ..) = *row;
    let (provider, asked) = issuer(|n| async move { token(n) });
    let api = Api::new(move |request| match bearer(request) {
        "token-1" => refusal.answer(),
        _ => respond(StatusCode::CREATED),
    });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().replay(when).bodies(bodies);
    let what = format!("{row:?} {} {:?}", request.method(), request.headers().get("idempotency-key"));
    let response = layer.layer(api.clone()).oneshot(request).await.unwrap();
    // A renewal that nobody waits for has a task of its own.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;

    let sends = api.sends();
    let expected = if sends.len() == 2 { respond(StatusCode::CREATED) } else { refusal.answer() };
    assert_eq!(response.status(), expected.status(), "{what}");
    let reason = Audit::of(&response).map(|audit| (usize::from(audit.sends), audit.replay));
    assert_eq!(reason, reason_for(row, sends.len(), no_copy), "{what}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, expected.into_body().collect().await.unwrap().to_bytes(), "the answer is whole: {what}");
    for (sent, token) in sends.iter().zip(["token-1", "token-2"]) {
        assert_eq!(bearer(sent), token, "{what}");
        assert_eq!(sent.body(), bytes, "{what}");
        assert_same(&sends[0], sent);
    }
    (sends.len(), asked.count())
}

/// Why it was or was not sent again, as the answer says it.
fn reason_for(row: &Row, sends: usize, no_copy: ReplayOutcome) -> Option<(usize, ReplayOutcome)> {
    let (when, refusal, asks, ..) = *row;
    let curable = matches!(refusal, Bare | Explicit | Grpc);
    let reason = match (sends, when) {
        _ if !curable => return None,
        (2, _) => ReplayOutcome::Made,
        (_, Never) => ReplayOutcome::Off,
        _ if no_copy != ReplayOutcome::Made => no_copy,
        _ => {
            assert_eq!((refusal, asks), (Bare, Other), "only this is held back for safety");
            ReplayOutcome::NotSafe
        }
    };
    Some((sends, reason))
}

// R20: all but the token is as it was.
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

// R15, R18, R19, R20: each cell, for every method and key that it stands for.
#[tokio::test(start_paused = true)]
async fn each_cell_of_the_table_is_sent_as_often_as_it_says() {
    let (mut cells, mut calls) = (0, 0);
    for row in &TABLE {
        let (_, _, asks, expected, tokens) = *row;
        let whole = CHUNKS.concat();
        for (method, key) in asks.requests() {
            let full = |bytes: &str| request(&method, key, Full::new(Bytes::from(bytes.to_owned())));
            let streamed = || request(&method, key, stream());
            let made = ReplayOutcome::Made;
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
    assert_eq!((cells, calls), (270, 54 / 3 * 11 * (12 + 8 + 8)));
}

#[test]
fn the_documented_table_is_the_tested_one() {
    let document = include_str!("../docs/replay.md");
    let mut when = None;
    let mut rows: Vec<Row> = Vec::new();
    for line in document.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let settings = [("`Mode::Safe`", Safe), ("`Mode::Never`", Never), ("`Mode::Always`", Always)];
            when = settings.into_iter().find(|(name, _)| title.starts_with(name)).map(|(_, when)| when);
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(when), [refusal, asks, sends @ .., tokens]) = (when, &*cells) else { continue };
        if !line.starts_with('|') || matches!(*refusal, "rejection" | "---") {
            continue;
        }
        let refusal = Refused::ALL.iter().find(|(name, _)| name == refusal).unwrap().1;
        let asks = Asks::ALL.iter().find(|(name, _)| name == asks).unwrap().1;
        let sends: Vec<usize> = sends.iter().map(|cell| cell.parse().unwrap()).collect();
        rows.push((when, refusal, asks, sends.try_into().unwrap(), tokens.parse().unwrap()));
    }
    assert_eq!(rows, TABLE);
    for (index, row) in rows.iter().enumerate() {
        let twice = rows[..index].iter().any(|earlier| (earlier.0, earlier.1, earlier.2) == (row.0, row.1, row.2));
        assert!(!twice, "{row:?} is there twice");
    }
}
