//! `client_secret_basic` (RFC 6749 section 2.3.1), and mutual TLS without a secret (RFC 8705).

use std::error::Error as StdError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BasicEncoding, ClientCredentials, ErrorKind, FetchContext, Secret, TokenProvider as _};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use super::wire::{GOOD, Wire, http_response};
use crate::support::canary::shown_in;
use crate::support::strict_issuer::{ReceivedRequest, StrictIssuer};

/// The decoded credentials for an id and a secret in each encoding. Written by hand from RFC 3986 section 2.1 and the
/// WHATWG form encoding.
const TABLE: [(&str, &str, [&str; 3]); 10] = [
    // id, secret, [percent, form, raw]
    ("orders", "plain-S3cret_.x", ["orders:plain-S3cret_.x", "orders:plain-S3cret_.x", "orders:plain-S3cret_.x"]),
    ("orders", "a:b", ["orders:a%3Ab", "orders:a%3Ab", "orders:a:b"]),
    ("orders", "a+b", ["orders:a%2Bb", "orders:a%2Bb", "orders:a+b"]),
    ("orders", "a/b", ["orders:a%2Fb", "orders:a%2Fb", "orders:a/b"]),
    ("orders", "a%b", ["orders:a%25b", "orders:a%25b", "orders:a%b"]),
    ("orders", "a%2Bb", ["orders:a%252Bb", "orders:a%252Bb", "orders:a%2Bb"]),
    ("orders", "a b", ["orders:a%20b", "orders:a+b", "orders:a b"]),
    (
        "orders",
        "p\u{e4}\u{df}\u{20ac}",
        ["orders:p%C3%A4%C3%9F%E2%82%AC", "orders:p%C3%A4%C3%9F%E2%82%AC", "orders:p\u{e4}\u{df}\u{20ac}"],
    ),
    ("orders", "~*=&\"", ["orders:~%2A%3D%26%22", "orders:%7E*%3D%26%22", "orders:~*=&\""]),
    (
        "my orders",
        ":+/% \u{fc}",
        ["my%20orders:%3A%2B%2F%25%20%C3%BC", "my+orders:%3A%2B%2F%25+%C3%BC", "my orders::+/% \u{fc}"],
    ),
];

const ENCODINGS: [BasicEncoding; 3] = [BasicEncoding::Percent, BasicEncoding::Form, BasicEncoding::Raw];

fn client(url: &str, id: &str, secret: &str, encoding: BasicEncoding) -> ClientCredentials {
    ClientCredentials::builder()
        .client_id(id)
        .client_secret(secret)
        .client_secret_basic(encoding)
        .token_url(url)
        .api_origin("https://api.test")
        .build()
        .unwrap()
}

/// The decoded credentials of the single `Authorization` header.
fn pair(seen: &ReceivedRequest) -> Option<String> {
    let [value] = seen.authorization.as_slice() else { return None };
    let bytes = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    String::from_utf8(bytes).ok()
}

// R49, byte by byte.
#[tokio::test]
async fn an_unusual_secret_is_sent_in_each_encoding_as_in_the_table() {
    for (id, secret, expected) in TABLE {
        for (encoding, expected) in ENCODINGS.into_iter().zip(expected) {
            let wire = Wire::responding(http_response(200, &[], GOOD)).await;
            client(&wire.token_url(), id, secret, encoding).fetch(&(), &FetchContext::default()).await.unwrap();
            let request = wire.requests().remove(0);
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let sent: Vec<&str> =
                head.lines().filter(|line| line.to_ascii_lowercase().starts_with("authorization")).collect();
            let expected = format!("authorization: Basic {}", STANDARD.encode(expected));
            assert_eq!(sent, [expected], "{secret:?} {encoding:?}");
            // One authentication method for each request (RFC 6749 section 2.3).
            assert_eq!(body, "grant_type=client_credentials");
        }
    }
}

/// Form-decodes (RFC 6749 appendix B).
fn form(text: &str) -> String {
    percent(&text.replace('+', " "))
}

