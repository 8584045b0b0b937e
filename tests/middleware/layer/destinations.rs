//! Requests that name two hosts, and what happens to a foreign request.

use tower_bearer_auth::{NotSent, OnForeignOrigin};

use super::*;

fn with_hosts(uri: &str, hosts: &[&'static str]) -> Request<Body> {
    let mut request = get(uri);
    for host in hosts {
        request.headers_mut().append("host", HeaderValue::from_static(host));
    }
    request
}

/// Requests with a URI of the API, which a server on the way may read as requests to another host.
const FOREIGN: [(&str, &[&str]); 9] = [
    ("https://api.example.com/x", &["evil.test"]),
    ("https://api.example.com/x", &["api.example.com:8443"]),
    ("https://api.example.com/x", &["api.example.com", "evil.test"]),
    ("https://api.example.com/x", &["evil.test", "api.example.com"]),
    ("https://api.example.com/x", &[""]),
    ("/x", &["api.example.com", "evil.test"]),
    ("//evil.test/x", &[]),
    ("//evil.test/x", &["api.example.com"]),
    ("/\\evil.test/x", &[]),
];

// R76
#[tokio::test(start_paused = true)]
async fn a_request_that_names_another_host_is_sent_without_the_token() {
    let api = Api::new(|_| rejection(INVALID_TOKEN));
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap();
    let source = layer.source().clone();
    let client = layer.layer_over(api.clone());
    for (n, (uri, hosts)) in FOREIGN.iter().enumerate() {
        let request = with_hosts(uri, hosts);
        let headers = request.headers().clone();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401, "{uri} {hosts:?}");
        assert_eq!(*api.sends()[n].headers(), headers, "{uri} {hosts:?}");
        assert_eq!(source.stats().not_stamped, n as u64 + 1, "{uri} {hosts:?}");
    }
    assert_eq!((api.sends().len(), fetches.count()), (FOREIGN.len(), 0));
}

// R76
#[tokio::test(start_paused = true)]
async fn a_host_header_that_names_the_host_of_the_uri_is_stamped() {
    let api = Api::new(ok);
    let client = BearerAuthLayer::new(FixedToken::new("t").unwrap()).allow_origin(API).unwrap().layer_over(api.clone());
    let table: [(&str, &[&str]); 6] = [
        ("https://api.example.com/x", &["api.example.com"]),
        ("https://api.example.com/x", &["API.example.com.:443"]),
        ("https://api.example.com:443/x", &["api.example.com", "api.example.com"]),
        ("https://api.example.com//x", &["api.example.com"]),
        ("/x", &["elsewhere.test"]),
        ("/x//y", &[]),
    ];
    for (uri, hosts) in table {
        client.clone().oneshot(with_hosts(uri, hosts)).await.unwrap();
        assert_eq!(bearer(api.sends().last().unwrap()), "t", "{uri} {hosts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_request_can_be_an_error_before_any_io() {
    let api = Api::new(ok);
    let (provider, fetches) = issuer(|n| async move { token(n) });
    let layer = BearerAuthLayer::new(provider).allow_origin(API).unwrap().on_foreign_origin(OnForeignOrigin::Fail);
    let source = layer.source().clone();
    let client = layer.layer_over(api.clone());
    let elsewhere: [(&str, &[&str]); 2] = [("https://elsewhere.test/?canary", &[]), ("ftp://api.example.com/", &[])];
    for (uri, hosts) in FOREIGN.into_iter().chain(elsewhere) {
        let error = client.clone().oneshot(with_hosts(uri, hosts)).await.unwrap_err();
        let not_sent = error.downcast_ref::<NotSent>().unwrap();
        assert_eq!((not_sent.error().kind(), not_sent.error().is_transient()), (ErrorKind::NoOrigin, false));
        let hint = not_sent.error().hint().unwrap();
        assert!(hint.contains("allow_origin") && hint.contains("Unauthenticated"), "{hint}");
        assert!(!format!("{not_sent} {not_sent:?}").contains("canary"));
    }
    assert_eq!((api.sends().len(), source.stats().not_stamped, fetches.count()), (0, 0, 0));
    // An allowed origin is stamped, and the last setting counts.
    client.oneshot(get(API)).await.unwrap();
    assert_eq!(bearer(&api.sends()[0]), "token-1");
    let passes = source.layer().on_foreign_origin(OnForeignOrigin::Fail).on_foreign_origin(OnForeignOrigin::default());
    passes.allow_origin(API).unwrap().layer_over(api.clone()).oneshot(get("https://elsewhere.test/")).await.unwrap();
    assert_eq!((api.sends().len(), source.stats().not_stamped), (2, 1));
}

// RFC 9113 section 8.3.1: in HTTP/2, the authority of the URI becomes `:authority`.
#[tokio::test(start_paused = true)]
async fn a_host_header_beside_an_authority_is_compared_in_every_version() {
    let api = Api::new(ok);
    let client = BearerAuthLayer::new(FixedToken::new("t").unwrap()).allow_origin(API).unwrap().layer_over(api.clone());
    for version in [http::Version::HTTP_10, http::Version::HTTP_11, http::Version::HTTP_2, http::Version::HTTP_3] {
        for (host, stamped) in [("api.example.com", true), ("evil.test", false)] {
            let mut request = with_hosts(API, &[]);
            *request.version_mut() = version;
            request.headers_mut().insert("host", HeaderValue::from_static(host));
            client.clone().oneshot(request).await.unwrap();
            let sends = api.sends();
            assert_eq!(sends.last().unwrap().headers().contains_key("authorization"), stamped, "{version:?} {host}");
        }
    }
}
