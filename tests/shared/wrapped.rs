//! What a provider, a store and a key are behind a `Shared`.

use std::error::Error as _;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_bearer_auth::shared::{Identity, MemoryStore, OnStoreFailure, Outcome, SealingKey, Shareable, Shared};
use tower_bearer_auth::shared::{StoreError, Stored};
use tower_bearer_auth::{
    Error, ExtensionKey, FetchContext, IssuedToken, Origins, Rejection, RequestHead, RequestKey as _, ResponseHead,
    TokenProvider, TokenSource,
};

use crate::world::{Client, KEY, World, key, secs};

/// A provider that overrides every default.
struct Overrides;

impl TokenProvider for Overrides {
    type Key = ExtensionKey<u32>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer(format!("user-{}", key.0))
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        let ExtensionKey(user) = ExtensionKey::<u32>::from_request(request)?;
        Ok(ExtensionKey(user + 1))
    }

    fn header(&self) -> HeaderName {
        HeaderName::from_static("x-token")
    }

    fn api_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), HeaderValue::from_static("key"))])
    }

    fn origins(&self) -> Origins {
        Origins::none().allow("https://api.example.com").unwrap()
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        (response.status() == StatusCode::IM_A_TEAPOT).then_some(Rejection::InvalidToken)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        request.uri().path() == "/search"
    }

    fn label(&self) -> &str {
        "overrides"
    }
}

impl Shareable for Overrides {
    async fn identity(&self, key: &Self::Key) -> Result<Identity, Error> {
        Ok(Identity::new("https://issuer.test").field("user", key.0.to_string()))
    }
}

#[test]
fn a_shared_provider_has_the_settings_of_the_provider() {
    let builder = Shared::builder(Overrides, MemoryStore::new()).sealing_key(key(KEY)).namespace("orders");
    let text = format!("{:?}", builder.on_store_failure(OnStoreFailure::Fail));
    for part in ["SharedBuilder", "overrides", "orders", "SealingKey(..)", "Fail"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let builder = Shared::builder(Overrides, MemoryStore::new()).sealing_key(key(KEY)).namespace("orders");
    let shared = builder.build().unwrap();
    assert_eq!(format!("{shared:?}"), r#"Shared { provider: "overrides", namespace: "orders", .. }"#);
    assert_eq!((shared.header().as_str(), shared.label()), ("x-token", "overrides"));
    assert_eq!(shared.api_headers(), Overrides.api_headers());
    assert_eq!(format!("{:?}", shared.origins()), "[https://api.example.com]");
    for (method, path, is_idempotent) in [("POST", "/search", true), ("GET", "/", false)] {
        let request = Request::builder().method(method).uri(path).extension(6_u32).body(()).unwrap();
        let head = RequestHead::of(&request);
        assert_eq!(shared.is_idempotent(&head), is_idempotent, "{method} {path}");
        assert_eq!(shared.key(&head).unwrap(), ExtensionKey(7));
    }
    for (status, rejection) in [(418, Some(Rejection::InvalidToken)), (401, None)] {
        let response = Response::builder().status(status).body(()).unwrap();
        assert_eq!(shared.rejection(&ResponseHead::of(&response)), rejection);
    }
}

// R96
#[test]
fn debug_output_shows_names_sizes_and_times_and_no_bytes() {
    let bytes = &b"canary"[..];
    let stored = Stored { version: [99; 16], bytes: bytes.to_vec(), left: secs(5) };
    let error = StoreError::new("down").with_source("the cause");
    assert_eq!(error.source().unwrap().to_string(), "the cause");
    assert!(StoreError::new("down").source().is_none());
    let table = [
        (
            format!("{:?}", Identity::new("canary").field("user", "canary")),
            "Identity { fields: [\"issuer\", \"user\"], .. }",
        ),
        (
            format!("{:?}", Outcome::Token { version: [99; 16], bytes, keep: secs(5) }),
            "Token { bytes: 6, keep: 5s, .. }",
        ),
        (format!("{:?}", Outcome::Note { version: [99; 16], bytes, keep: secs(5) }), "Note { bytes: 6, keep: 5s, .. }"),
        (format!("{:?}", Outcome::Nothing), "Nothing"),
        (format!("{stored:?}"), "Stored { bytes: 6, left: 5s, .. }"),
        (format!("{error:?}"), "StoreError { message: \"down\", source: \"the cause\" }"),
        (format!("{:?}", StoreError::new("down")), "StoreError { message: \"down\" }"),
    ];
    for (text, expected) in table {
        assert_eq!(text, expected);
    }
}

// R93: both forms are the same key.
#[tokio::test(start_paused = true)]
async fn a_key_from_hexadecimal_digits_has_their_bytes() {
    let (world, store) = (World::new(), MemoryStore::new());
    let bytes: [u8; 32] = std::array::from_fn(|at| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).unwrap());
    for key in [SealingKey::from_hex(KEY), SealingKey::new(bytes)] {
        let shared = Shared::builder(Client::new(&world.issuer), store.clone()).sealing_key(key.unwrap());
        let source = TokenSource::new(shared.build().unwrap());
        assert_eq!(source.token().await.unwrap().expose_secret(), "first.1");
    }
    assert_eq!(world.requests(), 1);
}
