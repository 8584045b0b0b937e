//! What the layer stamps on a request, to which origins, and which errors it returns.

mod cached_grant;
mod challenges;
mod completed;
mod credentials;
mod destinations;
mod dyn_provider;
mod errors;
mod marks;
mod rejected_when;
mod stacked;

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{
    Audit, BearerAuth, BearerAuthLayer, BoxError, Error, ErrorKind, ExtensionKey, FetchContext, FixedToken,
    IssuedToken, Origins, ReplayOutcome, RequestHead, ResponseHead, TokenProvider, TokenSource,
};
use tower_test::{assert_request_eq, mock};

use crate::support::api::Api;
use crate::support::issuer::{issuer, token};
use crate::support::responses::{INVALID_TOKEN, bearer, rejection, response};

type Body = Full<Bytes>;

const API: &str = "https://api.example.com";

fn ok(_: &Request<Bytes>) -> Response<Body> {
    response(StatusCode::OK)
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn kind(error: &BoxError) -> Option<ErrorKind> {
    Error::find(&**error).map(Error::kind)
}

#[tokio::test(start_paused = true)]
async fn the_header_is_stamped_once_sensitive_and_exactly_bearer() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let (mut client, mut server) = mock::spawn_layer::<Request<Body>, Response<Body>, _>(layer);
    for _ in 0..2 {
        assert!(client.poll_ready().is_ready());
        let mut call = tokio_test::task::spawn(client.call(get("https://api.example.com/x")));
        let (request, send) = loop {
            // There is no token yet, so the first call waits for the task of the fetch.
            assert!(call.poll().is_pending());
            tokio::task::yield_now().await;
            let _ = call.poll();
            let mut next = tokio_test::task::spawn(server.next_request());
            if let Poll::Ready(arrived) = next.poll() {
                break arrived.unwrap();
            }
        };
        let values: Vec<_> = request.headers().get_all("authorization").iter().collect();
        assert_eq!(values, ["Bearer token-1"]);
        assert!(values[0].is_sensitive());
        send.send_response(response(StatusCode::OK));
        let response = call.await.unwrap();
        assert!(Audit::of(&response).is_none(), "a response that was not rejected has no audit");
    }
    assert_eq!(fetches.count(), 1);
}

// R27: an inbound credential must not leak upstream.
#[tokio::test(start_paused = true)]
async fn the_header_of_the_caller_is_replaced() {
    let api = Api::new(ok);
    let layer = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap()).allow_origin(API).unwrap();
    let client = layer.clone().audit_all();
    let mut request = get("https://api.example.com/");
    for value in ["Bearer of-the-caller", "Basic dGhlaXJz"] {
        request.headers_mut().append("authorization", HeaderValue::from_static(value));
    }
    let response = ServiceBuilder::new().layer(client).service(api.clone()).oneshot(request).await.unwrap();
    assert_eq!(bearer(&api.sends()[0]), "of-the-layer");
    let audit = Audit::of(&response).unwrap();
    assert_eq!((audit.generation, audit.sends, audit.replay), (Some(1), 1, ReplayOutcome::NotNeeded));
    assert_eq!(audit.key(), Some(&()));
}

// R27: such a request is sent as it is, and its 401 is passed on.
#[tokio::test(start_paused = true)]
async fn if_not_present_keeps_the_header_of_the_caller_and_passes_its_rejection_on() {
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().if_not_present();
    let source = layer.source().clone();
    for audit in [false, true] {
        let mut request = get("https://api.example.com/");
        request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer of-the-caller"));
        let layer = if audit { layer.clone().audit_all() } else { layer.clone() };
        let client = layer.layer_over(api.clone());
        let response = client.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(Audit::of(&response).map(|audit| audit.replay), audit.then_some(ReplayOutcome::NotStamped));
        if let Some(audit) = Audit::of(&response) {
            assert_eq!((audit.generation, audit.key::<()>(), audit.sends), (None, None, 1));
        }
    }
    let sends = api.sends();
    assert_eq!(sends.iter().map(|sent| bearer(sent)).collect::<Vec<_>>(), ["of-the-caller", "of-the-caller"]);
    assert_eq!((fetches.count(), source.stats().rejections), (0, 0));

    // A request without the header is stamped and replayed.
    let response = layer.layer_over(api.clone()).oneshot(get("https://api.example.com/")).await.unwrap();
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::RejectedAgain);
    assert_eq!(
        api.sends().iter().map(|sent| bearer(sent)).collect::<Vec<_>>(),
        ["of-the-caller", "of-the-caller", "token-1", "token-2"]
    );
}

