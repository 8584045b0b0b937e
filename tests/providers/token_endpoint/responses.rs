//! What each response of an issuer becomes.

use std::error::Error as _;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, Error, ErrorKind, FetchContext, IssuedToken, TokenProvider as _,
};

use super::wire::{GOOD, Then, Wire, client, http_response};

pub(crate) async fn outcome(response: Vec<u8>) -> Result<IssuedToken, Error> {
    Wire::responding(response).await.client().fetch(&(), &FetchContext::default()).await
}

pub(crate) async fn failure(response: Vec<u8>) -> Error {
    outcome(response).await.unwrap_err()
}

// RFC 6749 section 5.2 and RFC 8707 section 2. The status decides if there is no documented code.
#[tokio::test]
async fn the_error_code_decides_before_the_status() {
    use ErrorKind::{Config, InvalidCredentials, InvalidRequest, Throttled, Timeout, Unavailable};
    for (status, body, kind, code) in [
        (400, r#"{"error":"invalid_request"}"#, InvalidRequest, Some("invalid_request")),
        (400, r#"{"error":"invalid_client"}"#, InvalidCredentials, Some("invalid_client")),
        (401, r#"{"error":"invalid_client"}"#, InvalidCredentials, Some("invalid_client")),
        (403, r#"{"error":"invalid_client"}"#, InvalidCredentials, Some("invalid_client")),
        (400, r#"{"error":"invalid_grant"}"#, InvalidRequest, Some("invalid_grant")),
        (400, r#"{"error":"unauthorized_client"}"#, InvalidRequest, Some("unauthorized_client")),
        (400, r#"{"error":"unsupported_grant_type"}"#, InvalidRequest, Some("unsupported_grant_type")),
        (400, r#"{"error":"invalid_scope","x":1}"#, InvalidRequest, Some("invalid_scope")),
        (401, r#"{"error":"invalid_scope"}"#, InvalidRequest, Some("invalid_scope")),
        (400, r#"{"error":"invalid_target"}"#, InvalidRequest, Some("invalid_target")),
        (400, r#"{"error":"temporarily_unavailable"}"#, Unavailable, Some("temporarily_unavailable")),
        (400, r#"{"error":"server_error"}"#, Unavailable, Some("server_error")),
        (200, r#"{"error":"invalid_client"}"#, InvalidCredentials, Some("invalid_client")),
        (400, r#"{"error":"slow_down"}"#, Throttled, Some("slow_down")),
        // disabled_client is documented for AccessPSP only.
        (401, r#"{"error":"disabled_client"}"#, InvalidCredentials, Some("disabled_client")),
        (400, "", InvalidRequest, None),
        (401, "", InvalidCredentials, None),
        (403, "", InvalidCredentials, None),
        (404, "", Config, None),
        (405, "", Config, None),
        (410, "", Config, None),
        (415, "", InvalidRequest, None),
        (422, "", InvalidRequest, None),
        (400, "<html>invalid_client</html>", InvalidRequest, None),
        // R61
        (401, r#"{"error":"incorrect_client_credentials"}"#, InvalidCredentials, Some("incorrect_client_credentials")),
        (400, r#"{"error":"scope_invalid"}"#, InvalidRequest, Some("scope_invalid")),
        (403, r#"{"error":"access_denied"}"#, InvalidCredentials, Some("access_denied")),
        (400, r#"{"error":"aadsts7000215"}"#, InvalidRequest, Some("aadsts7000215")),
        (400, r#"{"error":"Access_Denied"}"#, InvalidRequest, None),
        (400, r#"{"error":"access denied"}"#, InvalidRequest, None),
        (400, r#"{"error":"access-denied"}"#, InvalidRequest, None),
        (400, r#"{"error":"a\u0062"}"#, InvalidRequest, None),
        (400, r#"{"error":""}"#, InvalidRequest, None),
        (
            400,
            r#"{"error":"a123456789b123456789c123456789d123456789"}"#,
            InvalidRequest,
            Some("a123456789b123456789c123456789d123456789"),
        ),
        (400, r#"{"error":"a123456789b123456789c123456789d1234567890"}"#, InvalidRequest, None),
        (401, r#"{"error":{"code":"invalid_scope"}}"#, InvalidCredentials, None),
        (401, r#"["invalid_scope"]"#, InvalidCredentials, None),
        (401, r#"{"error":"invalid_scope","error":"x"}"#, InvalidCredentials, None),
        (401, r#"{"error":"invalid_scope""#, InvalidCredentials, None),
        (408, "", Timeout, None),
        (421, "", Unavailable, None),
        (425, "", Unavailable, None),
        (429, "", Throttled, None),
        (429, r#"{"error":"invalid_client"}"#, Throttled, None),
        (500, "", Unavailable, None),
        (502, "<html>", Unavailable, None),
        (503, r#"{"error":"invalid_client"}"#, Unavailable, None),
        (504, "", Unavailable, None),
        (599, "", Unavailable, None),
    ] {
        let error = failure(http_response(status, &[], body)).await;
        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.code(), code, "{status} {body}");
        assert_eq!(error.status().unwrap().as_u16(), status);
        let is_transient = matches!(kind, Throttled | Timeout | Unavailable);
        assert_eq!(error.is_transient(), is_transient, "{status} {body}");
        assert_eq!(error.retry_after(), None);
    }
    // R61: the issuer's delay is kept.
    for (status, body) in [(400, r#"{"error":"slow_down"}"#), (421, ""), (425, "")] {
        let error = failure(http_response(status, &[("Retry-After", "7")], body)).await;
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{status}");
    }
    let error = failure(http_response(200, &[], r#"{"error":"no_such_client"}"#)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::MalformedResponse, Some("no_such_client")));
}

// R61: an issuer can put what it received into the code.
#[tokio::test]
async fn a_code_that_repeats_a_value_of_the_request_is_not_shown() {
    const SECRET: &str = "s3cret_canary77";
    let with_code = |code: &str| http_response(400, &[], &format!(r#"{{"error":"{code}"}}"#));
    for (code, is_shown) in [
        (SECRET, false),
        (&SECRET[2..], false),
        ("bad_s3cret_canary77", false),
        ("the_client_7", false),
        ("api_key_canary_1", false),
        ("query_canary_1", false),
        ("client_credentials", false),
        ("client_secret_expired", true),
        ("s3cret", false),
        ("unknown_secret", true),
    ] {
        let wire = Wire::responding(with_code(code)).await;
        let builder = || {
            ClientCredentials::builder()
                .client_id("the_client_7")
                .client_secret(SECRET)
                .token_header("x-api-key", "API_KEY_CANARY_1")
                .token_url(format!("{}?key=query_canary_1", wire.token_url()))
                .api_origin("https://api.test")
        };
        for builder in [
            builder(),
            builder().client_secret_basic(BasicEncoding::Raw),
            builder().client_secret_basic(BasicEncoding::Form),
        ] {
            let error = builder.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
            assert_eq!(error.code(), is_shown.then_some(code), "{code}");
            assert_eq!(format!("{error} {error:?}").contains(code), is_shown, "{error:?}");
        }
    }
    // An escaped byte belongs to no word.
    let wire = Wire::responding(with_code("bad_xyz_canary_8")).await;
    let provider = client(&wire.token_url()).client_secret("=xyz_canary_8").build().unwrap();
    assert_eq!(provider.fetch(&(), &FetchContext::default()).await.unwrap_err().code(), None);
}

// R56: Apache with `force-gzip` compresses a response although the request excludes it.
#[tokio::test]
async fn a_compressed_response_is_an_error_that_names_its_encoding() {
    let gzip = "\u{1f}\u{8b}CANARY";
    for (encoding, named) in [
        ("gzip", "the Content-Encoding gzip,"),
        ("GZIP", "gzip,"),
        ("br", "br,"),
        ("identity, zstd", "zstd,"),
        ("CANARY", "of an unknown name,"),
    ] {
        let error = failure(http_response(200, &[("Content-Encoding", encoding)], gzip)).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::MalformedResponse, true));
        assert!(error.to_string().contains(named), "{error}");
        assert!(error.hint().unwrap().contains("compression"), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        // A code in such a body is not read. The status decides.
        let coded = http_response(401, &[("Content-Encoding", encoding)], r#"{"error":"invalid_scope"}"#);
        let error = failure(coded).await;
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidCredentials, None));
    }
    for encoding in ["identity", "Identity", "", "identity, identity"] {
        outcome(http_response(200, &[("Content-Encoding", encoding)], GOOD)).await.unwrap();
    }
}

// R56, RFC 8259 section 8.1
#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    outcome(http_response(200, &[], &format!("\u{feff}{GOOD}"))).await.unwrap();
    let error = failure(http_response(400, &[], "\u{feff}{\"error\":\"invalid_scope\"}")).await;
    assert_eq!(error.code(), Some("invalid_scope"));
    let error = failure(http_response(200, &[], "\u{feff}\u{feff}{}")).await;
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    let wire = Wire::start_with(|origin| {
        let document = format!("\u{feff}{{\"issuer\":\"{origin}\",\"token_endpoint\":\"{origin}/token\"}}");
        Then::Send(http_response(200, &[], &document))
    })
    .await;
    drop(ClientCredentials::builder().discover(wire.origin()).await.unwrap());
}

#[tokio::test]
async fn retry_after_is_read_in_both_forms_and_invalid_values_are_ignored() {
    let date = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (value, seconds) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("Sun, 06 Nov 1994 08:51:07 GMT", Some(90)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("31536000", Some(31_536_000)),
        ("99999999999999999999999999", Some(u64::MAX)),
        ("-1", None),
        ("soon", None),
        ("", None),
    ] {
        for status in [408, 429, 500, 503] {
            let error = failure(http_response(status, &[date, ("Retry-After", value)], "")).await;
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(error.retry_after(), expected, "{status} {value:?}");
        }
    }
    // One hour from this machine's time, from a server that sends no `Date`.
    #[expect(clippy::disallowed_methods, reason = "the header's date has to lie ahead of now")]
    let hour = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    let error = failure(http_response(503, &[("Retry-After", &hour)], "")).await;
    let delay = error.retry_after().unwrap();
    assert!(delay <= Duration::from_secs(3600) && delay > Duration::from_secs(3000), "{delay:?}");
    // A permanent error has no delay.
    let error = failure(http_response(401, &[("Retry-After", "7")], "")).await;
    assert_eq!(error.retry_after(), None);
}

// R26
#[tokio::test]
async fn no_redirect_is_followed_and_its_target_receives_nothing() {
    let target = Wire::responding(http_response(200, &[], GOOD)).await;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let location = format!("{}/path?secret=inside#fragment", target.origin());
        let error = failure(http_response(status, &[("Location", &location)], "")).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{status}");
        assert!(!error.is_transient());
        assert_eq!(error.status().unwrap().as_u16(), status);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(&target.origin()), "{shown}");
        assert!(!shown.contains("path") && !shown.contains("inside"), "{shown}");
    }
    for location in [
        "/elsewhere?secret=inside",
        "https://user:inside@evil.test/",
        "inside",
        "https://\u{fc}inside.test/",
        &format!("https://{}.test/", "inside".repeat(100)),
    ] {
        let error = failure(http_response(307, &[("Location", location)], "")).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error} {error:?}").contains("inside"), "{error}");
    }
    assert_eq!(failure(http_response(302, &[], "")).await.kind(), ErrorKind::Config);
    assert_eq!(target.connections(), 0);
}

// R62: often only a slash is missing.
#[tokio::test]
async fn a_redirect_to_the_same_host_shows_its_path_and_nothing_that_was_sent() {
    let long = format!("/{}", "x".repeat(100));
    for (path, shown) in [
        ("/oauth/token/", true),
        ("/oauth/token/?secret=inside", true),
        ("/login.html", true),
        ("/the_client_7/login", false),
        ("/x/S3CRET_CANARY/y", false),
        ("/session/3f9a1c77b2d04e58", false),
        ("/a%20b", false),
        ("//evil.test/inside", false),
        ("login", false),
        (&long, false),
    ] {
        for (status, is_absolute) in [(301, true), (307, false)] {
            if is_absolute && !path.starts_with("/") {
                continue;
            }
            let wire = Wire::start_with(|origin| {
                let location = if is_absolute { format!("{origin}{path}") } else { path.to_owned() };
                Then::Send(http_response(status, &[("Location", &location)], ""))
            })
            .await;
            let builder = client(&wire.token_url()).client_id("the_client_7").client_secret("s3cret_canary");
            for builder in [
                builder,
                client(&wire.token_url())
                    .client_id("the_client_7")
                    .client_secret("s3cret_canary")
                    .client_secret_basic(BasicEncoding::Raw),
            ] {
                let error = builder.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                let to = path.split('?').next().unwrap();
                let text = format!("{error} {error:?}");
                assert_eq!(text.contains(&format!("{to}, which")), shown, "{path}: {text}");
                assert!(!text.contains("inside") && !text.contains("anary"), "{text}");
            }
        }
    }
}

fn lifetime(token: &IssuedToken) -> String {
    let shown = format!("{token:?}");
    let (_, rest) = shown.split_once("lifetime: ").unwrap();
    rest.split([',', ' ']).next().unwrap().to_owned()
}

// R32, row by row, as the issuer sends it, and R55.
#[tokio::test]
async fn every_form_of_a_lifetime_that_issuers_send_is_read() {
    for (json, expected) in [
        ("1", "Some(1s)"),
        ("59", "Some(59s)"),
        ("3600", "Some(3600s)"),
        ("3600.0", "Some(3600s)"),
        ("\"3600\"", "Some(3600s)"),
        ("\"3600 \"", "Some(3600s)"),
        ("null", "None"),
        ("true", "None"),
        ("\"\"", "None"),
        ("0", "None"),
        ("-1", "None"),
        ("1e18", "Some(86400s)"),
        ("18446744073709551615", "Some(86400s)"),
        ("1e999", "Some(86400s)"),
        ("{\"a\":[]}", "None"),
        ("[]", "None"),
        ("\"abc\"", "None"),
    ] {
        let body = format!(r#"{{"access_token":"abc","token_type":"Bearer","expires_in":{json}}}"#);
        let token = outcome(http_response(200, &[], &body)).await.unwrap();
        assert_eq!(lifetime(&token), expected, "{json}");
    }
    let absent = outcome(http_response(200, &[], r#"{"access_token":"abc","token_type":"Bearer"}"#)).await;
    assert_eq!(lifetime(&absent.unwrap()), "None");
    let nan = r#"{"access_token":"abc","token_type":"Bearer","expires_in":NaN}"#;
    let error = failure(http_response(200, &[], nan)).await;
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
}

// R41
#[tokio::test]
async fn a_malformed_response_is_a_transient_error_that_quotes_nothing() {
    let html = "<html><title>CANARY</title></html>";
    let endless = format!(r#"{{"access_token":"CANARY{}"}}"#, "x".repeat(64 * 1024));
    let deep = format!(r#"{{"access_token":{}"#, "[".repeat(60_000));
    for body in [
        "",
        " ",
        html,
        "CANARY",
        "null",
        "true",
        "\"CANARY\"",
        "[]",
        r#"["CANARY","Bearer",3600]"#,
        "{}",
        r#"{"access_token":"CANARY""#,
        r#"{"access_token":"CANARY","token_type":"Bearer","expires_in":18"#,
        r#"{"access_token":"CANARY","token_type":"Bearer"} CANARY"#,
        r#"{"access_token":"CANARY","token_type":"Bearer","expires_in":CANARY}"#,
        r#"{"token_type":"Bearer","expires_in":1800,"CANARY":1}"#,
        r#"{"access_token":null,"token_type":"Bearer"}"#,
        r#"{"access_token":12345678,"token_type":"Bearer"}"#,
        r#"{"access_token":["CANARY"],"token_type":"Bearer"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        r#"{"access_token":"CANARY","access_token":"other","token_type":"Bearer"}"#,
        r#"{"access_token":"abc","expires_in":1,"expires_in":3600}"#,
        r#"{"ACCESS_TOKEN":"CANARY","token_type":"Bearer"}"#,
        &endless,
        &deep,
    ] {
        let start: String = body.chars().take(60).collect();
        for status in [200, 201] {
            let error = failure(http_response(status, &[], body)).await;
            assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{start}");
            assert!(error.is_transient(), "{start}");
            assert_eq!(error.status().unwrap().as_u16(), status);
            assert!(error.source().is_none(), "{start}");
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{start}");
        }
    }
    let error = failure(http_response(204, &[], "")).await;
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
}

#[tokio::test]
async fn a_token_may_contain_escapes_and_no_raw_control_characters() {
    // RFC 8259 section 7.
    let error = failure(http_response(200, &[], "{\"access_token\":\"a\r\nb\"}")).await;
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    // Escapes of valid characters are accepted. Some issuers escape every slash.
    for token in ["a\\/b+c~d.e-f_g==", "\\u0061bc"] {
        let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#);
        outcome(http_response(200, &[], &body)).await.unwrap();
    }
}

// RFC 6749 section 5.1: the token type is case-insensitive. Section 7.1: no token of another type is used.
#[tokio::test]
async fn a_token_that_is_not_a_bearer_token_is_rejected_by_name() {
    for token_type in ["\"Bearer\"", "\"bearer\"", "\"BEARER\"", "\"bEaReR\"", "\" Bearer \"", "null", "\"\"", "\" \""]
    {
        let body = format!(r#"{{"access_token":"abc","token_type":{token_type}}}"#);
        outcome(http_response(200, &[], &body)).await.unwrap();
    }
    outcome(http_response(200, &[], r#"{"access_token":"abc"}"#)).await.unwrap();
    for (token_type, named) in [
        ("\"DPoP\"", "DPoP"),
        ("\"dpop\"", "DPoP"),
        ("\"MAC\"", "MAC"),
        ("\"N_A\"", "N_A"),
        ("\"pop\"", "PoP"),
        ("\"CANARY\"", "not a bearer token"),
        ("\"Bearer CANARY\"", "not a bearer token"),
        ("7", "not a bearer token"),
        ("true", "not a bearer token"),
        ("{}", "not a bearer token"),
    ] {
        let body = format!(r#"{{"access_token":"abc","token_type":{token_type}}}"#);
        let error = failure(http_response(200, &[], &body)).await;
        assert_eq!(error.kind(), ErrorKind::UnsupportedTokenType, "{token_type}");
        assert!(!error.is_transient());
        assert!(error.to_string().contains(named), "{error}");
        assert!(error.hint().unwrap().contains("accept_token_type"), "{error}");
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}

// Aera's pages differ in the fields of a response, so additional fields are accepted.
#[tokio::test]
async fn unknown_fields_and_other_content_types_are_accepted() {
    let body = r#"{"a":1,"a":{"b":[null]},"access_token":"abc","scope":"x","refresh_token":"r","token_type":"Bearer","expires_in":60}"#;
    for content_type in ["text/plain", "application/jwt", "text/html; charset=latin1", ""] {
        let token = outcome(http_response(200, &[("Content-Type", content_type)], body)).await;
        assert_eq!(lifetime(&token.unwrap()), "Some(60s)");
    }
}

fn sized(total: usize) -> String {
    let frame = r#"{"access_token":"abc","pad":""}"#;
    let pad = "x".repeat(total - frame.len());
    format!(r#"{{"access_token":"abc","pad":"{pad}"}}"#)
}

fn chunked(body: &str) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.as_bytes().chunks(1000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

// R41: the limit is 64 KiB, with or without a declared length.
#[tokio::test]
async fn a_response_is_read_up_to_64_kib() {
    let cap = 64 * 1024;
    outcome(http_response(200, &[], &sized(cap))).await.unwrap();
    outcome(chunked(&sized(cap))).await.unwrap();
    // Declared and never sent: rejected without waiting for it.
    let declared = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", cap + 1);
    let wire = Wire::start(Then::Hang(declared.into_bytes())).await;
    // A body that never ends.
    let mut endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..70 {
        endless.extend(b"400\r\n");
        endless.extend([b'x'; 1024]);
        endless.extend(b"\r\n");
    }
    let hanging = Wire::start(Then::Hang(endless)).await;
    for error in [
        failure(http_response(200, &[], &sized(cap + 1))).await,
        failure(chunked(&sized(cap + 1))).await,
        wire.client().fetch(&(), &FetchContext::default()).await.unwrap_err(),
        hanging.client().fetch(&(), &FetchContext::default()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{error}");
        assert!(error.is_transient());
        assert!(error.to_string().contains("64 KiB"), "{error}");
    }
    // The status of an error decides, even if the body is too large.
    let error = failure(http_response(403, &[], &sized(cap + 1))).await;
    assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
    let error = failure(http_response(503, &[("Retry-After", "3")], &sized(cap + 1))).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

// R39: an I/O error is never permanent.
#[tokio::test]
async fn an_io_error_is_transient_and_keeps_its_source() {
    let unreachable = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/token", listener.local_addr().unwrap())
    };
    let unreached = client(&unreachable).build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
    let truncated = format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{GOOD}");
    let half_a_head = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
    let bad_chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nCANARY".to_vec();
    for error in [
        &unreached,
        &failure(Vec::new()).await,
        &failure(truncated.into_bytes()).await,
        &failure(half_a_head).await,
        &failure(bad_chunk).await,
        &failure(b"garbage CANARY garbage\r\n\r\n".to_vec()).await,
        &failure(b"SSH-2.0-CANARY\r\n".to_vec()).await,
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.is_transient());
        assert!(error.source().is_some(), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
    let mut cause = unreached.source();
    let found = std::iter::from_fn(|| {
        let here = cause?;
        cause = here.source();
        Some(here)
    })
    .find_map(|error| error.downcast_ref::<io::Error>())
    .unwrap();
    assert_eq!(found.kind(), io::ErrorKind::ConnectionRefused);
}

// R62: something listens there, so the network and the certificates are not the reason.
#[tokio::test]
async fn an_issuer_that_sends_no_http_response_is_not_reported_as_unreachable() {
    // The beginning of an HTTP/2 connection: a SETTINGS frame without settings.
    let http2 = b"\0\0\0\x04\0\0\0\0\0".to_vec();
    for sent in [Vec::new(), b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), b"* OK IMAP4rev1\r\n".to_vec(), http2] {
        let error = failure(sent).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true));
        let shown = error.to_string();
        assert!(shown.contains("not an HTTP/1.1 response") && shown.contains("HTTP/2 only"), "{shown}");
        assert!(!shown.contains("could not be reached"), "{shown}");
    }
    let error = client("http://127.0.0.1:1/token").build().unwrap();
    let error = error.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert!(error.to_string().contains("could not be reached"), "{error}");
}

// R62: what the HTTP/2 server of Node 20 sends. The 403 is not about the credentials.
#[tokio::test]
async fn a_403_of_an_http2_server_that_expects_alpn_is_not_about_the_credentials() {
    let text = "Missing ALPN Protocol, expected `h2` to be available.\nIf this is a HTTP request: The server was not configured \
                with the `allowHTTP1` option or a listener for the `unknownProtocol` event.\n";
    let error = failure(format!("HTTP/1.0 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n{text}").into_bytes()).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false));
    assert!(error.message().ends_with("supports HTTP/2 only"), "{error}");
    assert!(error.hint().unwrap().contains("http_client with HTTP/2"), "{error}");
}

#[tokio::test]
async fn a_hanging_issuer_ends_in_the_timeout_of_the_call() {
    let half = http_response(200, &[], GOOD);
    let half = half[..half.len() - 5].to_vec();
    for sent in [Vec::new(), b"HTTP/1.1 200 OK\r\n".to_vec(), half] {
        let wire = Wire::start(Then::Hang(sent)).await;
        let provider = client(&wire.token_url()).timeout(Duration::from_millis(50)).build().unwrap();
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.is_transient());
        assert!(error.to_string().contains("50ms"), "{error}");
    }
}
