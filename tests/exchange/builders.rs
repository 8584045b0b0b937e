//! Every setting that cannot work is an error that names it, before anything is sent.

use std::time::Duration;

use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint};
use tower_bearer_auth::{
    AccessPsp, AccessPspBuilder, BasicEncoding, ClientCredentials, ClientCredentialsBuilder, Error, ErrorKind,
    PrivateKeyJwt, SigningAlgorithm,
};

fn named(outcome: Result<(), Error>, field: &str, kind: ErrorKind) {
    let error = outcome.unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("{field}: ")), "{field}: {shown}");
    assert_eq!(error.kind(), kind, "{shown}");
    assert!(!error.is_transient());
    assert!(!format!("{shown} {error:?}").contains("CANARY"), "{shown}");
}

fn general(change: impl FnOnce(ClientCredentialsBuilder) -> ClientCredentialsBuilder) -> Result<(), Error> {
    let good = ClientCredentials::builder()
        .client_id("id")
        .client_secret("secret")
        .token_url("https://issuer.test/token")
        .api_origin("https://api.test");
    change(good).build().map(drop)
}

fn psp(change: impl FnOnce(AccessPspBuilder) -> AccessPspBuilder) -> Result<(), Error> {
    change(AccessPsp::builder().client_id("id").client_secret("secret")).build().map(drop)
}

const BAD_URLS: [(&str, ErrorKind); 19] = [
    ("", ErrorKind::Config),
    ("CANARY", ErrorKind::Config),
    ("/CANARY", ErrorKind::Config),
    ("issuer.test:443/CANARY", ErrorKind::Config),
    ("https://", ErrorKind::Config),
    ("https:///CANARY", ErrorKind::Config),
    ("https://CANARY@issuer.test/", ErrorKind::Config),
    ("https://user:CANARY@issuer.test/", ErrorKind::Config),
    ("https://issuer.test/\r\nCANARY: 1", ErrorKind::Config),
    ("https://issuer.test/\tCANARY", ErrorKind::Config),
    ("https://issuer.test/\u{7f}CANARY", ErrorKind::Config),
    ("https://issuer.test/a CANARY", ErrorKind::Config),
    ("https://issuer.test/#CANARY", ErrorKind::Config),
    ("https://b\u{fc}cher.test/CANARY", ErrorKind::Config),
    ("https://issuer.test:99999/CANARY", ErrorKind::Config),
    ("https://issuer.test:/CANARY", ErrorKind::Config),
    ("ftp://issuer.test/CANARY", ErrorKind::Config),
    ("http://issuer.test/CANARY", ErrorKind::InsecureUrl),
    ("http://127.0.0.1.evil.test/CANARY", ErrorKind::InsecureUrl),
];

#[test]
fn a_token_url_that_cannot_be_trusted_with_a_secret_is_refused() {
    for (url, kind) in BAD_URLS {
        named(general(|b| b.token_url(url)), "token_url", kind);
        named(psp(|b| b.token_url(url).api_origin("https://api.test")), "token_url", kind);
        let client = TokenClient::new(HttpClient::new().unwrap());
        named(TokenEndpoint::new(url, client).map(drop), "token_url", kind);
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
fn an_api_origin_that_is_none_is_refused() {
    for (origin, kind) in [
        ("", ErrorKind::Config),
        ("CANARY", ErrorKind::Config),
        ("https://api.test/CANARY", ErrorKind::Config),
        ("https://user:CANARY@api.test", ErrorKind::Config),
        ("https://api.test?CANARY", ErrorKind::Config),
        ("https://api.test\r\nCANARY", ErrorKind::Config),
        ("http://api.test", ErrorKind::InsecureUrl),
    ] {
        named(general(|b| b.api_origin(origin)), "api_origin", kind);
        named(psp(|b| b.token_url("https://issuer.test").api_origin(origin)), "api_origin", kind);
    }
}

#[test]
fn a_token_url_and_its_origins_are_set_together_or_not_at_all() {
    let config = ErrorKind::Config;
    let bare = || ClientCredentials::builder().client_id("id").client_secret("secret");
    named(bare().build().map(drop), "token_url", config);
    named(bare().token_url("https://issuer.test").build().map(drop), "api_origin", config);
    named(bare().api_origin("https://api.test").build().map(drop), "token_url", config);
    psp(|b| b).unwrap();
    psp(|b| b.environment("production")).unwrap();
    named(psp(|b| b.token_url("https://issuer.test")), "api_origin", config);
    named(psp(|b| b.api_origin("https://api.test")), "token_url", config);
    // Else the credentials of a test environment would be sent to production.
    named(psp(|b| b.environment("staging")), "environment", config);
}

#[test]
fn ids_secrets_and_texts_that_are_empty_or_hold_control_characters_are_refused() {
    for bad in ["", "CANARY\n", "\rCANARY", "CAN\0ARY", "CANARY\u{7f}", "CANARY\u{85}"] {
        let config = ErrorKind::Config;
        named(general(|b| b.client_id(bad)), "client_id", config);
        named(general(|b| b.client_secret(bad)), "client_secret", config);
        named(general(|b| b.scope(bad)), "scope", config);
        named(general(|b| b.environment(bad)), "environment", config);
        named(general(|b| b.token_header("x-api-key", bad)), "token_header", config);
        named(general(|b| b.api_header("x-api-key", bad)), "api_header", config);
        named(psp(|b| b.client_id(bad)), "client_id", config);
        named(psp(|b| b.client_secret(bad)), "client_secret", config);
        named(psp(|b| b.scope(bad)), "scope", config);
        named(psp(|b| b.token_api_key(bad)), "token_api_key", config);
        named(psp(|b| b.api_key(bad)), "api_key", config);
        named(AccessPsp::new(bad, "secret").map(drop), "client_id", config);
        named(AccessPsp::new("id", bad).map(drop), "client_secret", config);
    }
    let config = ErrorKind::Config;
    named(AccessPsp::builder().build().map(drop), "client_id", config);
    named(AccessPsp::builder().client_id("id").build().map(drop), "client_secret", config);
    named(ClientCredentials::builder().build().map(drop), "client_id", config);
}

#[test]
fn headers_that_would_change_the_message_are_refused() {
    let config = ErrorKind::Config;
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
        named(general(|b| b.token_header(name, "CANARY")), "token_header", config);
        named(general(|b| b.api_header(name, "CANARY")), "api_header", config);
    }
    named(general(|b| b.api_header("Authorization", "CANARY")), "api_header", config);
    for name in ["x-api-key", "accept", "user-agent", "DPoP"] {
        general(|b| b.token_header(name, "v").api_header(name, "v")).unwrap();
    }
}

// RFC 6749 section 2.3: one method in each request, whichever it is.
#[test]
fn an_authorization_header_beside_the_client_s_own_proof_is_refused() {
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
        named(both.map(drop), "token_header", ErrorKind::Config);
    }
}

#[test]
fn a_timeout_of_zero_is_refused() {
    named(general(|b| b.timeout(Duration::ZERO)), "timeout", ErrorKind::Config);
    named(psp(|b| b.timeout(Duration::ZERO)), "timeout", ErrorKind::Config);
    let client = HttpClient::builder().connect_timeout(Duration::ZERO).build();
    named(client.map(drop), "connect_timeout", ErrorKind::Config);
    general(|b| b.timeout(Duration::MAX)).unwrap();
}
