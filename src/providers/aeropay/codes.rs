//! Aeropay's error codes, as far as they concern tokens, and where an answer holds its code.
//!
//! The code decides first, the status second, the text never: Aeropay's own pages write the same error with different
//! texts and statuses.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ErrorKind;
use crate::message::Rejection;
use crate::token_endpoint::{Documented, object, text};

/// One code of Aeropay's error glossary (<https://dev.aero.inc/docs/error-handling>).
pub(super) struct Known {
    /// What it comes to at the token endpoint.
    pub(super) row: Documented,
    on_api: OnApi,
}

/// What the code says of the token, where it answers an API call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnApi {
    /// "Retrieve a new token."
    Expired,
    /// A new token may help, or the scope is the wrong one.
    Doubtful,
    /// The same with a 401; with another status the credentials are meant.
    DoubtfulIf401,
    /// A new token would fare no better.
    Good,
}

const fn known(code: &'static str, on_api: OnApi, kind: ErrorKind, what: &'static str, hint: &'static str) -> Known {
    Known { row: Documented { status: 0, code, kind, what, hint }, on_api }
}

use ErrorKind::{InvalidCredentials, InvalidRequest, Throttled, Unavailable};
use OnApi::{Doubtful, DoubtfulIf401, Expired, Good};

const CREDENTIALS: &str = "does not accept the API key and secret";
const UNAUTHORIZED: &str = "does not authorize these credentials";
const NEW_TOKEN: &str = "does not take the session as it is";

static KNOWN: [Known; 18] = [
    known("AP001", Good, InvalidCredentials, "misses the API key and secret", "check the API key and secret"),
    known(
        "AP002",
        DoubtfulIf401,
        InvalidCredentials,
        CREDENTIALS,
        "check the API key and secret, and that they belong to this environment",
    ),
    known("AP003", Good, InvalidCredentials, "has locked the account", "contact Aeropay"),
    known("AP004", Good, InvalidRequest, "misses a token header", "check the base URL and the API version"),
    known("AP005", Doubtful, Unavailable, NEW_TOKEN, "refresh your session"),
    known("AP006", Good, InvalidRequest, "does not authorize this scope", "use the correct scope"),
    known("AP007", Expired, Unavailable, NEW_TOKEN, "retrieve a new token"),
    known("AP008", Expired, Unavailable, NEW_TOKEN, "retrieve a new token"),
    known("AP009", Good, InvalidCredentials, UNAUTHORIZED, "check the merchant id, the base URL and the scope"),
    known("AP010", Good, InvalidCredentials, UNAUTHORIZED, "check the base URL and the scope"),
    known("AP011", Good, InvalidCredentials, UNAUTHORIZED, "check the base URL and the scope"),
    known("AP101", Doubtful, Unavailable, NEW_TOKEN, "check that the correct token and token scope are used"),
    known("AP113", Good, InvalidRequest, "knows no such user", "check the user's id"),
    known("AP317", Good, Throttled, "counts too many failed attempts of this user", "wait a few minutes"),
    known(
        "AP700",
        Good,
        InvalidRequest,
        "misses a parameter or does not take it",
        "fix the request: check the merchant id and the user's id",
    ),
    known(
        "AP701",
        Good,
        InvalidRequest,
        "finds a parameter improperly formatted",
        "fix the request: check the merchant id and its form, number or string, and the user's id",
    ),
    known("AP800", Good, InvalidRequest, "misses access to a shop", "contact Aeropay"),
    known("AP605", Good, InvalidRequest, "wants a merchant", "check the merchant id"),
];

/// AP002 under a user's scope has two meanings, and only the text would tell them apart.
pub(super) static AP002_OF_A_USER: Documented = Documented {
    status: 0,
    code: "AP002",
    kind: InvalidCredentials,
    what: "does not know the user at this merchant, or does not accept the API key and secret",
    hint: "check the user's id and call confirmUser first; if the merchant has no token either, check the API key and \
           secret, and that they belong to this environment",
};

impl Known {
    /// What the code says of the token that the request carried.
    pub(super) fn rejection(&self, status: StatusCode) -> Option<Rejection> {
        match self.on_api {
            OnApi::Expired => Some(Rejection::InvalidToken),
            OnApi::Doubtful => Some(Rejection::Unspecified),
            OnApi::DoubtfulIf401 if status == StatusCode::UNAUTHORIZED => Some(Rejection::Unspecified),
            OnApi::DoubtfulIf401 | OnApi::Good => None,
        }
    }
}

/// What an answer says of itself.
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
struct Inside<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a JSON object. A name that is repeated makes it none.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        object(body)
    }

    /// Whether the answer is an error, where its status may be that of a success: `success` is false or 0, or there is
    /// an `error` that is not null.
    pub(super) fn is_error(&self, status: StatusCode) -> bool {
        let success = self.success.map(RawValue::get);
        match success {
            _ if !status.is_success() => true,
            Some("false" | "0") => true,
            Some("true" | "1") => false,
            _ => self.error.is_some(),
        }
    }

    /// The code, inside of `error` or beside it, where the glossary has it.
    pub(super) fn code(&self) -> Option<&'static Known> {
        let inside = self.error.and_then(|error| object::<Inside<'_>>(error.get().as_bytes())?.code);
        let code = text(inside.or(self.code)?.get())?;
        KNOWN.iter().find(|known| known.row.code == code.as_str())
    }
}