// R25, R27: the layer changes nothing in the request, and it passes the 401 on.
#[tokio::test(start_paused = true)]
async fn a_foreign_origin_gets_the_request_unchanged() {
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let source = TokenSource::new(Keyed::default());
    let client = source.layer().layer_over(api.clone());
    let mut request = get("https://elsewhere.test/");
    request.headers_mut().insert("authorizationtoken", HeaderValue::from_static("of-the-caller"));
    request.headers_mut().insert("x-api-key", HeaderValue::from_static("of-the-caller"));
    let sent = request.headers().clone();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(Audit::of(&response).is_none());
    assert_eq!(*api.sends()[0].headers(), sent);
    let stats = source.stats();
    assert_eq!((stats.not_stamped, stats.fetches, stats.rejections), (1, 0, 0));
}

/// A provider that overrides every default.
#[derive(Default)]
struct Keyed {
    anywhere: bool,
    minted: AtomicUsize,
}

impl TokenProvider for Keyed {
    type Key = ExtensionKey<u32>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer(format!("user-{}-{}", key.0, self.minted.fetch_add(1, Ordering::SeqCst)))
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("authorizationtoken")
    }

    fn api_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("canary-key"));
        headers.append("x-api-version", HeaderValue::from_static("1"));
        headers.append("x-api-version", HeaderValue::from_static("2"));
        // The layer drops this one: the header belongs to the token.
        headers.insert("authorizationtoken", HeaderValue::from_static("not a token"));
        headers
    }

    fn origins(&self) -> Origins {
        if self.anywhere { Origins::none() } else { Origins::none().allow(API).unwrap() }
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        tower_bearer_auth::RequestKey::from_request(request)
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_headers_are_stamped_once_wherever_the_token_is() {
    let api = Api::new(|request| match &request.headers()["x-api-version"] {
        _ if request.uri().path() == "/reject" => rejection(INVALID_TOKEN),
        _ => response(StatusCode::OK),
    });
    let client = BearerAuthLayer::new(Keyed::default()).layer_over(api.clone());
    for path in ["/", "/reject"] {
        let mut request = get(&format!("{API}{path}"));
        request.extensions_mut().insert(7_u32);
        for (name, value) in [("x-api-key", "of-the-caller"), ("x-api-version", "9"), ("cookie", "of-the-caller")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let response = client.clone().oneshot(request).await.unwrap();
        let audit = Audit::of(&response);
        assert_eq!(audit.map(Audit::key), (path == "/reject").then_some(Some(&ExtensionKey(7_u32))));
    }
    assert_eq!(api.sends().len(), 3);
    for (request, token) in api.sends().iter().zip(["user-7-0", "user-7-0", "user-7-1"]) {
        let all = |name: &str| request.headers().get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(all("authorizationtoken"), [format!("Bearer {token}")]);
        assert_eq!(all("x-api-key"), ["canary-key"]);
        assert!(all("x-api-key")[0].is_sensitive());
        assert_eq!(all("x-api-version"), ["1", "2"]);
        assert_eq!(all("cookie"), ["of-the-caller"], "other headers of the caller stay");
    }
}

// R25, R28: scheme, host and port must match, however they are spelled.
#[tokio::test(start_paused = true)]
async fn the_uri_decides_whether_a_request_is_stamped() {
    use ErrorKind::InsecureUrl;
    const STAMPED: Result<bool, ErrorKind> = Ok(true);
    const FOREIGN: Result<bool, ErrorKind> = Ok(false);
    let table = [
        ("https://api.example.com", STAMPED),
        ("https://api.example.com/x?next=https://evil.test", STAMPED),
        ("https://API.Example.COM:443/x", STAMPED),
        ("https://api.example.com./x", STAMPED),
        ("/a/path/alone?x=1", STAMPED),
        ("*", STAMPED),
        ("https://[2001:db8::1]:8443/x", STAMPED),
        ("https://[2001:0DB8:0:0:0::1]:8443/x", STAMPED),
        ("https://xn--bcher-kva.example/x", STAMPED),
        ("https://XN--BCHER-KVA.example./x", STAMPED),
        ("http://127.0.0.1:8080/x", STAMPED),
        ("http://mesh.internal/x", STAMPED),
        ("https://api.example.com:444/x", FOREIGN),
        ("https://api.example.com:80/x", FOREIGN),
        ("https://api.example.com../x", FOREIGN),
        ("https://api.example.com.evil.test/x", FOREIGN),
        ("https://evil-api.example.com/x", FOREIGN),
        ("https://example.com/x", FOREIGN),
        ("https://api.example.com@evil.test/x", FOREIGN),
        ("https://api.example.com:443@evil.test/x", FOREIGN),
        ("https://user:secret@api.example.com/x", FOREIGN),
        ("https://user@api.example.com/x", FOREIGN),
        ("https://evil.test/https://api.example.com/", FOREIGN),
        ("https://evil.test?https://api.example.com/", FOREIGN),
        ("https://bcher-kva.example/x", FOREIGN),
        ("https://xn--bchr-8za9e.example/x", FOREIGN),
        ("https://[2001:db8::1]/x", FOREIGN),
        ("https://[2001:db8::2]:8443/x", FOREIGN),
        ("https://[::ffff:127.0.0.1]:8080/x", FOREIGN),
        ("https://127.0.0.1:8080/x", FOREIGN),
        ("http://127.0.0.1:8081/x", FOREIGN),
        ("http://127.1:8080/x", FOREIGN),
        ("http://2130706433:8080/x", FOREIGN),
        ("http://localhost:8080/x", FOREIGN),
        ("https://mesh.internal/x", FOREIGN),
        ("http://elsewhere.test/x", FOREIGN),
        ("ftp://api.example.com/x", FOREIGN),
        ("ws://api.example.com/x", FOREIGN),
        ("api.example.com:443", FOREIGN),
        ("https://api.example.com:+443/x", FOREIGN),
        ("//api.example.com/x", FOREIGN),
        ("/\\api.example.com/x", FOREIGN),
        ("http://api.example.com/x", Err(InsecureUrl)),
        ("http://API.example.com.:8080/x", Err(InsecureUrl)),
        ("http://api.example.com:443/x", Err(InsecureUrl)),
        ("http://[2001:DB8::1]:8443/x", Err(InsecureUrl)),
        ("http://xn--bcher-kva.example/x", Err(InsecureUrl)),
    ];
    let api = Api::new(ok);
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let client = BearerAuthLayer::new(provider)
        .allow_origin(API)
        .and_then(|layer| layer.allow_origin("https://[2001:db8::1]:8443"))
        .and_then(|layer| layer.allow_origin("https://xn--bcher-kva.example"))
        .and_then(|layer| layer.allow_origin("http://127.0.0.1:8080"))
        .and_then(|layer| layer.danger_allow_http("http://mesh.internal"))
        .unwrap()
        .layer_over(api.clone());
    for (uri, expected) in table {
        let before = api.sends().len();
        let outcome = client.clone().oneshot(get(uri)).await;
        let sends = api.sends();
        let found = match &outcome {
            Ok(_) => Ok(sends.last().unwrap().headers().contains_key("authorization")),
            Err(error) => Err(kind(error).unwrap()),
        };
        assert_eq!(found, expected, "{uri}");
        assert_eq!(sends.len() - before, usize::from(expected.is_ok()), "{uri}");
        assert!(sends.last().unwrap().headers().get_all("authorization").iter().count() <= 1);
    }
    assert_eq!(fetches.count(), 1);
    for text in ["https://b\u{fc}cher.example", "http://api.example.com", "https://user@api.example.com"] {
        assert!(Origins::none().allow(text).is_err(), "{text}");
    }
}

// R5
#[tokio::test(start_paused = true)]
async fn sixty_four_clones_share_one_cache() {
    let api = Api::new(ok);
    let (provider, fetches) = issuer(|n| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token(n)
    });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let client = layer.clone().layer_over(api.clone());
    let clones = (0..64).map(|n| match n % 3 {
        0 => client.clone(),
        1 => layer.clone().layer_over(api.clone()),
        _ => layer.source().layer().allow_origin(API).unwrap().layer_over(api.clone()),
    });
    let calls: Vec<_> = clones.map(|clone| tokio::spawn(clone.oneshot(get(API)))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!((api.sends().len(), fetches.count()), (64, 1));
    assert!(api.sends().iter().all(|request| bearer(request) == "token-1"));
}

#[tokio::test(start_paused = true)]
async fn the_layer_is_ready_when_the_inner_service_is() {
    let (provider, fetches) = issuer(|_| pending());
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let (mut client, mut server) = mock::spawn_layer::<Request<Body>, Response<Body>, _>(layer);
    server.allow(0);
    assert!(client.poll_ready().is_pending());
    server.allow(1);
    assert!(client.is_woken());
    assert!(client.poll_ready().is_ready(), "readiness does not wait for the issuer");
    assert_eq!(fetches.count(), 0, "readiness starts no fetch");
    server.send_error("the connection is gone");
    server.allow(1);
    let Poll::Ready(Err(error)) = client.poll_ready() else { panic!("an error of the inner service is passed on") };
    assert_eq!(kind(&error), None);
    assert_eq!(error.to_string(), "the connection is gone");
}

#[tokio::test(start_paused = true)]
async fn a_uri_without_a_host_is_stamped_even_if_no_origin_is_allowed() {
    let layer = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap());
    let (mut client, mut server) = mock::spawn_layer::<Request<Body>, Response<Body>, _>(layer);
    assert!(client.poll_ready().is_ready());
    let mut call = tokio_test::task::spawn(client.call(get("/x")));
    assert!(call.poll().is_pending());
    tokio::task::yield_now().await;
    assert!(call.poll().is_pending());
    let (request, send) = server.next_request().await.unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer of-the-layer");
    send.send_response(response(StatusCode::NO_CONTENT));
    assert_eq!(call.await.unwrap().status(), 204);
}

#[test]
fn the_inner_service_can_be_reached() {
    let layer = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap());
    let mut service = layer.clone().layer_over(vec![1]);
    assert_eq!(service.get_ref(), &[1]);
    service.get_mut().push(2);
    assert_eq!(service.clone().into_inner(), [1, 2]);
    assert_eq!(service.source().stats(), layer.source().stats());
}

