//! Responses of an API, and the token of a request.

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;

/// The challenge for an invalid token (RFC 6750 section 3.1).
pub(crate) const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";

/// A response with this status. Its body is the text of the status.
pub(crate) fn response(status: StatusCode) -> Response<Full<Bytes>> {
    response_with(status, status.to_string())
}

/// A response with this status and this body.
pub(crate) fn response_with(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// A 401 with `challenge`, or without a challenge if it is empty.
pub(crate) fn rejection(challenge: &str) -> Response<Full<Bytes>> {
    let mut response = response(StatusCode::UNAUTHORIZED);
    if !challenge.is_empty() {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    }
    response
}

/// The token that a request carries, without its scheme.
pub(crate) fn bearer<B>(request: &Request<B>) -> &str {
    let mut values = request.headers().get_all("authorization").iter();
    let value = values.next().map_or("", |value| value.to_str().unwrap());
    assert!(values.next().is_none(), "more than one Authorization header");
    value.strip_prefix("Bearer ").unwrap_or_default()
}
