//! Which credentials leave with a request: `TRACE`, an `Authorization` beside another header, and requests without a token.

use tower_bearer_auth::Unauthenticated;

use super::*;

/// A request with the headers that [`Keyed`] stamps, with values of the caller.
fn with_credentials(method: &str, uri: &str) -> Request<Body> {
    let mut request = get(uri);
    *request.method_mut() = method.parse().unwrap();
    for name in ["authorization", "authorizationtoken", "x-api-key", "x-api-version", "x-other"] {
        request.headers_mut().insert(name, HeaderValue::from_static("of-the-caller"));
    }
    request.extensions_mut().insert(7_u32);
    request
}

/// The names of the headers that arrived.
fn names(api: &Api) -> Vec<String> {
    let sends = api.sends();
    let mut names: Vec<_> = sends.last().unwrap().headers().keys().map(ToString::to_string).collect();
    names.sort();
    names
}

// R75: the response to a TRACE contains the request (RFC 9110 section 9.3.8).
#[tokio::test(start_paused = true)]
async fn a_trace_carries_neither_the_token_nor_a_credential_of_the_caller() {
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let source = TokenSource::new(Keyed::default());
    for (layer, uri) in [
        (source.layer(), "https://api.example.com/x"),
        (source.layer(), "/x"),
        (source.layer().if_not_present(), "https://api.example.com/x"),
        (source.layer().audit_all(), "https://api.example.com/x"),
    ] {
        for method in ["TRACE", "trace", "Trace"] {
            let response = layer.clone().layer_over(api.clone()).oneshot(with_credentials(method, uri)).await.unwrap();
            assert_eq!(response.status(), 401);
            assert_eq!(names(&api), ["x-other"], "{method} {uri}");
            assert!(Audit::of(&response).is_none_or(|audit| audit.replay == ReplayOutcome::NotStamped));
        }
    }
    let stats = source.stats();
    assert_eq!((api.sends().len(), stats.fetches, stats.not_stamped, stats.rejections), (12, 0, 0, 0));

    // The same with the standard header, and for a request without a key.
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let client = BearerAuthLayer::new(provider).allow_origin(API).unwrap().layer_over(api.clone());
    let mut request = get(API);
    *request.method_mut() = http::Method::TRACE;
    client.clone().oneshot(request).await.unwrap();
    assert!(names(&api).is_empty());
    client.oneshot(with_credentials("TRACE", API)).await.unwrap();
    assert!(!names(&api).contains(&"authorization".to_owned()));
    assert_eq!(fetches.count(), 0);
}

// R97
#[tokio::test(start_paused = true)]
async fn an_authorization_of_the_caller_does_not_go_beside_a_token_in_another_header() {
    let api = Api::new(|request| match request.uri().path() {
        "/reject" => rejection(INVALID_TOKEN),
        _ => response(StatusCode::OK),
    });
    let source = TokenSource::new(Keyed::default());
    for (path, sends) in [("/", 1), ("/reject", 2)] {
        let before = api.sends().len();
        let mut request = with_credentials("GET", &format!("{API}{path}"));
        request.headers_mut().append("authorization", HeaderValue::from_static("Basic also-of-the-caller"));
        source.layer().layer_over(api.clone()).oneshot(request).await.unwrap();
        let sent = api.sends().split_off(before);
        assert_eq!(sent.len(), sends);
        for request in sent {
            assert!(!request.headers().contains_key("authorization"), "{path}");
            assert!(request.headers()["authorizationtoken"].as_bytes().starts_with(b"Bearer user-7"));
        }
    }
    // `if_not_present` requests that the credentials of the caller stay.
    let mut request = with_credentials("GET", API);
    request.headers_mut().remove("authorizationtoken");
    source.layer().if_not_present().layer_over(api.clone()).oneshot(request).await.unwrap();
    let sends = api.sends();
    let headers = sends.last().unwrap().headers();
    assert_eq!(
        (&headers["authorization"], headers.contains_key("authorizationtoken")),
        (&"of-the-caller".parse().unwrap(), true)
    );
}

/// A provider that stamps an `Authorization` of its own beside the token.
struct Both;

