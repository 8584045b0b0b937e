//! Whether an answer says that the token was no good.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};

use super::ResponseHead;
use super::challenge::bearer_errors;

// Statics, since a name given as a string is parsed at every look, and a constant is built and dropped at every look.
pub(super) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static CONTENT: HeaderName = CONTENT_TYPE;
const GRPC_CONTENT: &[u8] = b"application/grpc";

/// gRPC's `UNAUTHENTICATED`.
const GRPC_UNAUTHENTICATED: &str = "16";

/// What a response says of the token that its request carried.
///
/// A layer below may put one into the response's extensions: it is asked first, then the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The token was not the trouble, or a new one would not help.
    NotRefused,
    /// A 401 that does not say why. A new token may help; whether the request took effect is not certain.
    Bare,
    /// The server says that it was the token: expired or invalid. A new one helps.
    Explicit,
}

impl Refusal {
    /// The rule where nobody knows better.
    ///
    /// A 401 whose challenge is `Bearer error="invalid_token"` (RFC 6750 section 3.1) is explicit, and so is an HTTP 200
    /// with `grpc-status: 16` in its headers, if its `content-type` begins with `application/grpc`. A 401 with
    /// `insufficient_scope` (RFC 6750) or `insufficient_user_authentication` (RFC 9470) is no refusal of the token: a new one
    /// would fare no better. Every other 401 is bare, and every other status, 403 among them, is no refusal.
    #[must_use]
    #[inline]
    pub fn standard(response: &ResponseHead<'_>) -> Self {
        match response.status() {
            StatusCode::UNAUTHORIZED => Self::of_challenges(response),
            StatusCode::OK if is_grpc(response) => Self::of_grpc_status(response),
            _ => Self::NotRefused,
        }
    }

    fn of_grpc_status(response: &ResponseHead<'_>) -> Self {
        match response.headers().get(&GRPC_STATUS) {
            Some(status) if status == GRPC_UNAUTHENTICATED => Self::Explicit,
            _ => Self::NotRefused,
        }
    }

    fn of_challenges(response: &ResponseHead<'_>) -> Self {
        let mut incurable = false;
        for field in response.headers().get_all(WWW_AUTHENTICATE) {
            for error in bearer_errors(field.as_bytes()) {
                match error.as_str() {
                    "invalid_token" => return Self::Explicit,
                    "insufficient_scope" | "insufficient_user_authentication" => incurable = true,
                    _ => {}
                }
            }
        }
        if incurable { Self::NotRefused } else { Self::Bare }
    }
}

/// Each gRPC answer has such a type, also one of trailers alone (gRPC over HTTP/2, `Trailers-Only`).
#[inline]
fn is_grpc(response: &ResponseHead<'_>) -> bool {
    let content = response.headers().get(&CONTENT).map(|value| value.as_bytes());
    content
        .and_then(|value| value.get(..GRPC_CONTENT.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC_CONTENT))
}
