//! Ready-made assertions (RFC 7523 section 2.2): workload identity, from a file or a function.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{
    ClientCredentials, ClientCredentialsBuilder, Error, ErrorKind, FetchContext, Secret, SecretValue, TargetApi,
    TokenProvider as _,
};

use crate::support::api::Api;
use crate::support::canary::shown_in;
use crate::support::responses::response_with;
use crate::support::strict_issuer::{ReceivedRequest, StrictIssuer};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The shape of a JWT. The crate does not read it.
const ASSERTION: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4UTd2OWtaIn0.kW3nR8pT5vB2";

fn base(url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id("orders").token_url(url).api_origin("https://api.test")
}

/// An issuer that accepts a request with this assertion, and nothing else that proves an identity.
async fn accepting(assertion: impl Fn() -> String + Send + Sync + 'static) -> StrictIssuer {
    StrictIssuer::start(move |seen| {
        let fields: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
        seen.authorization.is_empty()
            && fields == ["grant_type", "client_id", "client_assertion_type", "client_assertion"]
            && seen.one("client_id") == Some("orders")
            && seen.one("client_assertion_type") == Some(TYPE)
            && seen.one("client_assertion") == Some(&assertion())
    })
    .await
}

fn assertions(issuer: &StrictIssuer) -> Vec<String> {
    let sent = |seen: &ReceivedRequest| seen.one("client_assertion").unwrap_or_default().to_owned();
    issuer.requests().iter().map(sent).collect()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Display, Debug and all sources of an error.
fn everything(error: &dyn StdError) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!("{next}\n{next:?}\n"));
        cause = next.source();
    }
    text
}

// R98. Kubernetes replaces the file of a projected token before the token expires.
#[tokio::test]
async fn a_file_is_read_again_for_each_token_request() {
    let path = file("projected-token", &format!("{ASSERTION}1\n"));
    let issuer = accepting(|| format!("{ASSERTION}1")).await;
    let url = issuer.token_url();
    let provider = base(&url).client_assertion(Secret::from_file(&path).unwrap()).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    std::fs::write(&path, format!("{ASSERTION}2\n")).unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(assertions(&issuer), ["1", "2"].map(|n| format!("{ASSERTION}{n}")));
}

// R98. An assertion may be used once (RFC 7523 section 3), also by a request that failed.
#[tokio::test]
async fn each_attempt_has_an_assertion_of_its_own() {
    let issuer = accepting(|| format!("{ASSERTION}2")).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let assertion = Secret::from_async_fn(move || {
        let n = count.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            Ok(SecretValue::from(format!("{ASSERTION}{n}")))
        }
    });
    let provider = base(&issuer.token_url()).client_assertion(assertion).build().unwrap();
    // The function is called by fetches only.
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    for accepted in [false, false, true] {
        assert_eq!(provider.fetch(&(), &FetchContext::default()).await.is_ok(), accepted);
    }
    assert_eq!(assertions(&issuer), ["0", "1", "2"].map(|n| format!("{ASSERTION}{n}")));
}

#[tokio::test]
async fn a_keyed_provider_sends_it_with_the_scope_of_the_request() {
    let issuer = StrictIssuer::start(|seen| seen.one("client_assertion") == Some(ASSERTION)).await;
    let provider = base(&issuer.token_url()).client_assertion(ASSERTION).build_keyed().unwrap();
    provider.fetch(&TargetApi::new().scope("api://x/.default"), &FetchContext::default()).await.unwrap();
    assert_eq!(issuer.requests()[0].one("scope"), Some("api://x/.default"));
}

#[tokio::test]
async fn an_assertion_that_cannot_be_sent_is_an_error_with_the_name_of_its_setting() {
    let issuer = accepting(|| ASSERTION.to_owned()).await;
    let url = issuer.token_url();
    for bad in ["", " ", "CANARY\n.x", "CANARY\0"] {
        let error = base(&url).client_assertion(bad).build().unwrap_err();
        assert!(error.to_string().starts_with("client_assertion: it "), "{error}");
        let later = Secret::from_async_fn(move || async move { Ok(SecretValue::from(bad)) });
        let provider = base(&url).client_assertion(later).build().unwrap();
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert!(error.to_string().starts_with("client_assertion: it "), "{error}");
        assert!(!everything(&error).contains("CANARY"), "{error:?}");
    }
    // The function's own error, and a panic that prints the assertion.
    let failing = Secret::from_async_fn(|| async {
        Err::<SecretValue, _>(Error::transient("the platform is busy").with_kind(ErrorKind::Unavailable))
    });
    let provider = base(&url).client_assertion(failing).build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.source().unwrap().to_string(), "the platform is busy");
    for at_once in [true, false] {
        let panicking = Secret::from_async_fn(move || {
            assert!(!at_once, "CANARY");
            async { panic!("CANARY") }
        });
        let provider = base(&url).client_assertion(panicking).build().unwrap();
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(!everything(&error).contains("CANARY"), "{error:?}");
    }
    assert_eq!(issuer.requests().len(), 0);
}

