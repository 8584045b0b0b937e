//! Headers that a gateway must not forward unchanged.

use axum::body::HttpBody;
use axum::extract::Request;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers for one connection only (RFC 9110 section 7.6.1). They are removed even if `Connection` does not name them.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    // A length next to a transfer encoding is wrong and must be removed (RFC 9112 section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Declares the body of a `GET`. Without a length or a transfer encoding, hyper does not send it.
pub(crate) fn frame_body(request: &mut Request) {
    let framed = request.headers().contains_key(header::CONTENT_LENGTH) || request.body().size_hint().exact().is_some();
    if matches!(*request.method(), Method::GET | Method::HEAD) && !framed {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Joins the cookie fields. HTTP/2 may split them, and many HTTP/1.1 servers read only the first (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, whole);
    }
}