/// Decodes only `%XX`.
fn percent(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

// R49: which servers accept which encoding, as the documentation of `BasicEncoding` says.
#[tokio::test]
async fn each_kind_of_server_accepts_the_documented_encodings() {
    type Decode = fn(&str) -> String;
    let raw: Decode = str::to_owned;
    let servers: [(Decode, &[BasicEncoding]); 3] = [
        (form, &[BasicEncoding::Percent, BasicEncoding::Form]),
        (percent, &[BasicEncoding::Percent]),
        (raw, &[BasicEncoding::Raw]),
    ];
    for (decode, accepts) in servers {
        for (id, secret, _) in TABLE {
            let issuer = StrictIssuer::start(move |seen| {
                let pair = pair(seen).unwrap_or_default();
                let Some((id_sent, secret_sent)) = pair.split_once(':') else { return false };
                decode(id_sent) == id && decode(secret_sent) == secret
            })
            .await;
            for encoding in accepts {
                client(&issuer.token_url(), id, secret, *encoding).fetch(&(), &FetchContext::default()).await.unwrap();
            }
            // The server rejects a wrong secret.
            let error = client(&issuer.token_url(), id, "another", accepts[0])
                .fetch(&(), &FetchContext::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
            let accepted = issuer.requests().iter().filter(|seen| seen.accepted).count();
            assert_eq!((accepted, issuer.requests().len()), (accepts.len(), accepts.len() + 1));
        }
    }
    // With this secret, the other encodings are rejected. So each row of the documentation is needed.
    let unusual = "a+b c%41";
    for (decode, accepts) in servers {
        let issuer = StrictIssuer::start(move |seen| {
            pair(seen).is_some_and(|pair| pair.split_once(':').is_some_and(|(_, secret)| decode(secret) == unusual))
        })
        .await;
        for encoding in ENCODINGS {
            let outcome =
                client(&issuer.token_url(), "orders", unusual, encoding).fetch(&(), &FetchContext::default()).await;
            assert_eq!(outcome.is_ok(), accepts.contains(&encoding), "{encoding:?}");
        }
    }
}

#[tokio::test]
async fn a_secret_that_changes_in_its_file_is_used_by_the_next_header() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotating-basic");
    std::fs::write(&path, "old").unwrap();
    let provider = ClientCredentials::builder()
        .client_id("id")
        .client_secret(Secret::from_file(&path).unwrap())
        .client_secret_basic(BasicEncoding::default())
        .token_url(wire.token_url())
        .api_origin("https://api.test")
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    std::fs::write(&path, "new").unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let requests = wire.requests();
    for (request, pair) in requests.iter().zip(["id:old", "id:new"]) {
        assert!(request.contains(&format!("authorization: Basic {}\r\n", STANDARD.encode(pair))), "{request}");
    }
    assert_eq!(requests.len(), 2);
}

#[test]
fn invalid_basic_settings_are_rejected_by_name() {
    let basic = |id: &str, encoding| {
        ClientCredentials::builder()
            .client_id(id)
            .client_secret("CANARY")
            .client_secret_basic(encoding)
            .token_url("https://issuer.test/token")
            .api_origin("https://api.test")
    };
    let named = |builder: tower_bearer_auth::ClientCredentialsBuilder, field: &str| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.setting(), field);
        assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    };
    // RFC 7617 section 2.
    named(basic("tenant:CANARY", BasicEncoding::Raw), "client_id");
    basic("tenant:orders", BasicEncoding::Percent).build().unwrap();
    basic("tenant:orders", BasicEncoding::Form).build().unwrap();
    named(basic("id", BasicEncoding::Raw).token_header("authorization", "CANARY"), "token_header");
    // One method, with everything that it needs.
    named(basic("id", BasicEncoding::Raw).mutual_tls(), "client_secret");
    let tls = || {
        ClientCredentials::builder()
            .client_id("id")
            .mutual_tls()
            .token_url("https://issuer.test/token")
            .api_origin("https://api.test")
    };
    named(tls(), "mutual_tls");
    tls().http_client(HttpClient::new().unwrap()).build().unwrap();
}

