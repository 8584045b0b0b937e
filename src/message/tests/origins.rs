//! Which requests go to an allowed origin, and which texts are origins.

use super::*;

// R25, R28
#[test]
fn scheme_host_and_port_decide_in_every_spelling() {
    use Destination::{Allowed, Foreign, Insecure};
    let origins = Origins::none()
        .allow("https://API.example.com.")
        .unwrap()
        .allow("https://[2001:db8::1]:8443")
        .unwrap()
        .allow("http://127.0.0.1:8080")
        .unwrap()
        .danger_allow_http("http://mesh.internal")
        .unwrap();
    for (uri, expected) in [
        ("https://api.example.com/x", Allowed),
        ("https://api.EXAMPLE.com./x", Allowed),
        ("https://api.example.com:443/x", Allowed),
        ("/relative?x=1", Allowed),
        ("https://[2001:DB8:0:0::1]:8443/", Allowed),
        ("http://127.0.0.1:8080/", Allowed),
        ("http://mesh.internal/x", Allowed),
        ("http://mesh.internal:80/x", Allowed),
        ("https://api.example.com:444/x", Foreign),
        ("https://api.example.com.evil.test/", Foreign),
        ("https://evil.test/api.example.com", Foreign),
        ("https://api.example.com@evil.test/", Foreign),
        ("https://user:password@api.example.com/", Foreign),
        ("https://xn--pi-7la.example.com/", Foreign),
        ("https://[2001:db8::2]:8443/", Foreign),
        ("https://[2001:db8::1]/", Foreign),
        ("http://127.0.0.1:8081/", Foreign),
        ("https://127.0.0.1:8080/", Foreign),
        ("https://mesh.internal/", Foreign),
        ("ftp://api.example.com/", Foreign),
        ("http://api.example.com/x", Insecure),
        ("http://api.example.com:443/x", Insecure),
        ("http://[2001:db8::1]:8443/", Insecure),
        ("api.example.com:443", Foreign),
        ("https://api.example.com:+443/x", Foreign),
        ("http://[::1].evil.test:80/x", Foreign),
        ("https://[2001:db8::1]x:8443/", Foreign),
        ("//api.example.com/x", Foreign),
        ("//evil.test/x", Foreign),
        ("///evil.test", Foreign),
        ("/\\evil.test/x", Foreign),
        ("/x//y", Allowed),
        ("https://api.example.com//x", Allowed),
        ("*", Allowed),
    ] {
        assert_eq!(check(&origins, uri, &[]), expected, "{uri}");
    }
    assert_eq!(check(&Origins::none(), "https://a.test/", &[]), Destination::NothingAllowed);
    assert_eq!(check(&Origins::none(), "/x", &[]), Allowed);
    assert_eq!(check(&Origins::none(), "//x", &[]), Foreign);
}

fn check(origins: &Origins, uri: &str, hosts: &[&[u8]]) -> Destination {
    let mut request = http::Request::builder().uri(uri);
    for host in hosts {
        request = request.header("host", *host);
    }
    origins.check(&RequestHead::of(&request.body(()).unwrap()))
}

