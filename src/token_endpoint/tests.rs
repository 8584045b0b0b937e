use std::time::Duration;

use http::HeaderMap;

use super::causes::{causes, timed_out};
use super::json::text;
use super::lifetime::lifetime;
#[cfg(feature = "http-client")]
use super::no_proxy::NoProxy;
#[cfg(feature = "http-client")]
use super::proxy::decoded;
use super::request::TokenRequest;
use super::retry_after::retry_after;

// R32, row by row, and R55.
#[test]
fn a_lifetime_is_read_in_every_form_that_issuers_use() {
    let day = 24 * 60 * 60;
    for (json, seconds) in [
        ("1", Some(1)),
        ("59", Some(59)),
        ("3600", Some(3600)),
        ("3600.0", Some(3600)),
        ("\"3600\"", Some(3600)),
        ("\"3600 \"", Some(3600)),
        ("null", None),
        ("true", None),
        ("\"\"", None),
        ("0", None),
        ("-1", None),
        ("1e18", Some(day)),
        ("18446744073709551615", Some(day)),
        // More values than the requirement lists.
        ("18446744073709551616", Some(day)),
        ("1e999", Some(day)),
        ("-1e999", None),
        ("0.5", Some(1)),
        ("0.0", None),
        ("-0", None),
        ("-0.5", None),
        ("\"0\"", None),
        ("59.9", Some(59)),
        ("\"-1\"", None),
        ("86400", Some(day)),
        ("86401", Some(day)),
        ("\" \"", None),
        ("\"abc\"", None),
        ("\"inf\"", None),
        ("\"NaN\"", None),
        ("\"1 hour\"", None),
        ("\"-\"", None),
        ("\"", None),
        ("{}", None),
        ("{\"a\":1}", None),
        ("[]", None),
        ("[3600]", None),
    ] {
        assert_eq!(lifetime(json), seconds.map(Duration::from_secs), "{json}");
    }
}

#[test]
fn a_retry_after_date_is_relative_to_the_date_of_the_response() {
    let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
    for (value, date, seconds) in [
        ("0", None, Some(0)),
        ("120", None, Some(120)),
        (" 7 ", None, Some(7)),
        ("99999999999999999999999", None, Some(u64::MAX)),
        ("Sun, 06 Nov 1994 12:01:30 GMT", Some(noon), Some(90)),
        ("Sunday, 06-Nov-94 12:01:30 GMT", Some(noon), Some(90)),
        ("Sun Nov  6 12:01:30 1994", Some(noon), Some(90)),
        ("Sun, 06 Nov 1994 11:59:00 GMT", Some(noon), Some(0)),
        // Without a `Date`, the date is relative to this machine's clock, which is much later.
        ("Sun, 06 Nov 1994 12:01:30 GMT", None, Some(0)),
        ("Sun, 06 Nov 1994 12:01:30 GMT", Some("garbage"), Some(0)),
        ("", None, None),
        ("-5", None, None),
        ("+5", None, None),
        ("1.5", None, None),
        ("1e3", None, None),
        ("soon", None, None),
        ("Sun, 99 Nov 1994 12:00:00 GMT", Some(noon), None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().unwrap());
        if let Some(date) = date {
            headers.insert("date", date.parse().unwrap());
        }
        assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{value} {date:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new()), None);
}

