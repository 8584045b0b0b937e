//! Rejections in response bodies (Aeropay's pages on error bodies): which responses are marked, and that none is
//! changed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{
    Audit, BearerAuthLayer, DynProvider, Error, ErrorKind, FetchContext, IssuedToken, Rejection, ReplayOutcome,
    ResponseHead, TokenProvider, TokenSource, replay,
};

use super::fake::settings;
use crate::support::responses::response_with;

const BOTH: [ApiVersion; 2] = [ApiVersion::V1, ApiVersion::V2];
const LIMIT: usize = 64 * 1024;

/// A response with the headers of Aeropay's responses.
fn api_response(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let body = body.into();
    let mut response = response_with(http::StatusCode::from_u16(status).unwrap(), body.clone());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response.headers_mut().insert("content-length", HeaderValue::from(body.len()));
    response.headers_mut().insert("x-other", HeaderValue::from_static("kept"));
    response
}

fn stamped(version: ApiVersion) -> Request<()> {
    let name = if version == ApiVersion::V1 { "authorizationToken" } else { "authorization" };
    Request::get("/user").header(name, "Bearer abc").body(()).unwrap()
}

/// What a `RejectionLayer` makes of this response.
async fn through<B>(layer: RejectionLayer, request: Request<()>, response: Response<B>) -> Response<RejectionBody<B>>
where
    B: Body + Send + 'static,
{
    let mut response = Some(response);
    let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.take().unwrap())));
    layer.layer(inner).oneshot(request).await.unwrap()
}

/// A provider that records whether the layer calls `rejection`, which it does if there is no mark. Its second fetch
/// fails, so that the caller gets the first response.
#[derive(Clone, Default)]
struct Probe {
    called: Arc<AtomicBool>,
    fetches: Arc<AtomicUsize>,
}

impl TokenProvider for Probe {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        match self.fetches.fetch_add(1, Ordering::SeqCst) {
            0 => IssuedToken::bearer("first"),
            _ => Err(Error::new(ErrorKind::Config, "one token is enough")),
        }
    }

    fn rejection(&self, _: &ResponseHead<'_>) -> Option<Rejection> {
        self.called.store(true, Ordering::SeqCst);
        None
    }
}

/// The mark of a response, as the layer above reads it. The outer `None` means no mark.
async fn mark_of<B>(response: Response<B>) -> (Option<Option<Rejection>>, Response<B>)
where
    B: Body + Send + 'static,
{
    let probe = Probe::default();
    let response = Arc::new(parking_lot::Mutex::new(Some(response)));
    let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.lock().take().unwrap())));
    let layer = BearerAuthLayer::new(probe.clone()).audit_all().bodies(replay::Cloned);
    // A `POST` is replayed only for `InvalidToken`.
    let response = layer.layer(inner).oneshot(Request::post("/").body(()).unwrap()).await.unwrap();
    let mark = match Audit::of(&response).unwrap().replay {
        ReplayOutcome::RefreshFailed(_) => Some(Some(Rejection::InvalidToken)),
        ReplayOutcome::NotSafe => Some(Some(Rejection::Unspecified)),
        ReplayOutcome::NotNeeded => (!probe.called.load(Ordering::SeqCst)).then_some(None),
        other => panic!("{other:?}"),
    };
    (mark, response)
}

async fn marked(version: ApiVersion, response: Response<Full<Bytes>>) -> Option<Option<Rejection>> {
    let (head, body) = response.into_parts();
    let sent = body.clone().collect().await.unwrap().to_bytes();
    let before = (head.status, head.headers.clone());
    let response = through(RejectionLayer::new(version), stamped(version), Response::from_parts(head, body)).await;
    assert_eq!((response.status(), response.headers().clone()), before);
    let (mark, response) = mark_of(response).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), sent, "a byte was changed");
    mark
}

