//! Tokens in every form that issuers use: their characters, schemes, types and lifetimes.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{
    AccessPsp, Clock as _, ErrorKind, FetchContext, IssuedToken, TokenProvider as _, TokenSource, from_fn,
};

use super::responses::{failure, outcome};
use super::wire::{Wire, client, http_response};
use crate::support::api::Api;
use crate::support::responses::response_with;
use crate::support::time::TestClock;

// R53: the characters that issuers really use. The check of RFC 6750 section 2.1 rejected all of these.
#[tokio::test]
async fn a_token_of_any_visible_ascii_is_usable() {
    let all: String = (0x21..=0x7e_u8).map(char::from).collect();
    for token in [
        "00Dx0000000BV7z!AR8AQ",
        "Atza|IQEBLjAsAhRmHjNg",
        "12|Zk8Qbq3XoT",
        "perm:cm9vdA==.NTU=.x9Z",
        "AAAA%2FAAA%3DAAAA",
        "123456789|AbC-dEf_gh",
        "=a",
        "a=b",
        "===",
        "a,b",
        "a;\"b\"",
        &all,
    ] {
        let body = format!(r#"{{"access_token":{},"token_type":"Bearer"}}"#, serde_json::to_string(token).unwrap());
        let issued = outcome(http_response(200, &[], &body)).await.unwrap();
        assert_eq!(issued.expose_secret(), token);
        let header = TokenSource::new(from_fn(move || ready(Ok(issued.clone())))).token().await.unwrap();
        assert_eq!(header.header_value().as_bytes(), format!("Bearer {token}").as_bytes());
    }
}

// R53: a line break would let the issuer add a header. The issuer would return the same token again.
#[tokio::test]
async fn a_token_that_no_header_can_contain_is_a_permanent_error_that_names_the_kind_of_character() {
    for (token, named) in [
        ("CANARY\\r\\nx-evil: 1", "a control character"),
        ("CANARY\\n", "a control character"),
        ("CAN ARY", "a space"),
        (" CANARY", "a space"),
        ("CANARY\\u0000", "a control character"),
        ("CANARY\\u007f", "a control character"),
        ("CANARY\\t", "a control character"),
        ("CANARY\\u00fc", "not ASCII"),
        ("CANARY\\u0080", "a control character"),
        ("\\u20acCANARY", "not ASCII"),
    ] {
        let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#);
        let error = failure(http_response(200, &[], &body)).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::MalformedResponse, false), "{token}");
        assert!(error.to_string().contains(named), "{token}: {error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{token}");
    }
    // The backoff of a permanent error protects the issuer.
    let wire = Wire::responding(http_response(200, &[], r#"{"access_token":"a b"}"#)).await;
    let source = TokenSource::new(wire.client());
    for _ in 0..3 {
        assert!(!source.token().await.unwrap_err().is_transient());
    }
    assert_eq!(wire.requests().len(), 1);
    let error = IssuedToken::bearer("").unwrap_err();
    assert!(error.to_string().starts_with("the access token is empty"), "{error}");
}

// R53: for APIs that want no scheme, or another one.
#[tokio::test]
async fn a_token_may_have_no_scheme_or_another_one() {
    for (issued, header) in [
        (IssuedToken::raw("abc!"), "abc!"),
        (IssuedToken::with_scheme("Token", "abc!"), "Token abc!"),
        (IssuedToken::bearer("abc!"), "Bearer abc!"),
    ] {
        let issued = issued.unwrap();
        assert_eq!(issued.expose_secret(), "abc!");
        let source = TokenSource::new(from_fn(move || ready(Ok(issued.clone()))));
        let token = source.token().await.unwrap();
        assert_eq!((token.header_value().to_str().unwrap(), token.expose_secret()), (header, "abc!"));
        assert!(token.header_value().is_sensitive());
        let api = Api::new(|_| response_with(StatusCode::OK, ""));
        let sent = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        source.layer().layer(api.clone()).oneshot(sent).await.unwrap();
        assert_eq!(api.sends()[0].headers()["authorization"], header);
    }
    for scheme in ["", "a b", "Token ", "Bearer\n", "T\u{f6}ken", "CANARY:", &"x".repeat(65)] {
        let error = IssuedToken::with_scheme(scheme, "abc").unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false));
        assert!(!error.to_string().contains("CANARY"));
    }
    for token in ["", "a b", "CANARY\n"] {
        for error in [IssuedToken::raw(token).unwrap_err(), IssuedToken::with_scheme("Token", token).unwrap_err()] {
            assert!(!error.is_transient());
            assert!(!format!("{error} {error:?}").contains("CANARY"));
        }
    }
}