#[cfg(feature = "http-client")]
#[test]
fn only_the_listed_hosts_bypass_the_proxy() {
    let (names, below) = ("https://issuer.test/t", "https://a.b.issuer.test/t");
    let (own_port, v4, v6) = ("https://issuer.test:8443/t", "https://10.1.2.3/t", "https://[fd00::1]:8443/t");
    for (list, urls) in [
        ("", vec![]),
        (" ,, ", vec![]),
        ("*", vec![names, below, own_port, v4, v6]),
        ("issuer.test", vec![names, below, own_port]),
        (".issuer.test", vec![names, below, own_port]),
        ("*.issuer.test", vec![names, below, own_port]),
        ("ISSUER.test.", vec![names, below, own_port]),
        ("b.issuer.test", vec![below]),
        ("suer.test", vec![]),
        ("other.test", vec![]),
        ("issuer.test:443", vec![names, below]),
        ("*.Issuer.Test.:8443", vec![own_port]),
        ("issuer.test:80", vec![]),
        ("10.1.2.3", vec![v4]),
        ("10.1.2.3.", vec![v4]),
        ("::ffff:10.1.2.3", vec![v4]),
        ("::ffff:10.1.0.0/112", vec![v4]),
        ("::ffff:10.2.0.0/112", vec![]),
        ("10.1.2.3:8443", vec![]),
        ("10.1.0.0/16", vec![v4]),
        ("10.1.2.2/31:443", vec![v4]),
        ("10.1.2.4/31", vec![]),
        ("0.0.0.0/0", vec![v4]),
        ("::/0", vec![v6]),
        ("fd00::/8", vec![v6]),
        ("fe00::/8", vec![]),
        ("fd00::1", vec![v6]),
        ("[FD00::1]", vec![v6]),
        ("[fd00::1]:8443", vec![v6]),
        ("[fd00::1]:443", vec![]),
        ("other.test 10.0.0.0/8\tb.issuer.test,fd00::/16", vec![below, v4, v6]),
    ] {
        let no_proxy = NoProxy::default().add("no_proxy", list).unwrap();
        for url in [names, below, own_port, v4, v6] {
            for url in [url.to_owned(), url.replace("issuer.test", "Issuer.TEST."), url.to_uppercase()] {
                let expected = urls.iter().any(|listed| {
                    listed.eq_ignore_ascii_case(&url) || listed.eq_ignore_ascii_case(&url.replace("TEST.", "test"))
                });
                assert_eq!(no_proxy.lists(&url.parse().unwrap()), expected, "{list}: {url}");
            }
        }
    }
    let mapped = NoProxy::default().add("no_proxy", "10.0.0.0/8").unwrap();
    assert!(mapped.lists(&"https://[::ffff:10.1.2.3]/".parse().unwrap()));
}

#[cfg(feature = "http-client")]
#[test]
fn decoding_a_proxy_password_leaves_no_copies() {
    for (text, bytes) in
        [("", ""), ("plain-and-long-enough-to-grow", "plain-and-long-enough-to-grow"), ("a%3Ab%20c", "a:b c")]
    {
        let decoded = decoded(text);
        assert_eq!(decoded.as_slice(), bytes.as_bytes());
        // The buffer did not grow.
        assert_eq!(decoded.capacity(), text.len());
    }
}

/// An error that is its own source.
#[derive(Debug)]
struct OwnSource;

static OWN_SOURCE: OwnSource = OwnSource;

impl std::fmt::Display for OwnSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its own source")
    }
}

impl std::error::Error for OwnSource {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&OWN_SOURCE)
    }
}

// R84: a search that never ends would block the worker thread of the runtime.
#[test]
fn the_search_through_the_sources_of_an_error_ends() {
    assert!(!timed_out(&OWN_SOURCE));
    assert_eq!(causes(&OWN_SOURCE).count(), 129);
}

// R82: compared with serde_json, whose result is the same, but which leaves copies.
#[test]
fn a_json_string_is_decoded_as_serde_json_decodes_it() {
    let mut read = 0;
    for json in [
        r#""""#,
        r#""abc""#,
        r#""a\/b\"c\\d\b\f\n\r\te""#,
        r#""\u0041\u00e9\uFFFD\u0000""#,
        r#""\ud83d\ude00!""#,
        "\"\u{fc}\u{1f600}\"",
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ude00\ud83d""#,
        r#""\ud83d\ud83d""#,
        "null",
        "7",
        "{}",
        r#"["a"]"#,
        "true",
    ] {
        let raw: &serde_json::value::RawValue = serde_json::from_str(json).unwrap();
        let expected = serde_json::from_str::<String>(json).ok();
        let decoded = text(raw.get());
        assert_eq!(decoded.as_ref().map(|text| text.as_str()), expected.as_deref(), "{json}");
        let capacity = decoded.map_or(0, |text| text.capacity());
        assert!(capacity <= json.len(), "the buffer grew: {json}");
        read += usize::from(expected.is_some());
    }
    assert_eq!(read, 6);
    for invalid in ["", "\"", r#""\""#, r#""\x""#, r#""\u12""#, r#""\u+123""#, r#""\u00\u00e9""#] {
        assert_eq!(text(invalid), None, "{invalid}");
    }
}

#[test]
fn a_token_request_with_too_many_headers_is_an_error() {
    use http::{HeaderName, HeaderValue};
    let url = || "https://issuer.test/token".parse().unwrap();
    let with = |headers: usize| {
        let names = (0..headers).map(|n| HeaderName::try_from(format!("x-{n}")).unwrap());
        names.fold(TokenRequest::form(&[]), |request, name| request.header(name, HeaderValue::from_static("1")))
    };
    assert!(with(10).into_http(url()).is_ok());
    for headers in [24_576, 40_000] {
        let error = with(headers).into_http(url()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidRequest, "{headers}");
    }
}