impl TokenProvider for Both {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer("t")
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("x-token")
    }

    fn api_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("Basic of-the-provider"))])
    }
}

// R97
#[tokio::test(start_paused = true)]
async fn an_authorization_among_the_api_headers_replaces_the_one_of_the_caller() {
    let api = Api::new(ok);
    let layer = BearerAuthLayer::new(Both).allow_origin(API).unwrap();
    for layer in [layer.clone(), layer.if_not_present()] {
        layer.layer_over(api.clone()).oneshot(with_credentials("GET", API)).await.unwrap();
        let sends = api.sends();
        let sent = sends.last().unwrap();
        assert_eq!(sent.headers().get_all("authorization").iter().collect::<Vec<_>>(), ["Basic of-the-provider"]);
        assert_eq!(sent.headers()["x-token"], "Bearer t");
    }
}

/// A provider that loads its API key with each fetch.
#[derive(Default)]
struct Loading {
    loaded: AtomicUsize,
}

impl TokenProvider for Loading {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        token(self.loaded.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn api_headers(&self) -> HeaderMap {
        let value = format!("key-{}", self.loaded.load(Ordering::SeqCst)).parse().unwrap();
        HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), value)])
    }
}

// R99: the old API key beside a token of the new credentials is rejected.
#[tokio::test(start_paused = true)]
async fn a_token_goes_out_with_the_api_headers_of_its_fetch() {
    let api = Api::new(ok);
    let source = TokenSource::new(Loading::default());
    let client = source.layer().allow_origin(API).unwrap().layer_over(api.clone());
    for load in 1..=3 {
        for _ in 0..3 {
            client.clone().oneshot(get(API)).await.unwrap();
            let sends = api.sends();
            let sent = sends.last().unwrap();
            let headers = (bearer(sent), sent.headers()["x-api-key"].to_str().unwrap());
            assert_eq!(headers, (&*format!("token-{load}"), &*format!("key-{load}")));
        }
        source.rotate();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_token_is_sent_unchanged() {
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let source = TokenSource::new(Keyed::default());
    let client = source.layer().on_foreign_origin(tower_bearer_auth::OnForeignOrigin::Fail).layer_over(api.clone());
    // An allowed origin, a foreign one, an allowed host in clear text, and a method that loses its credentials.
    for (method, uri) in [
        ("GET", "https://api.example.com/health"),
        ("GET", "https://elsewhere.test/"),
        ("GET", "http://api.example.com/"),
        ("TRACE", API),
    ] {
        let mut request = with_credentials(method, uri);
        // Without a key, a request that is stamped is an error.
        request.extensions_mut().clear();
        request.extensions_mut().insert(Unauthenticated);
        let headers = request.headers().clone();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!((response.status(), Audit::of(&response).is_none()), (StatusCode::UNAUTHORIZED, true));
        assert_eq!(*api.sends().last().unwrap().headers(), headers, "{method} {uri}");
    }
    let stats = source.stats();
    assert_eq!((api.sends().len(), stats.fetches, stats.not_stamped, stats.rejections), (4, 0, 0, 0));
    // The extension is for this one request.
    client.oneshot(with_credentials("GET", API)).await.unwrap();
    assert!(api.sends()[4].headers()["authorizationtoken"].as_bytes().starts_with(b"Bearer "));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_token_gets_none_from_a_second_layer_and_none_while_the_issuer_is_down() {
    let api = Api::new(ok);
    let down = || tower_bearer_auth::from_fn(|| async { Err(Error::permanent("down")) });
    let inner = BearerAuthLayer::new(down()).allow_origin(API).unwrap().layer_over(api.clone());
    let client = BearerAuthLayer::new(down()).allow_origin(API).unwrap().audit_all().layer_over(inner);
    let mut request = get(API);
    request.extensions_mut().insert(Unauthenticated);
    let response = client.clone().oneshot(request).await.unwrap();
    assert_eq!(Audit::of(&response).unwrap().replay, ReplayOutcome::NotStamped);
    assert!(names(&api).is_empty());
    assert!(client.oneshot(get(API)).await.is_err());
}
