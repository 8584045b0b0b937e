//! The response of a token endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::json;
use super::retry_after::retry_after;
use crate::error::{Error, ErrorKind};

/// The complete response of a token endpoint.
///
/// The buffer of the body is wiped when it is dropped. `Debug` does not print the body.
pub struct EndpointResponse {
    pub(super) origin: Arc<str>,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Whether the error code contains a value of the request.
    pub(super) repeats_request: bool,
}

impl EndpointResponse {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, at most 64 KiB.
    ///
    /// The body is empty if the status is not 2xx and the body could not be read.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How long the issuer asks the client to wait: the `Retry-After` header, in seconds or as a date (RFC 9110 section
    /// 10.2.3).
    ///
    /// A date is relative to the `Date` of the response, or to this machine's clock if the response has no `Date`. The
    /// result is `None` if the header is in neither form. It has no upper bound. The token source applies one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The error code of RFC 6749 section 5.2: the member `error` of a JSON object, if it is a string.
    ///
    /// Compare it with the codes that the issuer documents. Do not print it: an issuer can put any text here, for
    /// example what it received.
    ///
    /// ```
    /// use tower_bearer_auth::token_endpoint::EndpointResponse;
    /// use tower_bearer_auth::{Error, ErrorKind, IssuedToken};
    ///
    /// fn token(response: &EndpointResponse) -> Result<IssuedToken, Error> {
    ///     if response.error_code() == Some("disabled_client") {
    ///         return Err(response
    ///             .error(ErrorKind::InvalidCredentials, "has suspended this client")
    ///             .with_code("disabled_client")
    ///             .with_hint("contact the issuer's support"));
    ///     }
    ///     response.bearer_token()
    /// }
    /// ```
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        let document: ErrorDocument<'_> = json::object(&self.body)?;
        // No issuer documents a code that contains an escape.
        json::plain_text(document.error?.get())
    }

    /// An error about this response, with its HTTP status.
    ///
    /// The message is `the issuer at <origin> <what>`. Do not put a part of the body into `what`.
    #[must_use]
    pub fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, format!("the issuer at {} {what}", self.origin)).with_status(self.status)
    }
}

#[derive(Deserialize)]
struct ErrorDocument<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
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