// R54: Apigee sends BearerToken.
#[tokio::test]
async fn a_token_type_that_the_provider_accepts_is_a_bearer_token() {
    for (token_type, accepted) in
        [("BearerToken", true), ("bearertoken", true), ("bearer", true), ("jwt", true), ("BearerTokens", false)]
    {
        let body = format!(r#"{{"access_token":"abc","token_type":"{token_type}"}}"#);
        let wire = Wire::responding(http_response(200, &[], &body)).await;
        let builder = client(&wire.token_url()).accept_token_type("BearerToken").accept_token_type("JWT");
        let fetched = builder.build().unwrap().fetch(&(), &FetchContext::default()).await;
        assert_eq!(fetched.is_ok(), accepted, "{token_type}");
    }
    for invalid in ["", " ", "DPoP", "mac", "a\nb"] {
        let error = client("https://issuer.test/token").accept_token_type(invalid).build().unwrap_err();
        assert_eq!(error.setting(), "accept_token_type", "{invalid}");
    }
}

// R55
#[tokio::test]
async fn the_default_lifetime_replaces_one_that_is_missing_zero_negative_or_unreadable() {
    let hour = Duration::from_secs(3600);
    for (lifetime, expected) in [
        ("", hour),
        (r#","expires_in":0"#, hour),
        (r#","expires_in":-1"#, hour),
        (r#","expires_in":null"#, hour),
        (r#","expires_in":"soon""#, hour),
        (r#","expires_in":60"#, Duration::from_secs(60)),
    ] {
        let body = format!(r#"{{"access_token":"abc"{lifetime}}}"#);
        let wire = Wire::responding(http_response(200, &[], &body)).await;
        let general = client(&wire.token_url()).default_lifetime(hour).build().unwrap();
        let token = general.fetch(&(), &FetchContext::default()).await.unwrap();
        assert_eq!(token.lifetime(), Some(expected), "{lifetime}");
        let psp = AccessPsp::builder().client_id("id").client_secret("secret").default_lifetime(hour);
        let psp = psp.token_url(wire.token_url()).api_origin("https://api.test").build().unwrap();
        let token = psp.fetch(&(), &FetchContext::default()).await.unwrap();
        assert_eq!(token.lifetime(), Some(expected), "{lifetime}");
    }
    let error = client("https://issuer.test/token").default_lifetime(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.setting(), "default_lifetime");
}

fn forward(clock: &TestClock, seconds: u64) {
    clock.mono_forward(Duration::from_secs(seconds));
    clock.wall_forward(Duration::from_secs(seconds));
}

// R55: some issuers return an instant, for example `expires_on`.
#[tokio::test]
async fn an_instant_becomes_the_end_of_the_token_and_one_in_the_past_is_a_failed_fetch() {
    let clock = TestClock::new();
    let started = clock.now().wall;
    let ends = Arc::new(Mutex::new(started + Duration::from_secs(600)));
    let (shared, during) = (Arc::clone(&ends), clock.clone());
    let provider = from_fn(move || {
        // The fetch takes 10 s.
        forward(&during, 10);
        ready(IssuedToken::bearer("abc").map(|token| token.expires_at(*shared.lock())))
    });
    let source = TokenSource::builder(provider).clock(clock.clone()).build();
    let token = source.token().await.unwrap();
    assert_eq!(token.expires_at(), started + Duration::from_secs(600));
    for past in [Duration::ZERO, Duration::from_secs(3600)] {
        *ends.lock() = clock.now().wall + Duration::from_secs(10) - past;
        source.rotate();
        let error = source.token().await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
        assert!(error.to_string().contains("the token had expired when it arrived"), "{error}");
        forward(&clock, 60);
    }
    // The setter that is called last counts.
    let token = IssuedToken::bearer("abc").unwrap().expires_in(Duration::from_secs(60)).expires_at(started);
    assert_eq!(token.lifetime(), None);
    assert_eq!(token.expires_in(Duration::from_secs(5)).lifetime(), Some(Duration::from_secs(5)));
}
