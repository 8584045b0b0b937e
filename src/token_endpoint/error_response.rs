//! Which error a response without a token becomes.
//!
//! A status that means "try again later" decides first. Otherwise the error code decides, because gateways change
//! statuses. If there is no documented code, the status decides.

use http::StatusCode;

use super::response::EndpointResponse;
use crate::error::{Error, ErrorKind};

/// One row of an issuer's error table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentedError {
    /// The status that stands for this row if the response has no documented code.
    pub(crate) status: Option<u16>,
    /// The error code. Empty in a row that applies to a status alone.
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    /// What the issuer does. It continues the words `the issuer at <origin>`.
    pub(crate) what: &'static str,
    pub(crate) hint: &'static str,
}

const fn row(
    status: Option<u16>,
    code: &'static str,
    kind: ErrorKind,
    what: &'static str,
    hint: &'static str,
) -> DocumentedError {
    DocumentedError { status, code, kind, what, hint }
}

/// RFC 6749 section 5.2, RFC 8707 section 2, and the two codes of RFC 6749 section 4.1.2.1 that token endpoints also
/// use.
///
/// Many codes are sent with the status 400, so most rows have no status.
const STANDARD: &[DocumentedError] = &[
    row(
        Some(400),
        "invalid_request",
        ErrorKind::InvalidRequest,
        "rejects the token request as malformed",
        "check the parameters of the token request",
    ),
    row(
        Some(401),
        "invalid_client",
        ErrorKind::InvalidCredentials,
        "rejects the client's credentials",
        "verify the client id, the secret or key, how they are sent, and that they belong to this issuer",
    ),
    row(
        None,
        "invalid_grant",
        ErrorKind::InvalidRequest,
        "rejects the grant",
        "check what the issuer requires for this grant type",
    ),
    row(
        None,
        "unauthorized_client",
        ErrorKind::InvalidRequest,
        "does not allow this client to use the grant type",
        "enable the grant type for this client at the issuer",
    ),
    row(
        None,
        "unsupported_grant_type",
        ErrorKind::InvalidRequest,
        "does not support the grant type",
        "check the token URL and the grant types that the issuer documents",
    ),
    row(
        None,
        "invalid_scope",
        ErrorKind::InvalidRequest,
        "rejects the scope",
        "check the scope against what this client may request",
    ),
    row(
        None,
        "invalid_target",
        ErrorKind::InvalidRequest,
        "rejects the resource",
        "check the resource and the audience against what this client may request",
    ),
    // RFC 8628 section 3.5. Issuers send it for other grants too.
    row(None, "slow_down", ErrorKind::Throttled, "limits the rate of token requests", ""),
    row(None, "server_error", ErrorKind::Unavailable, "reports an internal error", ""),
    row(None, "temporarily_unavailable", ErrorKind::Unavailable, "is temporarily unavailable", ""),
];

/// RFC 8470 section 5.2. `http` has no constant for it before version 1.2.
const TOO_EARLY: u16 = 425;

/// The longest undocumented code that an error shows.
const MAX_OTHER_CODE: usize = 40;

/// The error for a status that means "try again later".
pub(super) fn transient(response: &EndpointResponse) -> Option<Error> {
    let (kind, what) = match response.status() {
        StatusCode::REQUEST_TIMEOUT => (ErrorKind::Timeout, "reports a request timeout"),
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "limits the rate of token requests"),
        StatusCode::MISDIRECTED_REQUEST => (ErrorKind::Unavailable, "does not serve this host on this connection"),
        status if status.as_u16() == TOO_EARLY => (ErrorKind::Unavailable, "asks for the request again later"),
        status if status.is_server_error() => (ErrorKind::Unavailable, "is unavailable"),
        _ => return None,
    };
    Some(with_delay(response, response.error(kind, what)))
}

/// The error for a response without a token: by its code, or else by its status. `documented` is the issuer's own
/// table. It takes precedence over the standard one.
pub(super) fn of(response: &EndpointResponse, documented: &[DocumentedError]) -> Error {
    by_code(response, documented).unwrap_or_else(|| with_other_code(response, by_status(response, documented)))
}

/// Adds the code of a response that no table has. It is shown only if it looks like a code and the request did not contain
/// it: an issuer can put any text there.
pub(super) fn with_other_code(response: &EndpointResponse, error: Error) -> Error {
    let looks_like_a_code = |code: &&str| {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        (1..=MAX_OTHER_CODE).contains(&code.len()) && code.bytes().all(is_plain)
    };
    match response.error_code().filter(looks_like_a_code) {
        Some(code) if !response.repeats_request => error.with_code(code),
        _ => error,
    }
}

/// The error for the code in the response, if a table has it.
pub(super) fn by_code(response: &EndpointResponse, documented: &[DocumentedError]) -> Option<Error> {
    let code = response.error_code()?;
    documented.iter().chain(STANDARD).find(|row| row.code == code).map(|row| by_row(response, row))
}

/// The error for one row of a table. The code of the error is the table's text and not the text of the response.
pub(crate) fn by_row(response: &EndpointResponse, row: &DocumentedError) -> Error {
    without_code(response, row).with_code(row.code)
}

/// The error for the status alone.
pub(crate) fn by_status(response: &EndpointResponse, documented: &[DocumentedError]) -> Error {
    let status = response.status().as_u16();
    if let Some(row) = documented.iter().chain(STANDARD).find(|row| row.status == Some(status)) {
        return without_code(response, row);
    }
    match status {
        403 if is_http2_only(response) => response
            .error(ErrorKind::Config, "supports HTTP/2 only")
            .with_hint("set an http_client with HTTP/2, or turn on HTTP/1.1 at the issuer"),
        403 => response.error(ErrorKind::InvalidCredentials, "rejects this client").with_hint(
            "verify the credentials, that the client is not suspended, and that no gateway blocks the request",
        ),
        404 | 405 | 410 => response
            .error(ErrorKind::Config, "has no token endpoint at this path")
            .with_hint("set the token URL that the issuer documents"),
        400..=499 => response
            .error(ErrorKind::InvalidRequest, "rejects the token request")
            .with_hint("check the token URL and the parameters of the token request"),
        _ => response.error(ErrorKind::MalformedResponse, "did not send a token response"),
    }
}

/// Node's HTTP/2 server sends a 403 with this text to a client with HTTP/1.1.
fn is_http2_only(response: &EndpointResponse) -> bool {
    let body = response.body();
    let is_node = |start: &[u8]| body.starts_with(start);
    [b"Missing ALPN Protocol, expected `h2`".as_slice(), b"Unknown ALPN Protocol, expected `h2`"]
        .into_iter()
        .any(is_node)
}

fn without_code(response: &EndpointResponse, row: &DocumentedError) -> Error {
    let error = response.error(row.kind, row.what);
    let error = if row.hint.is_empty() { error } else { error.with_hint(row.hint) };
    with_delay(response, error)
}

/// Adds the response's `Retry-After` to a transient error.
fn with_delay(response: &EndpointResponse, error: Error) -> Error {
    match response.retry_after() {
        Some(delay) if error.is_transient() => error.with_retry_after(delay),
        _ => error,
    }
}