// R76
#[test]
fn a_host_header_that_names_another_host_than_the_uri_makes_a_request_foreign() {
    use Destination::{Allowed, Foreign, Insecure, NothingAllowed};
    const URI: &str = "https://api.example.com/x";
    const V6: &str = "https://[2001:db8::1]:8443/";
    const HTTP: &str = "http://mesh.internal/x";
    let origins = Origins::none()
        .allow("https://api.example.com")
        .and_then(|origins| origins.allow("https://other.example.com"))
        .and_then(|origins| origins.allow("https://[2001:db8::1]:8443"))
        .and_then(|origins| origins.danger_allow_http("http://mesh.internal"))
        .unwrap();
    let table: &[(&str, &[&[u8]], Destination)] = &[
        (URI, &[b"api.example.com"], Allowed),
        (URI, &[b"API.example.com."], Allowed),
        (URI, &[b"api.example.com:443"], Allowed),
        (URI, &[b"api.example.com", b"api.example.com:443"], Allowed),
        ("https://api.example.com:443/x", &[b"api.example.com"], Allowed),
        (V6, &[b"[2001:DB8:0::1]:8443"], Allowed),
        (HTTP, &[b"mesh.internal:80"], Allowed),
        (URI, &[b"evil.test"], Foreign),
        (URI, &[b"other.example.com"], Foreign),
        (URI, &[b"api.example.com.evil.test"], Foreign),
        (URI, &[b"api.example.com:444"], Foreign),
        (URI, &[b"api.example.com:80"], Foreign),
        (URI, &[b"api.example.com", b"evil.test"], Foreign),
        (URI, &[b"evil.test", b"api.example.com"], Foreign),
        (URI, &[b"api.example.com, evil.test"], Foreign),
        (URI, &[b"user@api.example.com"], Foreign),
        (URI, &[b"https://api.example.com"], Foreign),
        (URI, &[b" api.example.com"], Foreign),
        (URI, &[b"api.example.com:"], Foreign),
        (URI, &[b""], Foreign),
        (URI, &[b"api.example.com\xff"], Foreign),
        (V6, &[b"[2001:db8::1]"], Foreign),
        (V6, &[b"[2001:db8::1].evil.test:8443"], Foreign),
        (HTTP, &[b"mesh.internal:443"], Foreign),
        // The service below chooses the host, unless the request names two.
        ("/x", &[b"evil.test"], Allowed),
        ("/x", &[b"not a host"], Allowed),
        ("/x", &[b"a.test", b"A.test:443"], Allowed),
        ("/x", &[b"a.test", b"b.test"], Foreign),
        ("/x", &[b"", b""], Foreign),
        // The URI alone is reason enough.
        ("https://evil.test/x", &[b"api.example.com"], Foreign),
        ("http://api.example.com/x", &[b"evil.test"], Insecure),
    ];
    for (uri, hosts, expected) in table {
        let texts: Vec<_> = hosts.iter().map(|host| String::from_utf8_lossy(host)).collect();
        assert_eq!(check(&origins, uri, hosts), *expected, "{uri} {texts:?}");
    }
    assert_eq!(check(&Origins::none(), URI, &[b"evil.test"]), NothingAllowed);
}

#[test]
fn an_invalid_origin_is_an_error_that_does_not_repeat_it() {
    for text in [
        "",
        "api.example.com",
        "https://",
        "https://user:canary@host",
        "https://host/path",
        "https://host?q",
        "https://host:99999",
        "https://host:",
        "https://h\r\nost",
        "https://b\u{fc}cher.test",
        "ws://host",
        "https://*.host",
        "http://host",
        "http://127.0.0.1.evil.test",
        "https://.example.com",
        "https://example..com",
        "https://example.com..",
        "https://.",
        "https://host:0",
        "https://host:00",
        "https://host:+80",
        "https://host:-1",
        "https://host:65536",
        "https://a:1a",
        "https://a:",
        "https://[:1]:44",
        "https://[::1]x:44",
        "https://[::1]44",
        "https://[evil.com]",
        "https://[]",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "http://[::1].evil.com:80",
        "https://exa$mple/",
        "https://exa!mple",
        "https://exa%6dple",
        "https://127.1",
        "https://2130706433",
        "https://127.0.0.256",
        "https://1.2.3.4.5",
        "https://a.1",
        "https://canary canary",
        &format!("https://{}.test", "a".repeat(64)),
        &format!("https://{}bc", "a.".repeat(126)),
    ] {
        let error = Origins::none().allow(text).unwrap_err();
        assert_eq!(error.setting(), "origin", "{text}");
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert!(error.to_string().contains("https"), "it says what to write: {error}");
    }
    for text in [
        "https://api",
        "https://Under_score.Example-1.com./",
        "https://xn--bcher-kva.example",
        "https://192.0.2.7:65535",
        "https://3com.example",
        "https://1.2.3.4a",
        "https://host:1",
        "https://host:00443",
        "https://[2001:db8::1]",
        "https://[::ffff:192.0.2.7]:8443",
        "http://127.0.0.1:8080",
        "http://[::1]:80",
        "http://localhost",
        &format!("https://{}.test", "a".repeat(63)),
        // 253 bytes, the longest name.
        &format!("https://{}b", "a.".repeat(126)),
    ] {
        assert!(Origins::none().allow(text).is_ok(), "{text}");
    }
}

#[test]
fn the_origins_of_the_provider_and_of_the_layer_are_all_allowed() {
    let mut origins = Origins::none();
    assert!(origins.is_empty());
    origins.merge(Origins::none().allow("https://a.test").unwrap().allow("https://b.test").unwrap());
    assert!(!origins.is_empty());
    origins.merge(Origins::none().allow("https://b.test").unwrap().allow("https://c.test:444").unwrap());
    assert_eq!(format!("{origins:?}"), "[https://a.test, https://b.test, https://c.test:444]");
    assert_eq!(check(&origins, "https://c.test:444/", &[]), Destination::Allowed);
}
