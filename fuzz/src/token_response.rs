//! The response of a token endpoint. A first line of three digits is the status, and the rest is the body.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::service_fn;
use tower_bearer_auth::token_endpoint::{TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{BoxError, Error, ErrorKind, IssuedToken};

use crate::json::{self, Failure, Text, Value, is_ambiguous, member};
use crate::run::{run, text};

const DAY: u64 = 24 * 60 * 60;

/// A token that begins so must appear in no error.
const CANARY: &str = "CANARY";

/// What RFC 6749 section 5 says about a response.
#[derive(Debug, PartialEq)]
enum Expected {
    Token(String, Lifetime),
    Failure(ErrorKind),
}

#[derive(Debug, PartialEq)]
enum Lifetime {
    Missing,
    /// Exactly, or one more: a fraction may be rounded.
    Seconds(u64),
    /// Not defined: a string with escapes, or a number that a float cannot hold.
    Any,
}

pub fn check(input: &[u8]) {
    let (status, body) = status_and_body(input);
    let outcome = run(call(status, Bytes::copy_from_slice(body)));
    if let Err(error) = &outcome {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(CANARY), "an error shows a part of the response");
    }
    // The parser may accept a byte that is not UTF-8 in a member that it ignores.
    let Some(body) = text(body) else {
        return;
    };
    let Some(expected) = expected(status, body) else {
        return;
    };
    match (outcome, expected) {
        (Ok(token), Expected::Token(secret, lifetime)) => {
            assert_eq!(token.expose_secret(), secret);
            let found = token.lifetime();
            let holds = match lifetime {
                Lifetime::Missing => found.is_none(),
                Lifetime::Seconds(seconds) => {
                    found.is_some_and(|found| (seconds..=seconds + 1).contains(&found.as_secs()))
                }
                Lifetime::Any => found.is_none_or(|found| (1..=DAY).contains(&found.as_secs())),
            };
            assert!(holds, "the lifetime is {found:?}, and not {lifetime:?}");
        }
        (Err(error), Expected::Failure(kind)) => assert_eq!(error.kind(), kind, "{error}"),
        (outcome, expected) => panic!("{outcome:?} instead of {expected:?}"),
    }
}

fn status_and_body(input: &[u8]) -> (StatusCode, &[u8]) {
    let first = input.split(|b| *b == b'\n').next().unwrap_or_default();
    match StatusCode::from_bytes(first) {
        Ok(status) if input.len() > first.len() => (status, &input[first.len() + 1..]),
        _ => (StatusCode::OK, input),
    }
}

async fn call(status: StatusCode, body: Bytes) -> Result<IssuedToken, Error> {
    let service = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().status(status).body(Full::new(body.clone()));
        async move { Ok::<_, BoxError>(response?) }
    });
    let endpoint = TokenEndpoint::new("https://issuer.example/token", TokenClient::new(service))?;
    let request = TokenRequest::form(&[("grant_type", "client_credentials")]);
    let response = endpoint.call(request).await?;
    let token = response.bearer_token();
    // Reading twice changes nothing.
    assert_eq!(token.is_ok(), response.bearer_token().is_ok());
    token
}

/// What Node's HTTP/2 server sends to a client with HTTP/1.1.
fn is_of_an_http2_server(body: &str) -> bool {
    ["Missing", "Unknown"].iter().any(|word| body.starts_with(&format!("{word} ALPN Protocol, expected `h2`")))
}

