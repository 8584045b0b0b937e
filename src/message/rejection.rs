//! Whether a response rejects the token of its request.

#[cfg(feature = "grpc")]
use http::HeaderMap;
use http::header::{self, WWW_AUTHENTICATE};
use http::{Extensions, HeaderName, Response, StatusCode};

use super::ResponseHead;
use super::challenge::bearer_errors;

// Statics, because a name given as a string is parsed at each use, and a constant is built and dropped at each use.
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static CONTENT_TYPE: HeaderName = header::CONTENT_TYPE;

/// The prefix of every gRPC content type. A response with only trailers has it too (gRPC over HTTP/2, `Trailers-Only`).
const GRPC_CONTENT_TYPE: &[u8] = b"application/grpc";

/// gRPC's `UNAUTHENTICATED`.
const GRPC_UNAUTHENTICATED: &str = "16";

/// How a response rejects the token of its request.
///
/// [`TokenProvider::rejection`](crate::TokenProvider::rejection) returns `None` for a response that does not reject the
/// token.
#[doc(alias("401", "unauthorized", "www-authenticate"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// A 401 that does not name the reason. A new token may help. The server may have applied the request.
    Unspecified,
    /// The server names the token as the reason: it is expired or invalid. A new token helps. The server did not apply
    /// the request.
    InvalidToken,
}

impl Rejection {
    /// Applies the rules of the standards.
    ///
    /// | response | result |
    /// |---|---|
    /// | 401 with the challenge `Bearer error="invalid_token"` (RFC 6750 section 3.1) | [`InvalidToken`](Self::InvalidToken) |
    /// | 200 with `grpc-status: 16` in its headers and a `content-type` that begins with `application/grpc` | [`InvalidToken`](Self::InvalidToken) |
    /// | 401 with `insufficient_scope` (RFC 6750) or `insufficient_user_authentication` (RFC 9470) | `None`: a new token does not help |
    /// | any other 401 | [`Unspecified`](Self::Unspecified) |
    /// | any other status, 403 included | `None` |
    ///
    /// The grammar of a challenge is that of RFC 9110 section 11.6.1. Servers also send challenges that do not follow it.
    /// They count as a 401 without a reason: a value in single quotes (`error='invalid_token'`), a scheme with a colon
    /// (`Bearer: error="invalid_token"`), and a quoted value that does not end (`error="invalid_token`).
    #[must_use]
    #[inline]
    pub fn standard(response: &ResponseHead<'_>) -> Option<Self> {
        match response.status() {
            StatusCode::UNAUTHORIZED => Self::from_challenges(response),
            StatusCode::OK if is_grpc(response) => Self::from_grpc_status(response),
            _ => None,
        }
    }

    /// Marks `response` for the [`BearerAuth`](crate::BearerAuth) service above.
    ///
    /// Use this in a layer below, for example in one that reads response bodies. `None` means that the response does
    /// not reject the token. The mark takes precedence over the provider's
    /// [`rejection`](crate::TokenProvider::rejection) and over
    /// [`rejected_when`](crate::BearerAuthLayer::rejected_when). A second mark replaces the first one. The first
    /// `BearerAuth` that reads the mark removes it.
    ///
    /// ```
    /// use tower_bearer_auth::Rejection;
    ///
    /// let mut response = http::Response::new("{\"error\":\"token expired\"}");
    /// if response.body().contains("token expired") {
    ///     Rejection::mark(&mut response, Some(Rejection::InvalidToken));
    /// }
    /// ```
    pub fn mark<T>(response: &mut Response<T>, rejection: Option<Self>) {
        response.extensions_mut().insert(Mark(rejection));
    }

    fn from_grpc_status(response: &ResponseHead<'_>) -> Option<Self> {
        let status = response.headers().get(&GRPC_STATUS)?;
        (status == GRPC_UNAUTHENTICATED).then_some(Self::InvalidToken)
    }

    fn from_challenges(response: &ResponseHead<'_>) -> Option<Self> {
        let mut insufficient = false;
        for field in response.headers().get_all(WWW_AUTHENTICATE) {
            for error in bearer_errors(field.as_bytes()) {
                match error.as_str() {
                    "invalid_token" => return Some(Self::InvalidToken),
                    "insufficient_scope" | "insufficient_user_authentication" => insufficient = true,
                    _ => {}
                }
            }
        }
        if insufficient { None } else { Some(Self::Unspecified) }
    }
}

/// The decision of a layer below, in the extensions of the response.
#[derive(Clone, Copy)]
struct Mark(Option<Rejection>);

/// Removes the mark of a response and returns it. The outer `None` means that there is no mark.
// Without inlining, each request takes 5 instructions more.
#[inline(always)]
pub(crate) fn take_mark(extensions: &mut Extensions) -> Option<Option<Rejection>> {
    // Most responses have no extensions, and this check is inlined.
    if extensions.is_empty() {
        return None;
    }
    extensions.remove::<Mark>().map(|Mark(rejection)| rejection)
}

/// Whether the response shows that the server accepted the token: a 2xx or a 304, and a `grpc-status` of 0 if there is one.
pub(crate) fn accepts(response: &ResponseHead<'_>) -> bool {
    let accepted = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    accepted && response.headers().get(&GRPC_STATUS).is_none_or(|status| status == "0")
}

/// The `grpc-status` of a call, as far as it concerns the token.
#[cfg(feature = "grpc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcStatus {
    Ok,
    Unauthenticated,
    Other,
}

#[cfg(feature = "grpc")]
impl GrpcStatus {
    /// Reads the trailers of a response.
    pub(crate) fn of_trailers(trailers: &HeaderMap) -> Self {
        match trailers.get(&GRPC_STATUS).map(|status| status.as_bytes()) {
            Some(b"0") => Self::Ok,
            Some(status) if status == GRPC_UNAUTHENTICATED.as_bytes() => Self::Unauthenticated,
            _ => Self::Other,
        }
    }
}

/// Whether the status of a call follows in trailers: the response is gRPC, and its head has no status (`Trailers-Only`).
#[cfg(feature = "grpc")]
pub(crate) fn has_grpc_body(response: &ResponseHead<'_>) -> bool {
    response.status() == StatusCode::OK && is_grpc(response) && !response.headers().contains_key(&GRPC_STATUS)
}

#[inline]
fn is_grpc(response: &ResponseHead<'_>) -> bool {
    let value = response.headers().get(&CONTENT_TYPE).map(|value| value.as_bytes());
    value
        .and_then(|value| value.get(..GRPC_CONTENT_TYPE.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC_CONTENT_TYPE))
}
