//! The token request: a body in a buffer that is wiped, and headers that are marked sensitive.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::message::{RepeatableTokenRequest, Unauthenticated};

/// A token request: a body, its content type, and additional headers.
///
/// The buffer of the body is wiped when it is dropped. Copies that the HTTP client makes are not wiped.
pub struct TokenRequest {
    content_type: HeaderValue,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    /// Whether a header was dropped because the map was full.
    too_many_headers: bool,
    /// An issuer may accept a client assertion once (RFC 7523 section 3), so a request that contains one is sent once.
    repeatable: bool,
}

impl TokenRequest {
    /// A form (`application/x-www-form-urlencoded`) with these fields, in this order.
    #[must_use]
    pub fn form(fields: &[(&str, &str)]) -> Self {
        // Sized for the worst case, where each byte becomes `%XX`. A buffer that grows leaves copies that are not
        // wiped.
        let worst: usize = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(worst));
        for (name, value) in fields {
            if !body.is_empty() {
                body.push(b'&');
            }
            encode(&mut body, name);
            body.push(b'=');
            encode(&mut body, value);
        }
        let repeatable = !fields.iter().any(|(name, _)| *name == "client_assertion");
        Self { repeatable, ..Self::new(HeaderValue::from_static("application/x-www-form-urlencoded"), body) }
    }

    /// A JSON body (`application/json`). `body` is the JSON text.
    #[must_use]
    pub fn json(body: Vec<u8>) -> Self {
        Self::new(HeaderValue::from_static("application/json"), Zeroizing::new(body))
    }

    /// Sets a header, for example an API key. The value is marked sensitive. It replaces an earlier value of the same
    /// name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.too_many_headers |= self.headers.try_insert(name, value).is_err();
        self
    }

    fn new(content_type: HeaderValue, body: Zeroizing<Vec<u8>>) -> Self {
        Self { content_type, headers: HeaderMap::new(), body, too_many_headers: false, repeatable: true }
    }

    pub(super) fn into_http(mut self, url: Uri) -> Result<Request<Bytes>, Error> {
        let mut full = self.too_many_headers || self.headers.try_insert(CONTENT_TYPE, self.content_type).is_err();
        for (name, value) in defaults() {
            full |= !self.headers.contains_key(&name) && self.headers.try_insert(name, value).is_err();
        }
        if full {
            return Err(Error::new(ErrorKind::InvalidRequest, "the token request has too many headers"));
        }
        let mut request = Request::new(Bytes::from_owner(self.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        *request.headers_mut() = self.headers;
        mark(&mut request, self.repeatable);
        Ok(request)
    }
}

/// The headers of every request. Some issuers reject a request without a `User-Agent`, and some proxies compress a response
/// if the request does not exclude it.
fn defaults() -> [(HeaderName, HeaderValue); 3] {
    const PRODUCT: &str = concat!("tower-bearer-auth/", env!("CARGO_PKG_VERSION"));
    [
        (ACCEPT, HeaderValue::from_static("application/json")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        (USER_AGENT, HeaderValue::from_static(PRODUCT)),
    ]
}

/// A `GET` request for a JSON document.
#[cfg(feature = "client-credentials")]
pub(super) fn get(url: Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url;
    request.headers_mut().extend(defaults());
    mark(&mut request, true);
    request
}

/// If this crate's layer wraps the client for token requests, it must not stamp them: it would wait for the token that the
/// request fetches.
fn mark(request: &mut Request<Bytes>, repeatable: bool) {
    request.extensions_mut().insert(Unauthenticated);
    if repeatable {
        request.extensions_mut().insert(RepeatableTokenRequest);
    }
}

fn encode(body: &mut Vec<u8>, text: &str) {
    for piece in form_urlencoded::byte_serialize(text.as_bytes()) {
        body.extend_from_slice(piece.as_bytes());
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}