#[test]
fn a_missing_or_empty_file_is_an_error_at_the_start() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let error = Secret::from_file(directory.join("no-such-token")).unwrap_err();
    assert!(error.to_string().contains("no-such-token cannot be read: entity not found"), "{error}");
    let error = Secret::from_file(file("empty-token", "\n")).unwrap_err();
    assert!(error.to_string().ends_with("empty-token is empty"), "{error}");
}

// Otherwise an expired assertion looks like a wrong trust setting at the issuer.
#[tokio::test]
async fn a_rejected_assertion_from_a_file_that_is_gone_says_so() {
    let path = file("vanishing-token", ASSERTION);
    let issuer = accepting(|| "a newer one".to_owned()).await;
    let provider = base(&issuer.token_url()).client_assertion(Secret::from_file(&path).unwrap()).build().unwrap();
    let hint = async || provider.fetch(&(), &FetchContext::default()).await.unwrap_err().hint().unwrap().to_owned();
    let without = hint().await;
    assert!(!without.contains("older value"), "{without}");
    std::fs::remove_file(&path).unwrap();
    let with = hint().await;
    assert!(with.starts_with(&without), "{with}");
    assert!(with.contains("an older value was sent") && with.contains("vanishing-token cannot be read"), "{with}");
    assert_eq!(assertions(&issuer), [ASSERTION, ASSERTION]);
}

// R48, R98
#[tokio::test]
async fn an_echoed_assertion_is_never_printed() {
    let issuer = accepting(|| "another".to_owned()).await;
    let builder = base(&issuer.token_url()).client_assertion(ASSERTION);
    let mut text = format!("{builder:?} {builder:#?}");
    let provider = builder.build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
    text.push_str(&format!("{provider:?} {provider:#?} {}", everything(&error)));
    let parts: Vec<&str> = ASSERTION.split('.').chain([ASSERTION]).collect();
    assert_eq!(shown_in(&text, &parts), None, "{text}");
    assert!(text.contains("ClientAssertion(Secret(value))"), "{text}");
    assert_eq!(assertions(&issuer), [ASSERTION]);
}

#[tokio::test]
async fn a_client_has_one_method_of_authentication() {
    let error = base("https://issuer.test/token").client_secret("s").client_assertion(ASSERTION).build().unwrap_err();
    assert_eq!(error.setting(), "client_secret");
    assert_eq!(error.hint(), Some("set client_secret or client_assertion, not both"));
    // RFC 8414: the issuer lists the method of a signature by either kind of key.
    for (method, listed) in [("private_key_jwt", true), ("client_secret_jwt", true), ("client_secret_post", false)] {
        let metadata = json!({
            "issuer": "https://issuer.test",
            "token_endpoint": "https://issuer.test/token",
            "token_endpoint_auth_methods_supported": [method],
        });
        let site = Api::new(move |_| response_with(http::StatusCode::OK, metadata.to_string()));
        let builder = ClientCredentials::builder().client_id("orders").api_origin("https://api.test");
        let builder = builder.http_client(TokenClient::from(site)).discover("https://issuer.test").await.unwrap();
        let built = builder.client_assertion(ASSERTION).build();
        assert_eq!(built.map(drop).map_err(|error| error.setting().to_owned()).is_ok(), listed, "{method}");
    }
}

// A setting that `build` reads once cannot wait.
#[test]
fn an_async_function_for_a_setting_that_is_read_once_is_an_error() {
    let waiting = Secret::from_async_fn(|| async { Ok(SecretValue::from("CANARY")) });
    assert!(waiting.peek().is_none() && waiting.last_error().is_none());
    assert_eq!(format!("{waiting:?}"), "Secret(function)");
    let builder = base("https://issuer.test/token").client_secret("s").api_header("x-api-key", waiting);
    let error = builder.build().unwrap_err();
    assert_eq!(error.setting(), "api_header");
    assert!(everything(&error).contains("use Secret::from_fn"), "{error:?}");
}
