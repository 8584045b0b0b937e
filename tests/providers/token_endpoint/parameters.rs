//! The parameters of a token request, and which sources share a token.

use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, ClientCredentialsBuilder, FetchContext, TokenProvider as _, TokenSource,
};

use super::wire::{GOOD, Wire, http_response};
use crate::support::strict_issuer::{ReceivedRequest, StrictIssuer};

fn base(url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id("id").client_secret("secret").token_url(url).api_origin("https://api.test")
}

// RFC 8707 section 2, RFC 6749 sections 3.3 and 8.2.
#[tokio::test]
async fn scope_resources_audience_and_extra_parameters_are_sent_once_each_and_in_order() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    base(&wire.token_url())
        .parameter("organization", "org 7")
        .audience("https://api.test/")
        .resource("https://a.test/x?y=z")
        .scope("read write")
        .resource("urn:example:b")
        .parameter("connection-id", "\u{fc}&=")
        .build()
        .unwrap()
        .fetch(&(), &FetchContext::default())
        .await
        .unwrap();
    let request = wire.requests().remove(0);
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        body,
        "grant_type=client_credentials&client_id=id&client_secret=secret&scope=read+write\
         &resource=https%3A%2F%2Fa.test%2Fx%3Fy%3Dz&resource=urn%3Aexample%3Ab&audience=https%3A%2F%2Fapi.test%2F\
         &organization=org+7&connection-id=%C3%BC%26%3D"
    );
}

#[tokio::test]
async fn parameters_are_also_sent_with_basic() {
    let issuer = StrictIssuer::start(|seen| seen.authorization.len() == 1).await;
    let provider = base(&issuer.token_url())
        .client_secret_basic(BasicEncoding::Percent)
        .resource("https://a.test")
        .resource("https://b.test")
        .parameter("organization", "7")
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let seen = issuer.requests().remove(0);
    assert_eq!(seen.all("resource"), ["https://a.test", "https://b.test"]);
    assert_eq!(seen.one("organization"), Some("7"));
    assert_eq!(seen.one("client_secret"), None);
}

#[track_caller]
fn named(builder: ClientCredentialsBuilder, field: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.setting(), field, "{error}");
    assert!(error.to_string().starts_with(&format!("{field}: ")), "{field}: {error}");
    assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
}

#[test]
fn a_resource_that_is_not_an_absolute_uri_is_rejected() {
    let url = "https://issuer.test/token";
    for bad in [
        "",
        "CANARY",
        "/CANARY",
        "//CANARY",
        "https://api.test/#CANARY",
        "urn:CANARY#",
        "api.test:8443/CANARY",
        "localhost:8443",
        "1ttp://CANARY",
        "ht_tp://CANARY",
        ":CANARY",
        "urn:",
        "https://",
        "https:///CANARY",
        "https://user:CANARY@api.test",
        "https://api.test/a CANARY",
        "https://api.test/\u{fc}CANARY",
        "https://api.test/\nCANARY",
        "https://api.test/<CANARY>",
    ] {
        named(base(url).resource(bad), "resource");
    }
    named(base(url).resource("urn:a:CANARY").resource("urn:a:CANARY"), "resource");
    for good in ["https://api.test", "https://api.test:8443/a/b?c=d", "urn:example:api", "api://0a1b/x", "com.x:y"] {
        base(url).resource(good).build().unwrap();
    }
}

// RFC 6749 section 3.2: no parameter more than once, and none that turns the request into another one.
#[test]
fn a_reserved_parameter_is_rejected() {
    let url = "https://issuer.test/token";
    for reserved in [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "resource",
        "audience",
        "assertion",
        "code",
        "code_verifier",
        "device_code",
        "redirect_uri",
        "refresh_token",
        "username",
        "password",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
        "auth_req_id",
        "request",
        "request_uri",
    ] {
        named(base(url).parameter(reserved, "CANARY"), "parameter");
        // An issuer that ignores case would find the parameter twice.
        named(base(url).parameter(reserved.to_uppercase(), "CANARY"), "parameter");
        named(
            base(url).parameter(format!("{}{}", reserved[..1].to_uppercase(), &reserved[1..]), "CANARY"),
            "parameter",
        );
    }
    // The builder has no method for the parameters of another grant.
    let hint = |name: &str| base(url).parameter(name, "v").build().unwrap_err().hint().unwrap().to_owned();
    for (name, says) in [("Scope", "the builder's method"), ("grant_type", "from_fn"), ("code", "from_fn")] {
        assert!(hint(name).contains(says), "{name}: {}", hint(name));
    }
    for good in ["organization", "response_type", "request_id"] {
        base(url).parameter(good, "7").build().unwrap();
    }
    for name in ["", "a b", "CANARY=", "a&CANARY", "\u{fc}", "a\n"] {
        named(base(url).parameter(name, "v"), "parameter");
    }
    for value in ["", "CANARY\n", "\0"] {
        named(base(url).parameter("organization", value), "parameter");
        named(base(url).audience(value), "audience");
    }
    named(base(url).parameter("a", "CANARY").parameter("a", "b"), "parameter");
    // Parameter names are case-sensitive (RFC 6749 section 1.4).
    base(url).parameter("a", "1").parameter("A", "2").build().unwrap();
}

#[test]
fn debug_prints_what_is_requested_and_no_value_that_may_be_a_secret() {
    let builder = base("https://issuer.test/token")
        .label("blue")
        .scope("read")
        .resource("https://api.test/v2?key=CANARY")
        .audience("https://api.test/the-audience?key=CANARY")
        .parameter("organization", "CANARY");
    let shown = format!("{builder:?}");
    let provider = builder.build().unwrap();
    for shown in [shown, format!("{provider:?}"), format!("{:?}", TokenSource::new(provider).provider())] {
        for part in ["blue", "read", "https://api.test/v2", "the-audience", "organization"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

/// A change of the settings.
type Change = fn(ClientCredentialsBuilder) -> ClientCredentialsBuilder;

// R30: a token is used only for what it was requested for.
#[tokio::test]
async fn two_sources_never_share_a_token() {
    let issuer = StrictIssuer::start(|seen: &ReceivedRequest| seen.one("client_secret").is_some()).await;
    let changes: [Change; 7] = [
        |b| b,
        // Equal settings do not share a token either.
        |b| b,
        |b| b.client_id("another"),
        |b| b.scope("read"),
        |b| b.resource("https://a.test"),
        |b| b.audience("https://a.test"),
        |b| b.parameter("organization", "7"),
    ];
    let sources = changes.map(|change| TokenSource::new(change(base(&issuer.token_url())).build().unwrap()));
    for (before, source) in sources.iter().enumerate() {
        assert_eq!(issuer.requests().len(), before);
        source.token().await.unwrap();
        // A clone shares the token.
        source.clone().token().await.unwrap();
        source.token().await.unwrap();
        assert_eq!(issuer.requests().len(), before + 1);
        assert_eq!(source.stats().fetches, 1);
    }
    let bodies: std::collections::BTreeSet<String> = issuer.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.len(), changes.len() - 1);
}