/// The forms in which Aeropay sends a code.
fn forms(code: &str) -> [String; 5] {
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
async fn each_code_is_marked_according_to_the_glossary() {
    use Rejection::{InvalidToken, Unspecified};
    for (code, with_200, with_401, with_403) in [
        ("AP001", None, None, None),
        ("AP002", None, Some(Unspecified), None),
        ("AP003", None, None, None),
        ("AP004", None, None, None),
        ("AP005", Some(Unspecified), Some(Unspecified), Some(Unspecified)),
        ("AP006", None, None, None),
        ("AP007", Some(InvalidToken), Some(InvalidToken), Some(InvalidToken)),
        ("AP008", Some(InvalidToken), Some(InvalidToken), Some(InvalidToken)),
        ("AP009", None, None, None),
        ("AP010", None, None, None),
        ("AP011", None, None, None),
        ("AP101", Some(Unspecified), Some(Unspecified), Some(Unspecified)),
        ("AP700", None, None, None),
        ("AP701", None, None, None),
        ("AP800", None, None, None),
        ("AP317", None, None, None),
    ] {
        for version in BOTH {
            for body in forms(code) {
                for (status, expected) in [(200, with_200), (401, with_401), (403, with_403)] {
                    let mark = marked(version, api_response(status, body.clone())).await;
                    assert_eq!(mark, Some(expected), "{version:?} {status} {body}");
                }
                // A response with another status is not read.
                for status in [201, 202, 400, 404, 429, 500, 503] {
                    assert_eq!(marked(version, api_response(status, body.clone())).await, None, "{status} {body}");
                }
            }
        }
    }
}

// 2.4, 2.6, 2.8, 2.11: responses that look like a rejection.
#[tokio::test]
async fn a_response_that_only_looks_like_a_rejection_is_not_marked() {
    for (status, body) in [
        // The token of `aggregatorCredentials`, in both versions, and that of `POST /user`.
        (200, r#"{"fastlinkURL":"https://sync.aero.inc","token":"AP007","username":"u"}"#),
        (200, r#"{"success": true, "fastlinkURL":"https://x","token":"eyJ0","username":"u"}"#),
        (200, r#"{"success": true, "user": {"token": "None", "code": "AP007"}}"#),
        // The gateway, for an unknown route.
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
        // A success that contains a code.
        (200, r#"{"success": true, "error": null, "code": "AP007"}"#),
        (200, r#"{"success": true, "code": "AP007"}"#),
        (200, r#"{"success": true, "error": {"code": "AP007"}}"#),
        (200, r#"{"error": null, "code": "AP008"}"#),
        (200, r#"{"code": "AP008", "message": "a log line"}"#),
        (200, r#"{"transactions": [{"error": {"code": "AP007"}, "success": false}]}"#),
        (200, r#"{"data": {"error": {"code": "AP007"}}}"#),
        (200, "{}"),
        // Unknown codes.
        (200, r#"{"success": false, "code": "ap007"}"#),
        (200, r#"{"success": false, "code": "AP0070"}"#),
        (200, r#"{"success": false, "code": " AP007"}"#),
        (200, r#"{"success": false, "code": 7}"#),
        (200, r#"{"success": false, "code": ["AP007"]}"#),
        // Not a JSON object, or an ambiguous one.
        (200, r#"[{"success": false, "code": "AP007"}]"#),
        (200, r#""AP007""#),
        (200, r#"{"success": false, "code": "AP007"} {}"#),
        (200, r#"{"success": false, "code": "AP007""#),
        (200, r#"{"code": "AP007", "success": true, "success": false}"#),
        (200, "<html>AP007</html>"),
        (401, ""),
    ] {
        for version in BOTH {
            assert_eq!(marked(version, api_response(status, body)).await, None, "{status} {body}");
        }
    }
}

#[tokio::test]
async fn a_top_level_code_counts_with_an_error_status() {
    assert_eq!(
        marked(ApiVersion::V2, api_response(401, r#"{"code": "AP008", "message": "x"}"#)).await,
        Some(Some(Rejection::InvalidToken))
    );
}

/// A body that must not be polled.
struct Unreadable(Full<Bytes>);

impl Body for Unreadable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was read")
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

const REJECTION: &str = r#"{"success": false, "code": "AP007", "error": "Token has expired"}"#;

#[tokio::test]
async fn streaming_compressed_large_and_other_bodies_are_not_read() {
    type Change = fn(&mut HeaderMap);
    let changes: [(&str, Change); 15] = [
        ("no length", |h| drop(h.remove("content-length"))),
        ("too long", |h| drop(h.insert("content-length", HeaderValue::from(LIMIT + 1)))),
        ("empty", |h| drop(h.insert("content-length", HeaderValue::from(0)))),
        ("two lengths", |h| assert!(h.append("content-length", HeaderValue::from(7)))),
        ("a length with a sign", |h| drop(h.insert("content-length", HeaderValue::from_static("+66")))),
        ("a negative length", |h| drop(h.insert("content-length", HeaderValue::from_static("-1")))),
        ("a huge length", |h| drop(h.insert("content-length", HeaderValue::from_static("99999999999999999999999")))),
        ("gzip", |h| drop(h.insert("content-encoding", HeaderValue::from_static("gzip")))),
        ("explicit identity", |h| drop(h.insert("content-encoding", HeaderValue::from_static("identity")))),
        ("no type", |h| drop(h.remove("content-type"))),
        ("html", |h| drop(h.insert("content-type", HeaderValue::from_static("text/html")))),
        ("text", |h| drop(h.insert("content-type", HeaderValue::from_static("text/plain; x=application/json")))),
        ("lines", |h| drop(h.insert("content-type", HeaderValue::from_static("application/jsonl")))),
        ("events", |h| drop(h.insert("content-type", HeaderValue::from_static("text/event-stream")))),
        ("two types", |h| assert!(h.append("content-type", HeaderValue::from_static("application/json")))),
    ];
    for version in BOTH {
        for (what, change) in changes {
            let mut response = api_response(200, REJECTION).map(Unreadable);
            change(response.headers_mut());
            let headers = response.headers().clone();
            let response = through(RejectionLayer::new(version), stamped(version), response).await;
            assert_eq!(*response.headers(), headers, "{what}");
            assert_eq!(mark_of(response).await.0, None, "{what}");
        }
        // A request without the token header of this version.
        let foreign = Request::get("/user").header("x-api-key", "abc").body(()).unwrap();
        let response =
            through(RejectionLayer::new(version), foreign, api_response(200, REJECTION).map(Unreadable)).await;
        assert_eq!(mark_of(response).await.0, None);
        // Another limit.
        let small = RejectionLayer::new(version).limit(REJECTION.len() - 1);
        through(small, stamped(version), api_response(200, REJECTION).map(Unreadable)).await;
        let exact = RejectionLayer::new(version).limit(REJECTION.len());
        let response = through(exact, stamped(version), api_response(200, REJECTION)).await;
        assert_eq!(mark_of(response).await.0, Some(Some(Rejection::InvalidToken)));
    }
}

#[tokio::test]
async fn every_json_content_type_is_read() {
    for name in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/problem+json",
    ] {
        let mut response = api_response(200, REJECTION);
        response.headers_mut().insert("content-type", HeaderValue::from_static(name));
        assert_eq!(marked(ApiVersion::V1, response).await, Some(Some(Rejection::InvalidToken)), "{name}");
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
async fn frames_trailers_and_errors_are_passed_on_without_a_change() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    let complete = || {
        vec![
            data(r#"{"success": false,"#),
            data(""),
            data(r#""code": "AP007"}"#),
            Ok(Frame::trailers(trailers.clone())),
        ]
    };
    let length = r#"{"success": false,"code": "AP007"}"#.len();
    let of = |length: usize, parts| {
        let mut response = api_response(200, "").map(|_| frames(parts));
        response.headers_mut().insert("content-length", HeaderValue::from(length));
        through(RejectionLayer::new(ApiVersion::V1), stamped(ApiVersion::V1), response)
    };
    let response = of(length, complete()).await;
    let (mark, response) = mark_of(response).await;
    assert_eq!(mark, Some(Some(Rejection::InvalidToken)));
    assert!(response.body().size_hint().lower() >= length as u64);
    assert!(!response.body().is_end_stream());
    let expected = seen(Box::pin(frames(complete()))).await;
    assert_eq!(seen(Box::pin(response.into_body())).await, expected);

    // Incomplete, or longer or shorter than declared: passed on without a mark.
    let cut = || vec![data(r#"{"success": false,"#), Err(std::io::Error::other("broken"))];
    for (length, parts) in [(length, cut()), (length - 1, complete()), (length + 1, complete()), (4, complete())] {
        let response = of(length, parts).await;
        let (mark, response) = mark_of(response).await;
        assert_eq!(mark, None, "{length}");
        let shown = seen(Box::pin(response.into_body())).await;
        assert!(shown == expected || shown == [r#"{"success": false,"#, "error broken"], "{shown:?}");
    }
}

#[tokio::test]
async fn a_frame_with_several_chunks_is_not_split() {
    let half = REJECTION.len() / 2;
    let pieces = Bytes::from(&REJECTION[..half]).chain(Bytes::from(&REJECTION[half..]));
    let response = api_response(200, "").map(|_| Full::new(pieces));
    let (mut head, body) = response.into_parts();
    head.headers.insert("content-length", HeaderValue::from(REJECTION.len()));
    let response =
        through(RejectionLayer::new(ApiVersion::V1), stamped(ApiVersion::V1), Response::from_parts(head, body)).await;
    let (mark, response) = mark_of(response).await;
    assert_eq!(mark, None);
    assert_eq!(response.body().size_hint().exact(), Some(REJECTION.len() as u64));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), REJECTION);
}

/// An API that sends each response once, and then the last one again. It counts the requests.
#[derive(Clone)]
struct Api {
    responses: Arc<Vec<(u16, &'static str)>>,
    calls: Arc<AtomicUsize>,
    tokens: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Api {
    fn sending(responses: &[(u16, &'static str)]) -> Self {
        Self { responses: Arc::new(responses.to_vec()), calls: Arc::default(), tokens: Arc::default() }
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
        let (status, body) = self.responses[nth.min(self.responses.len() - 1)];
        async move { Ok(api_response(status, body).map(BoxBody::new)) }.boxed()
    }
}

/// An issuer with numbered tokens.
fn numbered(version: ApiVersion) -> (TokenSource<tower_bearer_auth::Aeropay>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let issuer = {
        let count = Arc::clone(&count);
        tower::service_fn(move |_: Request<Bytes>| {
            let nth = count.fetch_add(1, Ordering::SeqCst);
            let body = format!(r#"{{"TTL": 1800, "token": "t{nth}"}}"#);
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))))
        })
    };
    let provider = settings(version, TokenClient::new(issuer)).build().unwrap();
    (TokenSource::new(provider), count)
}

/// The response that the caller gets, the number of API requests, and the number of token requests.
async fn call(
    version: ApiVersion,
    request: Request<Full<Bytes>>,
    responses: &[(u16, &'static str)],
) -> (Response<Bytes>, usize, usize) {
    let (source, minted) = numbered(version);
    let api = Api::sending(responses);
    let layer = aeropay::layer(source.layer().bodies(replay::Cloned));
    let response = layer.layer(api.clone()).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, body), api.calls.load(Ordering::SeqCst), minted.load(Ordering::SeqCst))
}

const DONE: (u16, &str) = (200, r#"{"success": true, "error": null}"#);
const EXPIRED: (u16, &str) = (200, REJECTION);

fn at(method: &str, path: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).extension(aeropay::UserId::from("1"));
    request.body(Full::from("{}")).unwrap()
}

// R18: the server did not apply a request with an invalid token, whatever the method.
#[tokio::test]
async fn a_rejection_in_a_200_is_replayed_with_a_new_token() {
    for (method, path) in [("GET", "/user"), ("POST", "/transaction"), ("GET", "/reverseTransaction")] {
        let (response, sends, minted) = call(ApiVersion::V1, at(method, path), &[EXPIRED, DONE]).await;
        assert_eq!(response.body(), DONE.1, "{method} {path}");
        assert_eq!((sends, minted), (2, 2), "{method} {path}");
        let audit = Audit::of(&response).unwrap();
        assert_eq!((audit.sends, audit.replay), (2, ReplayOutcome::Replayed));
    }
    for rejected in [(401, r#"{"error":{"code":"AP008","message":"Invalid token."}}"#), (403, REJECTION), EXPIRED] {
        let (response, sends, minted) = call(ApiVersion::V2, at("POST", "/v2/transaction"), &[rejected, DONE]).await;
        assert_eq!(response.body(), DONE.1);
        assert_eq!((sends, minted), (2, 2));
    }
}

#[tokio::test]
async fn a_response_that_a_new_token_does_not_change_reaches_the_caller() {
    for rejected in [
        (401, r#"{"error":{"code":"AP006","message":"Client is not authorized for this scope."}}"#),
        (401, r#"{"error":{"code":"AP009","message":"Unauthorized"}}"#),
        (401, r#"{"error":{"code":"AP003","message":"Account locked"}}"#),
        (401, r#"{"error":{"code":"AP800","message":"No access token for shopify scope: x"}}"#),
        (403, r#"{"message":"Missing Authentication Token"}"#),
        (200, r#"{"error":{"code":"AP302","message":"declined"}}"#),
        (200, r#"{"fastlinkURL":"https://x","token":"AP007","username":"u"}"#),
    ] {
        let (response, sends, minted) = call(ApiVersion::V2, at("GET", "/v2/user"), &[rejected, DONE]).await;
        assert_eq!(response.status().as_u16(), rejected.0);
        assert_eq!(response.body(), rejected.1);
        assert_eq!((sends, minted), (1, 1), "{}", rejected.1);
    }
}

// R18
#[tokio::test]
async fn an_unspecified_rejection_is_replayed_only_if_that_is_safe() {
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

// R17: the caller gets the second rejection.
#[tokio::test]
async fn a_second_rejection_reaches_the_caller() {
    let (response, sends, minted) = call(ApiVersion::V1, at("GET", "/user"), &[EXPIRED]).await;
    assert_eq!((response.body().as_ref(), sends, minted), (REJECTION.as_bytes(), 2, 2));
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::RejectedAgain);
}

#[tokio::test]
async fn the_combined_layer_shares_the_source() {
    let (source, minted) = numbered(ApiVersion::V2);
    let layer = BearerAuthLayer::clone(&source.layer());
    let mut service = aeropay::layer(layer).layer(Api::sending(&[DONE]));
    service.ready().await.unwrap().call(at("POST", "/v2/user")).await.unwrap();
    source.token_for(&Identity::merchant()).await.unwrap();
    assert_eq!(minted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_of_endless_empty_frames_is_passed_on_unread() {
    let mut response = api_response(200, REJECTION).map(drop);
    response.headers_mut().insert("content-length", HeaderValue::from(10));
    let endless = StreamBody::new(stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::new()))));
    let response =
        through(RejectionLayer::new(ApiVersion::V2), stamped(ApiVersion::V2), response.map(|()| endless)).await;
    assert_eq!(mark_of(response).await.0, None);
}

// A rejection in a 200 must not go unseen behind a provider that is chosen at run time.
#[tokio::test]
async fn the_layer_works_with_any_provider_that_has_the_key_of_aeropay() {
    for (version, path) in [(ApiVersion::V1, "/user"), (ApiVersion::V2, "/v2/user")] {
        let count = AtomicUsize::new(0);
        let issuer = tower::service_fn(move |_: Request<Bytes>| {
            let body = format!(r#"{{"TTL": 1800, "token": "t{}"}}"#, count.fetch_add(1, Ordering::SeqCst));
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body))))
        });
        let issuer = tower::ServiceBuilder::new().buffer(1).service(issuer);
        let provider = settings(version, TokenClient::new(issuer));
        let provider: DynProvider<Identity> = DynProvider::new(provider.build().unwrap());
        let api = Api::sending(&[EXPIRED, DONE]);
        let layer = aeropay::layer(BearerAuthLayer::new(provider).bodies(replay::Cloned));
        let response = layer.layer(api.clone()).oneshot(at("GET", path)).await.unwrap();
        assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::Replayed);
        assert_eq!(*api.tokens.lock(), ["Bearer t0", "Bearer t1"]);
    }
}

// As tower's futures do.
#[tokio::test]
async fn a_future_that_is_polled_after_completion_panics() {
    for body in [REJECTION, "<html>"] {
        let mut response = Some(api_response(200, body));
        if body != REJECTION {
            response.as_mut().unwrap().headers_mut().remove("content-type");
        }
        let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.take().unwrap())));
        let mut service = RejectionLayer::new(ApiVersion::V1).layer(inner);
        let mut future = tokio_test::task::spawn(service.call(stamped(ApiVersion::V1)));
        assert!(future.poll().is_ready());
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll().is_ready()));
        assert!(again.is_err());
    }
}
