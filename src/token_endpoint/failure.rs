//! Which error an answer is: by its status where that is enough, else by its code, else by its status again.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::response::EndpointResponse;
use crate::error::{Error, ErrorKind};

/// One row of an issuer's error table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Documented {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) what: &'static str,
    pub(crate) hint: &'static str,
}

const fn row(status: u16, code: &'static str, kind: ErrorKind, what: &'static str, hint: &'static str) -> Documented {
    Documented { status, code, kind, what, hint }
}

/// RFC 6749 section 5.2; RFC 8707 section 2; and the two codes of RFC 6749 section 4.1.2.1 that token endpoints use
/// as well. A status of 0 is that of no row: 400 goes with many codes, and stands for none of them.
const STANDARD: &[Documented] = &[
    row(
        400,
        "invalid_request",
        ErrorKind::InvalidRequest,
        "finds the token request malformed",
        "check the parameters of the token request",
    ),
    row(
        401,
        "invalid_client",
        ErrorKind::InvalidCredentials,
        "does not accept the client's credentials",
        "verify the client id, its secret or key and the way in which they are sent, and that they belong to this issuer",
    ),
    row(
        0,
        "invalid_grant",
        ErrorKind::InvalidRequest,
        "does not accept the grant",
        "check what the issuer wants for this grant type",
    ),
    row(
        0,
        "unauthorized_client",
        ErrorKind::InvalidRequest,
        "does not allow this client the grant",
        "have the grant type enabled for this client",
    ),
    row(
        0,
        "unsupported_grant_type",
        ErrorKind::InvalidRequest,
        "does not offer the grant",
        "check the token URL and the grant types that the issuer documents",
    ),
    row(
        0,
        "invalid_scope",
        ErrorKind::InvalidRequest,
        "does not accept the scope",
        "check the scope against what this client is allowed",
    ),
    row(
        0,
        "invalid_target",
        ErrorKind::InvalidRequest,
        "does not accept the resource",
        "check the resource and the audience against what this client is allowed",
    ),
    row(0, "server_error", ErrorKind::Unavailable, "reports an error of its own", ""),
    row(0, "temporarily_unavailable", ErrorKind::Unavailable, "is not available", ""),
];

impl EndpointResponse {
    /// The error that the status alone makes of an answer, where trying again can help.
    pub(super) fn transient(&self) -> Option<Error> {
        let (kind, what) = match self.status {
            StatusCode::REQUEST_TIMEOUT => (ErrorKind::Timeout, "gave up on the token request"),
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "asks for fewer requests"),
            status if status.is_server_error() => (ErrorKind::Unavailable, "is not available"),
            _ => return None,
        };
        Some(self.delayed(self.error(kind, what)))
    }

    /// The error that one row of a provider's table makes of the answer.
    #[cfg(feature = "aeropay")]
    pub(crate) fn failure(&self, row: &Documented) -> Error {
        self.documented(row).with_code(row.code)
    }

    /// The error that the status alone makes of the answer.
    #[cfg(feature = "aeropay")]
    pub(crate) fn failure_by_status(&self, documented: &[Documented]) -> Error {
        by_status(self, documented)
    }

    fn delayed(&self, error: Error) -> Error {
        match self.retry_after() {
            Some(delay) if error.is_transient() => error.with_retry_after(delay),
            _ => error,
        }
    }

    fn documented(&self, row: &Documented) -> Error {
        let error = self.error(row.kind, row.what);
        let error = if row.hint.is_empty() { error } else { error.with_hint(row.hint) };
        self.delayed(error)
    }
}

/// The error that an answer without a token is. The code decides before the status does: gateways choose statuses.
pub(super) fn of(answer: &EndpointResponse, documented: &[Documented]) -> Error {
    by_code(answer, documented).unwrap_or_else(|| by_status(answer, documented))
}

pub(super) fn by_code(answer: &EndpointResponse, documented: &[Documented]) -> Option<Error> {
    let said = code(answer.body())?;
    let row = documented.iter().chain(STANDARD).find(|row| row.code == said)?;
    // The table's own text: an issuer that repeats what it was sent puts nothing here.
    Some(answer.documented(row).with_code(row.code))
}

fn by_status(answer: &EndpointResponse, documented: &[Documented]) -> Error {
    let status = answer.status().as_u16();
    if let Some(row) = documented.iter().chain(STANDARD).find(|row| row.status == status) {
        return answer.documented(row);
    }
    match status {
        403 => answer.error(ErrorKind::InvalidCredentials, "refuses this client").with_hint(
            "verify the credentials, that the client is not suspended, and that no gateway stands in the way",
        ),
        404 | 405 | 410 => answer
            .error(ErrorKind::Config, "has no token endpoint at this path")
            .with_hint("set the token URL that the issuer documents"),
        400..=499 => answer.error(ErrorKind::InvalidRequest, "refuses the token request"),
        _ => answer.error(ErrorKind::MalformedResponse, "answered with what is no token response"),
    }
}

#[derive(Deserialize)]
struct ErrorResponse<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

fn code(body: &[u8]) -> Option<&str> {
    let response: ErrorResponse<'_> = super::token::object(body)?;
    // A code with an escape in it is none that anyone documents.
    serde_json::from_str(response.error?.get()).ok()
}
