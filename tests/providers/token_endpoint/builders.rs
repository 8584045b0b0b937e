//! An invalid setting is an error that names the setting, before anything is sent.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint};
use tower_bearer_auth::{
    AccessPsp, AccessPspBuilder, BasicEncoding, BearerAuthLayer, ClientCredentials, ClientCredentialsBuilder,
    ConfigError, Error, ErrorKind, FixedToken, Origins, PrivateKeyJwt, SigningAlgorithm,
};

use super::wire::GOOD;

/// Part of the reason of an insecure URL.
const INSECURE: &str = "clear text";
/// Any reason.
const ANY: &str = "";

#[track_caller]
fn named(outcome: Result<(), ConfigError>, setting: &str, reason: &str) {
    let error = outcome.unwrap_err();
    let shown = error.to_string();
    assert_eq!(error.setting(), setting, "{shown}");
    assert!(shown.starts_with(&format!("{setting}: ")), "{setting}: {shown}");
    assert!(shown.contains(reason), "{reason}: {shown}");
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Config, "{shown}");
    assert_eq!(error.to_string(), shown);
    assert!(!error.is_transient());
    assert!(!format!("{shown} {error:?}").contains("CANARY"), "{shown}");
}

fn general(change: impl FnOnce(ClientCredentialsBuilder) -> ClientCredentialsBuilder) -> Result<(), ConfigError> {
    let good = ClientCredentials::builder()
        .client_id("id")
        .client_secret("secret")
        .token_url("https://issuer.test/token")
        .api_origin("https://api.test");
    change(good).build().map(drop)
}

fn psp(change: impl FnOnce(AccessPspBuilder) -> AccessPspBuilder) -> Result<(), ConfigError> {
    change(AccessPsp::builder().client_id("id").client_secret("secret")).build().map(drop)
}

const BAD_URLS: [(&str, &str); 19] = [
    ("", ANY),
    ("CANARY", ANY),
    ("/CANARY", ANY),
    ("issuer.test:443/CANARY", ANY),
    ("https://", ANY),
    ("https:///CANARY", ANY),
    ("https://CANARY@issuer.test/", ANY),
    ("https://user:CANARY@issuer.test/", ANY),
    ("https://issuer.test/\r\nCANARY: 1", ANY),
    ("https://issuer.test/\tCANARY", ANY),
    ("https://issuer.test/\u{7f}CANARY", ANY),
    ("https://issuer.test/a CANARY", ANY),
    ("https://issuer.test/#CANARY", ANY),
    ("https://b\u{fc}cher.test/CANARY", ANY),
    ("https://issuer.test:99999/CANARY", ANY),
    ("https://issuer.test:/CANARY", ANY),
    ("ftp://issuer.test/CANARY", ANY),
    ("http://issuer.test/CANARY", INSECURE),
    ("http://127.0.0.1.evil.test/CANARY", INSECURE),
];

#[test]
fn a_token_url_that_must_not_receive_a_secret_is_rejected() {
    for (url, reason) in BAD_URLS {
        named(general(|b| b.token_url(url)), "token_url", reason);
        named(psp(|b| b.token_url(url).api_origin("https://api.test")), "token_url", reason);
        let client = TokenClient::new(HttpClient::new().unwrap());
        named(TokenEndpoint::new(url, client).map(drop), "token_url", reason);
    }
    for url in [
        "https://issuer.test",
        "HTTPS://Issuer.Test:8443/token?tenant=1",
        "http://127.0.0.1:8080/token",
        "http://localhost/token",
        "http://[::1]:9/token",
    ] {
        general(|b| b.token_url(url)).unwrap();
    }
}

#[test]
fn an_invalid_api_origin_is_rejected() {
    for (origin, reason) in [
        ("", ANY),
        ("CANARY", ANY),
        ("https://api.test/CANARY", ANY),
        ("https://user:CANARY@api.test", ANY),
        ("https://api.test?CANARY", ANY),
        ("https://api.test\r\nCANARY", ANY),
        ("http://api.test", INSECURE),
    ] {
        named(general(|b| b.api_origin(origin)), "api_origin", reason);
        named(psp(|b| b.token_url("https://issuer.test").api_origin(origin)), "api_origin", reason);
    }
}

// A hint that names a setting of another type leads nowhere.
#[test]
fn the_hint_for_a_url_in_clear_text_is_one_that_the_user_of_its_setting_can_follow() {
    let url = "http://api.test";
    let loopback = "use https; http is only for loopback addresses";
    let layer_above = "use https; if the network below encrypts, set the https origin here, and the http origin with \
                       danger_allow_http of BearerAuthLayer";
    let same_type = "use https, or danger_allow_http if the network below encrypts";
    let layer = || BearerAuthLayer::new(FixedToken::new("opaque-token").unwrap());
    for (outcome, hint) in [
        (general(|b| b.token_url(url)), loopback),
        (psp(|b| b.token_url(url).api_origin("https://api.test")), loopback),
        (general(|b| b.api_origin(url)), layer_above),
        (psp(|b| b.token_url("https://issuer.test").api_origin(url)), layer_above),
        (layer().allow_origin(url).map(drop), same_type),
        (Origins::none().allow(url).map(drop), same_type),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.hint(), Some(hint), "{error}");
    }
    assert!(layer().danger_allow_http(url).is_ok());
    assert!(Origins::none().danger_allow_http(url).is_ok());
}