#[tokio::test(start_paused = true)]
async fn an_audit_shows_its_key_only_by_the_type_of_the_key() {
    let layer = BearerAuthLayer::new(Keyed::default()).audit_all();
    let mut request = get(API);
    request.extensions_mut().insert(7_u32);
    let response = layer.layer_over(Api::new(ok)).oneshot(request).await.unwrap();
    let audit = Audit::of(&response).unwrap();
    assert_eq!(audit.key(), Some(&ExtensionKey(7_u32)));
    assert_eq!((audit.key::<()>(), audit.key::<u32>()), (None, None));
    assert!(format!("{audit:?}").contains("ExtensionKey(7)"));
    assert!(Audit::of(&Response::new(())).is_none());
}

// R48
#[tokio::test(start_paused = true)]
async fn debug_output_shows_the_settings_and_no_token() {
    let builder = TokenSource::builder(FixedToken::new("canary-token").unwrap()).max_keys(77);
    assert!(format!("{builder:?}").contains("max_keys: 77"));
    let source = builder.build();
    source.token().await.unwrap();
    let layer = source.layer().allow_origin("https://b.example:8443").unwrap().bodies(Buffered::new(4096, Body::new));
    let service = layer.clone().layer_over("the inner service");
    let request = Request::put("https://c.example/path?canary").header("x", "canary").body(()).unwrap();
    let response = Response::builder().status(418).header("x", "canary").body(()).unwrap();
    let table = [
        (format!("{source:?}"), "keys: 1"),
        (format!("{:?}", source.token()), "TokenFuture"),
        (format!("{:?}", source.layer().layer_over(Api::new(ok)).call(get("/"))), "ResponseFuture"),
        (format!("{layer:?}"), "[https://b.example:8443]"),
        (format!("{layer:?}"), "limit: 4096"),
        (format!("{service:?}"), "the inner service"),
        (format!("{service:?}"), "if_not_present: false"),
        (format!("{:?}", RequestHead::of(&request)), "method: PUT, path: \"/path\""),
        (format!("{:?}", ResponseHead::of(&response)), "status: 418"),
    ];
    let bodies = Buffered::new(4096, |body: ReplayBody<UnsyncBoxBody<Bytes, BoxError>>| {
        assert_eq!(format!("{body:?}"), "ReplayBody { .. }");
        body.boxed_unsync()
    });
    let client = source.layer().bodies(bodies).layer_over(Api::new(ok));
    let canary = Body::from("canary").map_err(BoxError::from).boxed_unsync();
    client.oneshot(Request::post("/").body(canary).unwrap()).await.unwrap();
    for (text, shown) in table {
        assert!(text.contains(shown) && !text.contains("canary"), "{shown} in {text}");
    }
}

