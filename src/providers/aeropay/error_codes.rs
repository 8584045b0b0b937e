//! Aeropay's error codes for tokens, and where a response contains its code.
//!
//! The code decides first, and then the status. The text never decides: Aeropay's pages show the same error with
//! different texts and statuses.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ErrorKind;
use crate::message::Rejection;
use crate::token_endpoint::{DocumentedError, object, text};

/// One code of Aeropay's error glossary (<https://dev.aero.inc/docs/error-handling>).
pub(super) struct KnownCode {
    /// The error that the code becomes at the token endpoint.
    pub(super) row: DocumentedError,
    verdict: Verdict,
}

/// What the code means for the token of an API request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The token is invalid. The glossary says: "Retrieve a new token."
    Invalid,
    /// A new token may help. The scope may also be the wrong one.
    Doubtful,
    /// As `Doubtful` with a 401. With another status, the code is about the credentials.
    DoubtfulIf401,
    /// A new token does not help.
    Valid,
}

const fn known(
    code: &'static str,
    verdict: Verdict,
    kind: ErrorKind,
    what: &'static str,
    hint: &'static str,
) -> KnownCode {
    KnownCode { row: DocumentedError { status: None, code, kind, what, hint }, verdict }
}

use ErrorKind::{InvalidCredentials, InvalidRequest, Throttled, Unavailable};
use Verdict::{Doubtful, DoubtfulIf401, Invalid, Valid};

const CREDENTIALS: &str = "rejects the API key and secret";
const UNAUTHORIZED: &str = "does not authorize these credentials";
const SESSION: &str = "rejects the session";

static KNOWN: [KnownCode; 18] = [
    known("AP001", Valid, InvalidCredentials, "received no API key and secret", "check the API key and secret"),
    known(
        "AP002",
        DoubtfulIf401,
        InvalidCredentials,
        CREDENTIALS,
        "check the API key and secret, and that they belong to this environment",
    ),
    known("AP003", Valid, InvalidCredentials, "has locked the account", "contact Aeropay"),
    known("AP004", Valid, InvalidRequest, "received no token header", "check the base URL and the API version"),
    known("AP005", Doubtful, Unavailable, SESSION, "refresh your session"),
    known("AP006", Valid, InvalidRequest, "does not authorize this scope", "use the correct scope"),
    known("AP007", Invalid, Unavailable, SESSION, "retrieve a new token"),
    known("AP008", Invalid, Unavailable, SESSION, "retrieve a new token"),
    known("AP009", Valid, InvalidCredentials, UNAUTHORIZED, "check the merchant id, the base URL and the scope"),
    known("AP010", Valid, InvalidCredentials, UNAUTHORIZED, "check the base URL and the scope"),
    known("AP011", Valid, InvalidCredentials, UNAUTHORIZED, "check the base URL and the scope"),
    known("AP101", Doubtful, Unavailable, SESSION, "check that the correct token and token scope are used"),
    known("AP113", Valid, InvalidRequest, "does not know the user", "check the user's id"),
    known("AP317", Valid, Throttled, "reports too many failed attempts of this user", "wait a few minutes"),
    known("AP605", Valid, InvalidRequest, "requires a merchant", "check the merchant id"),
    known(
        "AP700",
        Valid,
        InvalidRequest,
        "reports a missing or invalid parameter",
        "fix the request: check the merchant id and the user's id",
    ),
    known(
        "AP701",
        Valid,
        InvalidRequest,
        "reports an improperly formatted parameter",
        "fix the request: check the merchant id and its form, number or string, and the user's id",
    ),
    known("AP800", Valid, InvalidRequest, "reports missing access to a shop", "contact Aeropay"),
];

/// AP002 for a user's token has two meanings. Only the text distinguishes them.
pub(super) static AP002_OF_A_USER: DocumentedError = DocumentedError {
    status: None,
    code: "AP002",
    kind: InvalidCredentials,
    what: "does not know the user at this merchant, or rejects the API key and secret",
    hint: "check the user's id and call confirmUser first; if the merchant's token also fails, check the API key and secret, \
           and that they belong to this environment",
};

impl KnownCode {
    /// Whether the code rejects the token of the request.
    pub(super) fn rejection(&self, status: StatusCode) -> Option<Rejection> {
        match self.verdict {
            Verdict::Invalid => Some(Rejection::InvalidToken),
            Verdict::Doubtful => Some(Rejection::Unspecified),
            Verdict::DoubtfulIf401 if status == StatusCode::UNAUTHORIZED => Some(Rejection::Unspecified),
            Verdict::DoubtfulIf401 | Verdict::Valid => None,
        }
    }
}

/// The members of a response body that show whether it is an error, and which code it has.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    success: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Parses a JSON object. Returns `None` if a member is repeated.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        object(body)
    }

    /// Whether the response is an error: its status is not 2xx, or `success` is false or 0, or `error` is present and
    /// not null.
    pub(super) fn is_error(&self, status: StatusCode) -> bool {
        let success = self.success.map(RawValue::get);
        match success {
            _ if !status.is_success() => true,
            Some("false" | "0") => true,
            Some("true" | "1") => false,
            _ => self.error.is_some(),
        }
    }

    /// The code in `error`, or next to it, if the glossary contains it.
    pub(super) fn code(&self) -> Option<&'static KnownCode> {
        let inside = self.error.and_then(|error| object::<ErrorObject<'_>>(error.get().as_bytes())?.code);
        let code = text(inside.or(self.code)?.get())?;
        KNOWN.iter().find(|known| known.row.code == code.as_str())
    }
}
