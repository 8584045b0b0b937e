//! Rejections inside of bodies (Aeropay's pages, the error bodies): what is marked, what is not, and that nothing is changed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_bearer_auth::aeropay::{self, ApiVersion, Identity, RejectionBody, RejectionLayer};
use tower_bearer_auth::{Audit, BearerAuthLayer, Rejection, ReplayOutcome, TokenSource, replay};

use crate::fake::{Issuer, settings};

const BOTH: [ApiVersion; 2] = [ApiVersion::V1, ApiVersion::V2];
const LIMIT: usize = 64 * 1024;

/// An answer with the headers that Aeropay's answers have.
fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let body = body.into();
    let mut response = Response::new(Full::from(body.clone()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response.headers_mut().insert("content-length", HeaderValue::from(body.len()));
    response.headers_mut().insert("x-other", HeaderValue::from_static("kept"));
    response
}

fn stamped(version: ApiVersion) -> Request<()> {
    let name = if version == ApiVersion::V1 { "authorizationToken" } else { "authorization" };
    Request::get("/user").header(name, "Bearer abc").body(()).unwrap()
}

/// What comes out of a `RejectionLayer` over a service that gives this answer.
async fn through<B>(layer: RejectionLayer, request: Request<()>, response: Response<B>) -> Response<RejectionBody<B>>
where
    B: Body + Send + 'static,
{
    let mut response = Some(response);
    let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.take().unwrap())));
    layer.layer(inner).oneshot(request).await.unwrap()
}

async fn marked(version: ApiVersion, response: Response<Full<Bytes>>) -> Option<Rejection> {
    let (head, body) = response.into_parts();
    let sent = body.clone().collect().await.unwrap().to_bytes();
    let before = (head.status, head.headers.clone());
    let response = through(RejectionLayer::new(version), stamped(version), Response::from_parts(head, body)).await;
    assert_eq!((response.status(), response.headers().clone()), before);
    let refusal = response.extensions().get().copied();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent, "a byte was changed");
    refusal
}