// R28: the hint for an http origin of a provider.
#[tokio::test]
async fn an_http_origin_of_the_layer_is_stamped_beside_the_https_origin_of_the_provider() {
    let issuer =
        service_fn(|_: Request<Full<Bytes>>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(GOOD))) });
    let provider = ClientCredentials::builder()
        .client_id("id")
        .client_secret("secret")
        .token_url("https://issuer.test/token")
        .api_origin("https://api.test")
        .http_client(TokenClient::new(issuer))
        .build()
        .unwrap();
    let api = service_fn(|request: Request<String>| async move {
        Ok::<_, Infallible>(Response::new(request.headers().contains_key("authorization").to_string()))
    });
    let client = BearerAuthLayer::new(provider).danger_allow_http("http://api.test").unwrap().layer(api);
    let get = |url: &str| Request::get(url).body(String::new()).unwrap();
    assert_eq!(client.clone().oneshot(get("http://api.test/orders")).await.unwrap().into_body(), "true");
    // Another port is another origin.
    let error = client.oneshot(get("http://api.test:8080/orders")).await.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::InsecureUrl);
}

// A hint that is printed twice hides the reason.
#[test]
fn an_api_origin_without_a_scheme_has_one_hint() {
    let shown = "api_origin: it has no scheme: write it as https://host or https://host:port";
    for outcome in
        [general(|b| b.api_origin("api.test")), psp(|b| b.token_url("https://issuer.test").api_origin("api.test"))]
    {
        assert_eq!(outcome.unwrap_err().to_string(), shown);
    }
}

#[test]
fn the_token_url_and_the_api_origins_must_be_set_together() {
    let bare = || ClientCredentials::builder().client_id("id").client_secret("secret");
    named(bare().build().map(drop), "token_url", ANY);
    named(bare().token_url("https://issuer.test").build().map(drop), "api_origin", ANY);
    named(bare().api_origin("https://api.test").build().map(drop), "token_url", ANY);
    psp(|b| b).unwrap();
    psp(|b| b.environment("production")).unwrap();
    named(psp(|b| b.token_url("https://issuer.test")), "api_origin", ANY);
    named(psp(|b| b.api_origin("https://api.test")), "token_url", ANY);
    // Otherwise the credentials of a test environment would be sent to production.
    named(psp(|b| b.environment("staging")), "environment", ANY);
}

#[test]
fn empty_text_and_control_characters_are_rejected() {
    for bad in ["", "CANARY\n", "\rCANARY", "CAN\0ARY", "CANARY\u{7f}", "CANARY\u{85}"] {
        named(general(|b| b.client_id(bad)), "client_id", ANY);
        named(general(|b| b.client_secret(bad)), "client_secret", ANY);
        named(general(|b| b.scope(bad)), "scope", ANY);
        named(general(|b| b.label(bad)), "label", ANY);
        named(general(|b| b.token_header("x-api-key", bad)), "token_header", ANY);
        named(general(|b| b.api_header("x-api-key", bad)), "api_header", ANY);
        named(psp(|b| b.client_id(bad)), "client_id", ANY);
        named(psp(|b| b.client_secret(bad)), "client_secret", ANY);
        named(psp(|b| b.scope(bad)), "scope", ANY);
        named(psp(|b| b.token_api_key(bad)), "token_api_key", ANY);
        named(psp(|b| b.api_key(bad)), "api_key", ANY);
        named(AccessPsp::new(bad, "secret").map(drop), "client_id", ANY);
        named(AccessPsp::new("id", bad).map(drop), "client_secret", ANY);
    }
    named(AccessPsp::builder().build().map(drop), "client_id", ANY);
    named(AccessPsp::builder().client_id("id").build().map(drop), "client_secret", ANY);
    named(ClientCredentials::builder().build().map(drop), "client_id", ANY);
}

#[test]
fn headers_that_would_change_the_message_are_rejected() {
    for name in [
        "",
        "x y",
        "x\r\nCANARY",
        "x:",
        "Accept-Encoding",
        "connection",
        "content-encoding",
        "Content-Length",
        "content-type",
        "expect",
        "host",
        "HTTP2-Settings",
        "keep-alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "te",
        "trailer",
        "Transfer-Encoding",
        "upgrade",
    ] {
        named(general(|b| b.token_header(name, "CANARY")), "token_header", ANY);
        named(general(|b| b.api_header(name, "CANARY")), "api_header", ANY);
    }
    named(general(|b| b.api_header("Authorization", "CANARY")), "api_header", ANY);
    for name in ["x-api-key", "accept", "user-agent", "DPoP"] {
        general(|b| b.token_header(name, "v").api_header(name, "v")).unwrap();
    }
}

// RFC 6749 section 2.3: one authentication method for each request.
#[test]
fn an_authorization_header_together_with_an_authentication_method_is_rejected() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let bare = || {
        ClientCredentials::builder().client_id("id").token_url("https://issuer.test/t").api_origin("https://api.test")
    };
    let methods: [fn(ClientCredentialsBuilder, &str) -> ClientCredentialsBuilder; 4] = [
        |b, _| b.client_secret("secret"),
        |b, _| b.client_secret("secret").client_secret_basic(BasicEncoding::Percent),
        |b, key| b.private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, key)),
        |b, _| b.mutual_tls().http_client(HttpClient::new().unwrap()),
    ];
    for method in methods {
        method(bare(), &key).build().unwrap();
        let both = method(bare(), &key).token_header("Authorization", "Basic CANARY").build();
        named(both.map(drop), "token_header", ANY);
    }
}

#[test]
fn a_timeout_of_zero_is_rejected() {
    named(general(|b| b.timeout(Duration::ZERO)), "timeout", ANY);
    named(psp(|b| b.timeout(Duration::ZERO)), "timeout", ANY);
    let client = HttpClient::builder().connect_timeout(Duration::ZERO).build();
    named(client.map(drop), "connect_timeout", ANY);
    general(|b| b.timeout(Duration::MAX)).unwrap();
}