/// `None` if the document is too deep for the oracle.
fn expected(status: StatusCode, body: &str) -> Option<Expected> {
    let number = status.as_u16();
    let early = match number {
        300..=399 => Some(ErrorKind::Config),
        408 => Some(ErrorKind::Timeout),
        429 => Some(ErrorKind::Throttled),
        421 | 425 | 500..=599 => Some(ErrorKind::Unavailable),
        _ => None,
    };
    if let Some(kind) = early {
        return Some(Expected::Failure(kind));
    }
    let document = match json::parse(body) {
        Ok(Value::Object(members)) => Some(members),
        Ok(_) | Err(Failure::NotJson) => None,
        Err(Failure::TooDeep) => return None,
    };
    let by_code = document.as_deref().and_then(kind_of_code);
    let failure = |kind| Some(Expected::Failure(by_code.unwrap_or(kind)));
    match number {
        200..=299 => {}
        403 if is_of_an_http2_server(body) => return failure(ErrorKind::Config),
        401 | 403 => return failure(ErrorKind::InvalidCredentials),
        404 | 405 | 410 => return failure(ErrorKind::Config),
        400..=499 => return failure(ErrorKind::InvalidRequest),
        _ => return failure(ErrorKind::MalformedResponse),
    }
    let malformed = || failure(ErrorKind::MalformedResponse);
    let Some(document) = document else {
        return malformed();
    };
    if is_ambiguous(&document, &["access_token", "token_type", "expires_in"]) {
        return malformed();
    }
    let Some(secret) = member(&document, "access_token").and_then(decoded).filter(|secret| !secret.is_empty()) else {
        return malformed();
    };
    if let Some(token_type) = member(&document, "token_type") {
        let name = decoded(token_type).map(|name| name.trim().to_lowercase());
        if !name.is_some_and(|name| name.is_empty() || name == "bearer") {
            return failure(ErrorKind::UnsupportedTokenType);
        }
    }
    if !secret.chars().all(|c| ('!'..='~').contains(&c)) {
        return malformed();
    }
    let lifetime = member(&document, "expires_in").map_or(Lifetime::Missing, lifetime);
    Some(Expected::Token(secret, lifetime))
}

fn decoded(value: &Value) -> Option<String> {
    value.as_text().and_then(|text| text.decoded.clone())
}

/// RFC 6749 section 5.2, RFC 8707 section 2, RFC 8628 section 3.5, and two codes of RFC 6749 section 4.1.2.1.
fn kind_of_code(document: &[(Text, Value)]) -> Option<ErrorKind> {
    if is_ambiguous(document, &["error"]) {
        return None;
    }
    match member(document, "error")?.as_text()?.written.as_str() {
        "invalid_client" => Some(ErrorKind::InvalidCredentials),
        "invalid_request"
        | "invalid_grant"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "invalid_scope"
        | "invalid_target" => Some(ErrorKind::InvalidRequest),
        "slow_down" => Some(ErrorKind::Throttled),
        "server_error" | "temporarily_unavailable" => Some(ErrorKind::Unavailable),
        _ => None,
    }
}

/// The seconds of a number, or of a string that contains one.
fn lifetime(value: &Value) -> Lifetime {
    let number = match value {
        Value::Number(number) => number.as_str(),
        Value::Text(text) if text.written.contains('\\') => return Lifetime::Any,
        Value::Text(text) => text.written.trim(),
        _ => return Lifetime::Missing,
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Lifetime::Missing;
            }
            // A float cannot hold these.
            let Some(exponent) = exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() < 200) else {
                return Lifetime::Any;
            };
            (mantissa, exponent)
        }
        None => (number, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Lifetime::Missing;
    }
    if digits.len() > 100 {
        return Lifetime::Any;
    }
    let all: String = [whole, fraction].concat();
    if negative || all.bytes().all(|b| b == b'0') {
        return Lifetime::Missing;
    }
    // Moves the decimal point, and reads the digits before it.
    let point = whole.len() as i32 + exponent;
    let mut seconds: u64 = 0;
    for at in 0..point.max(0) {
        let digit = all.as_bytes().get(at as usize).map_or(0, |b| u64::from(b - b'0'));
        seconds = (seconds * 10 + digit).min(DAY * 10);
    }
    Lifetime::Seconds(seconds.clamp(1, DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_reads_numbers() {
        let of = |text: &str| lifetime(&Value::Number(text.to_owned()));
        assert_eq!(of("1800"), Lifetime::Seconds(1800));
        assert_eq!(of("1.8e3"), Lifetime::Seconds(1800));
        assert_eq!(of("0.5"), Lifetime::Seconds(1));
        assert_eq!(of("-1"), Lifetime::Missing);
        assert_eq!(of("0e9"), Lifetime::Missing);
        assert_eq!(of("1e99"), Lifetime::Seconds(DAY));
    }
}