/// The shapes in which a code comes, with their statuses.
fn shapes(code: &str) -> [String; 5] {
    [
        format!(r#"{{"success": false, "code": "{code}", "error": "Token has expired"}}"#),
        format!(r#"{{"success": 0, "code": "{code}", "error": "Token has expired"}}"#),
        format!(r#"{{"success": false, "error": {{"code": "{code}", "message": "Token has expired"}}}}"#),
        format!(r#"{{"error": {{"help": "contact support", "code": "{code}", "message": "Token has expired"}}}}"#),
        format!("\n {{\"success\":false,\"error\":{{\"message\":\"x\",\"code\":\"{code}\"}},\"data\":null}}\r\n"),
    ]
}

// 2.7 and 2.8: each code with the statuses 200, 401 and 403, in both versions.
#[tokio::test]
async fn each_code_is_marked_as_the_glossary_has_it() {
    use Rejection::{Bare, Explicit, NotRefused};
    for (code, with_200, with_401, with_403) in [
        ("AP001", NotRefused, NotRefused, NotRefused),
        ("AP002", NotRefused, Bare, NotRefused),
        ("AP003", NotRefused, NotRefused, NotRefused),
        ("AP004", NotRefused, NotRefused, NotRefused),
        ("AP005", Bare, Bare, Bare),
        ("AP006", NotRefused, NotRefused, NotRefused),
        ("AP007", Explicit, Explicit, Explicit),
        ("AP008", Explicit, Explicit, Explicit),
        ("AP009", NotRefused, NotRefused, NotRefused),
        ("AP010", NotRefused, NotRefused, NotRefused),
        ("AP011", NotRefused, NotRefused, NotRefused),
        ("AP101", Bare, Bare, Bare),
        ("AP700", NotRefused, NotRefused, NotRefused),
        ("AP701", NotRefused, NotRefused, NotRefused),
        ("AP800", NotRefused, NotRefused, NotRefused),
        ("AP317", NotRefused, NotRefused, NotRefused),
    ] {
        for version in BOTH {
            for body in shapes(code) {
                for (status, expected) in [(200, with_200), (401, with_401), (403, with_403)] {
                    let refusal = marked(version, answer(status, body.clone())).await;
                    assert_eq!(refusal, Some(expected), "{version:?} {status} {body}");
                }
                // Other statuses are not Aeropay's word on the token.
                for status in [201, 202, 400, 404, 429, 500, 503] {
                    assert_eq!(marked(version, answer(status, body.clone())).await, None, "{status} {body}");
                }
            }
        }
    }
}

// 2.4, 2.6, 2.8, 2.11: the traps.
#[tokio::test]
async fn what_only_looks_like_a_refusal_passes_untouched() {
    for (status, body) in [
        // The token of `aggregatorCredentials`, in both versions, and that of `POST /user`.
        (200, r#"{"fastlinkURL":"https://sync.aero.inc","token":"AP007","username":"u"}"#),
        (200, r#"{"success": true, "fastlinkURL":"https://x","token":"eyJ0","username":"u"}"#),
        (200, r#"{"success": true, "user": {"token": "None", "code": "AP007"}}"#),
        // The gateway, at a route that it does not know.
        (403, r#"{"message":"Missing Authentication Token"}"#),
        (401, r#"{"message":"Unauthorized"}"#),
        // Declines with 200.
        (200, r#"{"success": false, "code": "AP302", "error": "declined"}"#),
        (200, r#"{"error": {"code": "AP307", "message": "declined"}}"#),
        (200, r#"{"success": false, "code": "AP300", "error": "We are having issues connecting to your bank."}"#),
        // Text without a code.
        (200, r#"{"success": false, "error": "Token has expired"}"#),
        (200, r#"{"error": "AP007"}"#),
        (200, r#"{"success": false, "message": "AP007 Invalid token."}"#),
        (401, r#"{"error": {"message": "AP007 Token has expired"}}"#),
        // A success that holds a code somewhere.
        (200, r#"{"success": true, "error": null, "code": "AP007"}"#),
        (200, r#"{"success": true, "code": "AP007"}"#),
        (200, r#"{"success": true, "error": {"code": "AP007"}}"#),
        (200, r#"{"error": null, "code": "AP008"}"#),
        (200, r#"{"code": "AP008", "message": "a log line"}"#),
        (200, r#"{"transactions": [{"error": {"code": "AP007"}, "success": false}]}"#),
        (200, r#"{"data": {"error": {"code": "AP007"}}}"#),
        (200, "{}"),
        // Codes that are none.
        (200, r#"{"success": false, "code": "ap007"}"#),
        (200, r#"{"success": false, "code": "AP0070"}"#),
        (200, r#"{"success": false, "code": " AP007"}"#),
        (200, r#"{"success": false, "code": 7}"#),
        (200, r#"{"success": false, "code": ["AP007"]}"#),
        // What is no JSON object, or not one that everybody reads alike.
        (200, r#"[{"success": false, "code": "AP007"}]"#),
        (200, r#""AP007""#),
        (200, r#"{"success": false, "code": "AP007"} {}"#),
        (200, r#"{"success": false, "code": "AP007""#),
        (200, r#"{"code": "AP007", "success": true, "success": false}"#),
        (200, "<html>AP007</html>"),
        (401, ""),
    ] {
        for version in BOTH {
            assert_eq!(marked(version, answer(status, body)).await, None, "{status} {body}");
        }
    }
}

#[tokio::test]
async fn a_code_at_the_top_of_an_error_status_counts() {
    assert_eq!(
        marked(ApiVersion::V2, answer(401, r#"{"code": "AP008", "message": "x"}"#)).await,
        Some(Rejection::InvalidToken)
    );
}

/// A body that must not be looked at.
struct Untouchable(Full<Bytes>);

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was read")
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

const REFUSAL: &str = r#"{"success": false, "code": "AP007", "error": "Token has expired"}"#;

#[tokio::test]
async fn streaming_compressed_large_and_foreign_bodies_are_not_read() {
    type Change = fn(&mut HeaderMap);
    let changes: [(&str, Change); 15] = [
        ("no length", |h| drop(h.remove("content-length"))),
        ("too long", |h| drop(h.insert("content-length", HeaderValue::from(LIMIT + 1)))),
        ("empty", |h| drop(h.insert("content-length", HeaderValue::from(0)))),
        ("two lengths", |h| assert!(h.append("content-length", HeaderValue::from(7)))),
        ("an odd length", |h| drop(h.insert("content-length", HeaderValue::from_static("+66")))),
        ("a negative length", |h| drop(h.insert("content-length", HeaderValue::from_static("-1")))),
        ("a huge length", |h| drop(h.insert("content-length", HeaderValue::from_static("99999999999999999999999")))),
        ("gzip", |h| drop(h.insert("content-encoding", HeaderValue::from_static("gzip")))),
        ("identity, said aloud", |h| drop(h.insert("content-encoding", HeaderValue::from_static("identity")))),
        ("no type", |h| drop(h.remove("content-type"))),
        ("html", |h| drop(h.insert("content-type", HeaderValue::from_static("text/html")))),
        ("text", |h| drop(h.insert("content-type", HeaderValue::from_static("text/plain; x=application/json")))),
        ("lines", |h| drop(h.insert("content-type", HeaderValue::from_static("application/jsonl")))),
        ("events", |h| drop(h.insert("content-type", HeaderValue::from_static("text/event-stream")))),
        ("two types", |h| assert!(h.append("content-type", HeaderValue::from_static("application/json")))),
    ];
    for version in BOTH {
        for (what, change) in changes {
            let mut response = answer(200, REFUSAL).map(Untouchable);
            change(response.headers_mut());
            let headers = response.headers().clone();
            let response = through(RejectionLayer::new(version), stamped(version), response).await;
            assert_eq!(*response.headers(), headers, "{what}");
            assert_eq!(response.extensions().get::<Rejection>(), None, "{what}");
        }
        // A request that carries no token of this version.
        let foreign = Request::get("/user").header("x-api-key", "abc").body(()).unwrap();
        let response = through(RejectionLayer::new(version), foreign, answer(200, REFUSAL).map(Untouchable)).await;
        assert_eq!(response.extensions().get::<Rejection>(), None);
        // A limit of the user's own.
        let small = RejectionLayer::new(version).limit(REFUSAL.len() - 1);
        through(small, stamped(version), answer(200, REFUSAL).map(Untouchable)).await;
        let just = RejectionLayer::new(version).limit(REFUSAL.len());
        let response = through(just, stamped(version), answer(200, REFUSAL)).await;
        assert_eq!(response.extensions().get(), Some(&Rejection::InvalidToken));
    }
}

#[tokio::test]
async fn json_has_several_names() {
    for name in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/problem+json",
    ] {
        let mut response = answer(200, REFUSAL);
        response.headers_mut().insert("content-type", HeaderValue::from_static(name));
        assert_eq!(marked(ApiVersion::V1, response).await, Some(Rejection::InvalidToken), "{name}");
    }
}

fn frames(
    frames: Vec<Result<Frame<Bytes>, std::io::Error>>,
) -> StreamBody<impl futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>>> {
    StreamBody::new(stream::iter(frames))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

async fn seen<B: Body<Data = Bytes, Error = std::io::Error> + Unpin>(mut body: B) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        seen.push(match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                Err(frame) => format!("trailers {:?}", frame.into_trailers().unwrap()),
            },
            Err(error) => format!("error {error}"),
        });
    }
    seen
}

#[tokio::test]
async fn frames_trailers_and_errors_pass_on_as_they_came() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    let whole = || {
        vec![
            data(r#"{"success": false,"#),
            data(""),
            data(r#""code": "AP007"}"#),
            Ok(Frame::trailers(trailers.clone())),
        ]
    };
    let length = r#"{"success": false,"code": "AP007"}"#.len();
    let of = |length: usize, parts| {
        let mut response = answer(200, "").map(|_| frames(parts));
        response.headers_mut().insert("content-length", HeaderValue::from(length));
        through(RejectionLayer::new(ApiVersion::V1), stamped(ApiVersion::V1), response)
    };
    let response = of(length, whole()).await;
    assert_eq!(response.extensions().get(), Some(&Rejection::InvalidToken));
    assert!(response.body().size_hint().lower() >= length as u64);
    assert!(!response.body().is_end_stream());
    let expected = seen(Box::pin(frames(whole()))).await;
    assert_eq!(seen(Box::pin(response.into_body())).await, expected);

    // Broken off, longer and shorter than was said: passed on, and not judged.
    let cut = || vec![data(r#"{"success": false,"#), Err(std::io::Error::other("torn"))];
    for (length, parts) in [(length, cut()), (length - 1, whole()), (length + 1, whole()), (4, whole())] {
        let response = of(length, parts).await;
        assert_eq!(response.extensions().get::<Rejection>(), None, "{length}");
        let shown = seen(Box::pin(response.into_body())).await;
        assert!(shown == expected || shown == [r#"{"success": false,"#, "error torn"], "{shown:?}");
    }
}

/// Two pieces that cannot be read without taking them apart.
#[tokio::test]
async fn data_in_pieces_is_left_whole() {
    let half = REFUSAL.len() / 2;
    let pieces = Bytes::from(&REFUSAL[..half]).chain(Bytes::from(&REFUSAL[half..]));
    let response = answer(200, "").map(|_| Full::new(pieces));
    let (mut head, body) = response.into_parts();
    head.headers.insert("content-length", HeaderValue::from(REFUSAL.len()));
    let response =
        through(RejectionLayer::new(ApiVersion::V1), stamped(ApiVersion::V1), Response::from_parts(head, body)).await;
    assert_eq!(response.extensions().get::<Rejection>(), None);
    assert_eq!(response.body().size_hint().exact(), Some(REFUSAL.len() as u64));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), REFUSAL);
}

/// An API that gives each answer once, and then the last one for ever, and counts.
#[derive(Clone)]
struct Api {
    answers: Arc<Vec<(u16, &'static str)>>,
    calls: Arc<AtomicUsize>,
    tokens: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Api {
    fn giving(answers: &[(u16, &'static str)]) -> Self {
        Self { answers: Arc::new(answers.to_vec()), calls: Arc::default(), tokens: Arc::default() }
    }
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<BoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let nth = self.calls.fetch_add(1, Ordering::SeqCst);
        let token = ["authorizationtoken", "authorization"].iter().find_map(|name| request.headers().get(*name));
        self.tokens.lock().push(token.unwrap().to_str().unwrap().to_owned());
        let (status, body) = self.answers[nth.min(self.answers.len() - 1)];
        async move { Ok(answer(status, body).map(BoxBody::new)) }.boxed()
    }
}

/// An issuer whose tokens are numbered.
fn numbered(version: ApiVersion) -> (TokenSource<tower_bearer_auth::Aeropay>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let issuer = {
        let count = Arc::clone(&count);
        tower::service_fn(move |_: Request<Full<Bytes>>| {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            let body = format!(r#"{{"TTL": 1800, "token": "t{nth}"}}"#);
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))))
        })
    };
    let provider = settings(version, Issuer::answering(500, "")).http_client(issuer).build().unwrap();
    (TokenSource::new(provider), count)
}

/// What the caller gets, how often the API was called, and how many token requests there were.
async fn call(
    version: ApiVersion,
    request: Request<Full<Bytes>>,
    answers: &[(u16, &'static str)],
) -> (Response<Bytes>, usize, usize) {
    let (source, minted) = numbered(version);
    let api = Api::giving(answers);
    let layer = aeropay::layer(source.layer().bodies(replay::Cloned));
    let response = layer.layer(api.clone()).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, body), api.calls.load(Ordering::SeqCst), minted.load(Ordering::SeqCst))
}

const DONE: (u16, &str) = (200, r#"{"success": true, "error": null}"#);
const EXPIRED: (u16, &str) = (200, REFUSAL);

fn at(method: &str, path: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).extension(aeropay::UserId::from("1"));
    request.body(Full::from("{}")).unwrap()
}

// R18: an explicit refusal was not applied, whatever the method.
#[tokio::test]
async fn a_refusal_inside_a_200_heals() {
    for (method, path) in [("GET", "/user"), ("POST", "/transaction"), ("GET", "/reverseTransaction")] {
        let (response, sends, minted) = call(ApiVersion::V1, at(method, path), &[EXPIRED, DONE]).await;
        assert_eq!(response.body(), DONE.1, "{method} {path}");
        assert_eq!((sends, minted), (2, 2), "{method} {path}");
        let audit = Audit::of(&response).unwrap();
        assert_eq!((audit.sends, audit.replay), (2, ReplayOutcome::Made));
    }
    for refused in [(401, r#"{"error":{"code":"AP008","message":"Invalid token."}}"#), (403, REFUSAL), EXPIRED] {
        let (response, sends, minted) = call(ApiVersion::V2, at("POST", "/v2/transaction"), &[refused, DONE]).await;
        assert_eq!(response.body(), DONE.1);
        assert_eq!((sends, minted), (2, 2));
    }
}

#[tokio::test]
async fn what_no_new_token_would_help_reaches_the_caller_at_once() {
    for refused in [
        (401, r#"{"error":{"code":"AP006","message":"Client is not authorized for this scope."}}"#),
        (401, r#"{"error":{"code":"AP009","message":"Unauthorized"}}"#),
        (401, r#"{"error":{"code":"AP003","message":"Account locked"}}"#),
        (401, r#"{"error":{"code":"AP800","message":"No access token for shopify scope: x"}}"#),
        (403, r#"{"message":"Missing Authentication Token"}"#),
        (200, r#"{"error":{"code":"AP302","message":"declined"}}"#),
        (200, r#"{"fastlinkURL":"https://x","token":"AP007","username":"u"}"#),
    ] {
        let (response, sends, minted) = call(ApiVersion::V2, at("GET", "/v2/user"), &[refused, DONE]).await;
        assert_eq!(response.status().as_u16(), refused.0);
        assert_eq!(response.body(), refused.1);
        assert_eq!((sends, minted), (1, 1), "{}", refused.1);
    }
}

// R18
#[tokio::test]
async fn a_doubtful_refusal_is_replayed_only_where_that_is_safe() {
    let doubtful = (401, r#"{"error":{"code":"AP101","message":"No Authenticated User"}}"#);
    let (response, sends, minted) = call(ApiVersion::V2, at("GET", "/v2/user"), &[doubtful, DONE]).await;
    assert_eq!((response.status().as_u16(), sends, minted), (200, 2, 2));
    let (response, sends, _) = call(ApiVersion::V2, at("POST", "/v2/user"), &[doubtful, DONE]).await;
    assert_eq!((response.status().as_u16(), sends), (401, 1));
    // A GET that moves money.
    let doubtful = (200, r#"{"success": false, "code": "AP101", "error": "No Authenticated User"}"#);
    let (response, sends, _) = call(ApiVersion::V1, at("GET", "/reverseTransaction"), &[doubtful, DONE]).await;
    assert_eq!((response.body().as_ref(), sends), (doubtful.1.as_bytes(), 1));
    let audit = Audit::of(&response).unwrap();
    assert_eq!(audit.replay, ReplayOutcome::NotSafe);
}

// R17: the caller gets the second refusal as it is, and the first one if the renewal fails.
#[tokio::test]
async fn a_refusal_that_no_new_token_ends_is_sent_twice_and_shown() {
    let (response, sends, minted) = call(ApiVersion::V1, at("GET", "/user"), &[EXPIRED]).await;
    assert_eq!((response.body().as_ref(), sends, minted), (REFUSAL.as_bytes(), 2, 2));
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::RejectedAgain);
}

#[tokio::test]
async fn the_stack_is_the_two_layers_and_shares_the_source() {
    let (source, minted) = numbered(ApiVersion::V2);
    let layer = BearerAuthLayer::clone(&source.layer());
    let mut service = aeropay::layer(layer).layer(Api::giving(&[DONE]));
    service.ready().await.unwrap().call(at("POST", "/v2/user")).await.unwrap();
    source.token_for(&Identity::merchant()).await.unwrap();
    assert_eq!(minted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_of_endless_empty_frames_is_passed_on_unread() {
    let mut response = answer(200, REFUSAL).map(drop);
    response.headers_mut().insert("content-length", HeaderValue::from(10));
    let endless = StreamBody::new(stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new()))));
    let response =
        through(RejectionLayer::new(ApiVersion::V2), stamped(ApiVersion::V2), response.map(|()| endless)).await;
    assert_eq!(response.extensions().get::<Rejection>(), None);
}
