//! A provider that is chosen at run time does everything that the provider in it does.

use tower_bearer_auth::{DynProvider, Rejection, ResponseHead};

use super::*;

/// A provider that overrides every method. A 419 rejects the token, and only a POST is idempotent.
struct Odd(AtomicUsize);

impl TokenProvider for Odd {
    type Key = ExtensionKey<u32>;

    async fn fetch(&self, key: &Self::Key, cx: &FetchContext) -> Result<IssuedToken, Error> {
        let n = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(cx.replaces("canary-user-7-1"), n == 2, "the context reaches the provider");
        IssuedToken::bearer(format!("canary-user-{}-{n}", key.0))
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("authorizationtoken")
    }

    fn api_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), HeaderValue::from_static("canary-api-key"))])
    }

    fn origins(&self) -> Origins {
        Origins::none().allow(API).unwrap()
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        (response.status() == 419).then_some(Rejection::Unspecified)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        request.method() == http::Method::POST
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        tower_bearer_auth::RequestKey::from_request(request).map(|ExtensionKey(key): Self::Key| ExtensionKey(key + 1))
    }

    fn label(&self) -> &str {
        "odd"
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_chosen_at_run_time() {
    for development in [true, false] {
        let provider = match development {
            true => DynProvider::new(FixedToken::new("development").unwrap()),
            false => DynProvider::new(issuer(|n| async move { token(n) }).0),
        };
        // One type, so a state type of an application can name it.
        let layer: BearerAuthLayer<DynProvider> = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
        let api = Api::new(ok);
        layer.layer_over(api.clone()).oneshot(get(API)).await.unwrap();
        assert_eq!(bearer(&api.sends()[0]), if development { "development" } else { "token-1" });
    }
}

#[tokio::test(start_paused = true)]
async fn each_method_reaches_the_inner_provider() {
    for (method, sends) in [("POST", 2), ("GET", 1)] {
        let provider: DynProvider<ExtensionKey<u32>> = DynProvider::new(Odd(AtomicUsize::new(0)));
        assert_eq!(provider.label(), "odd");
        let api = Api::new(|request| match request.headers()["authorizationtoken"].to_str().unwrap() {
            "Bearer canary-user-7-1" => response(StatusCode::from_u16(419).unwrap()),
            _ => response(StatusCode::OK),
        });
        let layer = BearerAuthLayer::new(provider.clone());
        let client = layer.layer_over(api.clone());
        let mut request = get(API);
        *request.method_mut() = method.parse().unwrap();
        request.extensions_mut().insert(6_u32);
        let response = client.oneshot(request).await.unwrap();
        let audit = Audit::of(&response).unwrap();
        assert_eq!((usize::from(audit.sends), audit.key()), (sends, Some(&ExtensionKey(7_u32))), "{method}");
        let expected = if sends == 2 { ReplayOutcome::Replayed } else { ReplayOutcome::NotSafe };
        assert_eq!(audit.replay, expected, "{method}");
        assert_eq!((response.status().as_u16(), api.sends().len()), (if sends == 2 { 200 } else { 419 }, sends));
        assert!(api.sends().iter().all(|request| request.headers()["x-api-key"] == "canary-api-key"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_still_an_error() {
    let layer = BearerAuthLayer::new(DynProvider::new(Odd(AtomicUsize::new(0))));
    let api = Api::new(ok);
    let error = layer.layer_over(api.clone()).oneshot(get(API)).await.unwrap_err();
    assert_eq!((kind(&error), api.sends().len()), (Some(ErrorKind::MissingKey), 0));
}

#[tokio::test(start_paused = true)]
async fn a_clone_shares_the_provider_and_debug_shows_only_its_label() {
    let provider = DynProvider::new(issuer(|n| async move { token(n) }).0);
    for (n, provider) in [(1, provider.clone()), (2, provider)] {
        let token = TokenSource::new(provider).token().await.unwrap();
        assert_eq!(token.expose_secret(), format!("token-{n}"), "both clones use the same provider");
    }

    let provider = DynProvider::new(Odd(AtomicUsize::new(0)));
    let source = TokenSource::new(provider.clone());
    let debug = format!("{provider:?}");
    assert_eq!(debug, "DynProvider { label: \"odd\" }");
    source.warm_up_for(&ExtensionKey(8)).await.unwrap();
    let layer = source.layer();
    for debug in [format!("{source:?}"), format!("{layer:?}"), format!("{:?}", layer.layer_over(7))] {
        assert!(!debug.contains("canary"), "{debug}");
    }
    let fixed = DynProvider::new(FixedToken::new("canary-fixed").unwrap());
    assert!(!format!("{fixed:?}").contains("canary"));
}