fn assert_kind<T: Clone + Send + Sync + 'static>(_: &T) {}

#[tokio::test(start_paused = true)]
async fn the_service_is_clone_send_and_sync_and_composes() {
    let layer = BearerAuthLayer::new(FixedToken::new("of-the-layer").unwrap()).allow_origin(API).unwrap();
    assert_kind(&layer);
    // A user can name the type, for example in a struct.
    let client: BearerAuth<Api, FixedToken> = layer.clone().layer_over(Api::new(ok));
    assert_kind(&client);
    let boxed: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError> = BoxCloneSyncService::new(client);
    assert_eq!(boxed.clone().oneshot(get(API)).await.unwrap().status(), 200);

    let (service, mut server) = mock::pair::<String, String>();
    let mut stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .layer(layer)
        .map_request(|_: Request<Body>| "sent".to_owned())
        .map_response(|_: String| response(StatusCode::OK))
        .service(service);
    let call = tokio::spawn(async move { stack.ready().await?.call(get(API)).await });
    assert_request_eq!(server, "sent").send_response("received".to_owned());
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

/// Like `ServiceBuilder`, without its nested types.
trait LayerOver<S>: tower::Layer<S> + Sized {
    fn layer_over(self, inner: S) -> Self::Service {
        self.layer(inner)
    }
}

impl<L: tower::Layer<S>, S> LayerOver<S> for L {}
