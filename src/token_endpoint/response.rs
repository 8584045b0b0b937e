//! What came back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use super::failure::Documented;
use super::retry_after::retry_after;
use super::{failure, token};
use crate::error::{Error, ErrorKind};
use crate::token::IssuedToken;

/// An issuer's answer, read whole. Its body's buffer is wiped when it is dropped, and `Debug` does not show it.
pub struct EndpointResponse {
    pub(super) origin: Arc<str>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl EndpointResponse {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, at most 64 KiB. Empty, too, where a status that is no success came with a body that could not be read.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How long the issuer asks to wait: its `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
    ///
    /// A date is counted from the answer's own `Date`, and from this machine's time of day where there is none. What is
    /// neither form is `None`. There is no upper bound; the token source has one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// Reads the answer as RFC 6749 section 5 has it: a bearer token and its lifetime, or an error with its code.
    ///
    /// The content type is not looked at. A missing `token_type` counts as `Bearer`. `expires_in` may be a number or a
    /// number in a string; what is neither is held to be absent. A repeated parameter makes the answer malformed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`], transient, for a 2xx without a usable token in it.
    /// [`ErrorKind::UnsupportedTokenType`] for a token that is not a bearer token. Else the error code decides, where it
    /// is one of RFC 6749 section 5.2, and where it is not, the status: 400 is [`ErrorKind::InvalidRequest`], 401 and 403
    /// are [`ErrorKind::InvalidCredentials`], 404, 405 and 410 are [`ErrorKind::Config`].
    pub fn bearer_token(&self) -> Result<IssuedToken, Error> {
        self.bearer_token_or(&[])
    }

    /// The same, with the errors that a provider documents in front of the standard's.
    pub(crate) fn bearer_token_or(&self, documented: &[Documented]) -> Result<IssuedToken, Error> {
        if !self.status.is_success() {
            return Err(failure::of(self, documented));
        }
        token::parse(self)
            .map_err(|error| failure::by_code(self, documented).unwrap_or(error))
            .map_err(|error| error.with_status(self.status))
    }

    pub(crate) fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("the issuer at {} {what}", self.origin)).with_status(self.status)
    }
}

impl fmt::Debug for EndpointResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointResponse")
            .field("origin", &self.origin)
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