// R48: an issuer that echoes the Authorization header in its response.
#[tokio::test]
async fn an_echoed_basic_header_is_never_printed() {
    const SECRET: &str = "cZ7kQ9vX client/secret+1";
    let issuer = StrictIssuer::start(|_| false).await;
    for encoding in ENCODINGS {
        let provider = client(&issuer.token_url(), "id", SECRET, encoding);
        let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
        let header = issuer.requests().last().unwrap().authorization[0].clone();
        let mut text = format!("{provider:?} {provider:#?} {error} {error:?} {error:#?} {:?}", error.hint());
        let mut cause = error.source();
        while let Some(next) = cause {
            text.push_str(&format!("{next} {next:?}"));
            cause = next.source();
        }
        let encoded = header.strip_prefix("Basic ").unwrap().to_owned();
        let decoded = String::from_utf8(STANDARD.decode(&encoded).unwrap()).unwrap();
        assert_eq!(shown_in(&text, &[SECRET, &encoded, &decoded]), None, "{text}");
        // The detector finds it in the header.
        assert!(shown_in(&issuer.requests().last().unwrap().authorization[0], &[&encoded]).is_some());
    }
}

// RFC 8705 section 2: the certificate is the proof of identity, the id is sent, and no secret is sent.
#[tokio::test]
async fn a_client_with_a_certificate_sends_no_secret() {
    let server = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = server.client_identity_pem().unwrap();
    let provider = |client: HttpClient| {
        ClientCredentials::builder()
            .client_id("by-certificate")
            .mutual_tls()
            .token_url(server.token_url())
            .api_origin(server.api_origin())
            .http_client(client)
            .build()
            .unwrap()
    };
    let trusting = || HttpClient::builder().roots_pem(server.ca_pem());
    let without_certificate =
        provider(trusting().build().unwrap()).fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(without_certificate.kind(), ErrorKind::Tls);
    assert_eq!(server.token_request_count(), 0);
    // The sandbox only accepts secrets, so its response is scripted. The test is about the request after the handshake.
    let good = tower_bearer_auth_sandbox::ScriptedResponse::new(http::StatusCode::OK).json(GOOD);
    server.script(tower_bearer_auth_sandbox::Fault::Response(good));
    provider(trusting().identity_pem(chain, key).build().unwrap()).fetch(&(), &FetchContext::default()).await.unwrap();
    let requests = server.token_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body, "grant_type=client_credentials&client_id=by-certificate");
    assert!(!requests[0].headers.contains_key("authorization"));
}

// R62: glewlwyd and node-oauth2-server do not decode the header. They respond as to a wrong secret: node-oauth2-server with a
// code, and glewlwyd with a 403 that has no body.
#[tokio::test]
async fn a_rejected_basic_header_with_a_reserved_character_names_the_other_encoding() {
    let rejection = http_response(401, &[], r#"{"error":"invalid_client"}"#);
    let without_code = Wire::responding(http_response(403, &[], "")).await;
    let provider = client(&without_code.token_url(), "id", "wrong:7fQ2", BasicEncoding::Percent);
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert!(error.hint().unwrap().ends_with("try BasicEncoding::Raw"), "{error}");
    for (id, secret, encoding, named) in [
        ("id", "a+b", BasicEncoding::Percent, Some("try BasicEncoding::Raw")),
        ("id", "a b", BasicEncoding::Form, Some("try BasicEncoding::Raw")),
        ("i/d", "ab", BasicEncoding::Form, Some("try BasicEncoding::Raw")),
        ("id", "a+b", BasicEncoding::Raw, Some("try BasicEncoding::Percent")),
        ("id", "a-b.c_d~1", BasicEncoding::Percent, None),
    ] {
        let wire = Wire::responding(rejection.clone()).await;
        let error =
            client(&wire.token_url(), id, secret, encoding).fetch(&(), &FetchContext::default()).await.unwrap_err();
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("verify the client id"), "{hint}");
        assert_eq!(hint.contains("BasicEncoding"), named.is_some(), "{hint}");
        assert!(named.is_none_or(|named| hint.ends_with(named)), "{hint}");
        assert!(!hint.contains(secret), "{hint}");
    }
    // Other methods have no encoding, and other codes another reason.
    let wire = Wire::responding(rejection).await;
    let posted = super::wire::client(&wire.token_url()).client_secret("a+b").build().unwrap();
    let error = posted.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert!(!error.hint().unwrap().contains("BasicEncoding"), "{error}");
}
