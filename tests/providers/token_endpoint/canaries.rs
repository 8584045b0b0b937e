//! No secret, key or token is printed, whatever the issuer sends.

use std::error::Error as StdError;
use std::time::Duration;

use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{AccessPsp, AccessPspBuilder, Error, FetchContext, Secret, TokenProvider as _};

use super::wire::{Then, Wire, http_response};
use crate::support::canary::shown_in;

/// Values that are sent, so an issuer may echo them.
const SENT: [&str; 3] = ["cZ7kQ9vX-client/secret+1", "pL4mW8tR-issuer-key", "hN6bJ2yD-api-key"];
/// A value that is received.
const TOKEN: &str = "gT5fV3sE-token.of/the+issuer";
const ALL: [&str; 4] = [SENT[0], SENT[1], SENT[2], TOKEN];

fn everything(error: &Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n{error}\n{error:?}\n{error:#?}"));
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_silent(text: &str) {
    assert_eq!(shown_in(text, &ALL), None, "in: {text}");
}

fn builder(token_url: &str) -> AccessPspBuilder {
    let [secret, issuer_key, api_key] = SENT;
    AccessPsp::builder()
        .client_id("id")
        .client_secret(secret)
        .token_api_key(issuer_key)
        .api_key(api_key)
        .token_url(token_url)
        .api_origin("https://api.test")
}

fn provider(token_url: &str) -> AccessPsp {
    builder(token_url).build().unwrap()
}

// R48
#[tokio::test]
async fn an_error_never_contains_what_the_issuer_echoes() {
    for echo in SENT.iter().chain([&TOKEN]) {
        let json = serde_json::to_string(echo).unwrap();
        let bodies = [
            (*echo).to_owned(),
            json.clone(),
            format!("<html>{echo}</html>"),
            format!(r#"{{"error":{json}}}"#),
            format!(r#"{{"error":"invalid_client","error_description":{json},"error_uri":{json}}}"#),
            format!(r#"{{{json}:1}}"#),
            format!(r#"{{"access_token":{json},"token_type":{json}}}"#),
            format!(r#"{{"access_token":{json}"#),
            format!(r#"{{"access_token":"abc def","scope":{json}}}"#),
            format!(r#"{{"access_token":"{echo}\r\n","token_type":"Bearer"}}"#),
            format!(r#"{{"access_token":"{echo}","token_type":"DPoP"}}"#),
            format!(r#"{{"token_type":"Bearer","expires_in":{echo}}}"#),
        ];
        let locations = [
            format!("https://evil.test/{echo}?{echo}#{echo}"),
            format!("https://{}@evil.test/", echo.replace('/', "")),
            (*echo).to_owned(),
        ];
        for status in [200, 302, 400, 401, 403, 404, 408, 418, 429, 500, 503] {
            for body in &bodies {
                let headers = [
                    ("Location", locations[0].as_str()),
                    ("Retry-After", *echo),
                    ("WWW-Authenticate", *echo),
                    ("Content-Type", *echo),
                ];
                let wire = Wire::responding(http_response(status, &headers, body)).await;
                let error = provider(&wire.token_url()).fetch(&(), &FetchContext::default()).await.unwrap_err();
                assert_eq!(wire.requests().len(), 1, "{error:?}");
                assert_silent(&everything(&error));
            }
        }
        for location in &locations {
            let wire = Wire::responding(http_response(307, &[("Location", location)], "")).await;
            let error = provider(&wire.token_url()).fetch(&(), &FetchContext::default()).await.unwrap_err();
            assert_eq!(wire.requests().len(), 1, "{error:?}");
            assert_silent(&everything(&error));
        }
        for raw in [
            format!("{echo}\r\n\r\n"),
            format!("HTTP/1.1 200 {echo}\r\n{echo}\r\n\r\n"),
            format!("HTTP/1.1 {echo}\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n"),
            format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{json}"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{echo}\r\n"),
        ] {
            let wire = Wire::responding(raw.clone().into_bytes()).await;
            let error = provider(&wire.token_url()).fetch(&(), &FetchContext::default()).await.unwrap_err();
            assert_eq!(wire.requests().len(), 1, "{error:?}");
            assert_silent(&everything(&error));
        }
    }
    let hanging = Wire::start(Then::Hang(Vec::new())).await;
    let with_timeout = builder(&hanging.token_url()).timeout(Duration::from_millis(200)).build().unwrap();
    let error = with_timeout.fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_silent(&everything(&error));
    let error = provider("http://127.0.0.1:1/").fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_silent(&everything(&error));
}

#[tokio::test]
async fn types_with_a_secret_or_a_token_do_not_print_it() {
    let good = format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer"}}"#);
    let wire = Wire::responding(http_response(200, &[("Set-Cookie", TOKEN)], &good)).await;
    let [secret, issuer_key, api_key] = SENT;
    let provider = provider(&wire.token_url());
    let token = provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let http = HttpClient::new().unwrap();
    let client = TokenClient::new(http.clone());
    let url = format!("{}?code={secret}", wire.token_url());
    let endpoint = TokenEndpoint::new(&url, client.clone()).unwrap();
    let request = || {
        TokenRequest::form(&[("client_secret", secret)])
            .header(http::header::AUTHORIZATION, issuer_key.parse().unwrap())
    };
    let shown_request = format!("{:?} {:#?}", request(), TokenRequest::json(secret.into()));
    let response = endpoint.call(request()).await.unwrap();
    let builder = AccessPsp::builder()
        .client_id("id")
        .client_secret(Secret::from(secret))
        .token_api_key(issuer_key)
        .api_key(api_key)
        .token_url(format!("https://user:{secret}@issuer.test"));
    for text in [
        format!("{provider:?} {provider:#?}"),
        format!("{:?} {:#?}", provider.api_headers(), provider.origins()),
        format!("{token:?} {token:#?}"),
        format!("{http:?} {client:?} {endpoint:?} {endpoint:#?}"),
        shown_request,
        format!("{response:?} {response:#?}"),
        format!("{builder:?} {builder:#?}"),
        format!("{:?}", HttpClient::builder().identity_pem(secret, issuer_key).roots_pem(secret)),
        everything(&builder.build().unwrap_err().into()),
    ] {
        assert_silent(&text);
    }
}
