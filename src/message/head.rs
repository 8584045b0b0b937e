//! A request or a response without its body.

use std::fmt;
use std::sync::OnceLock;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use super::key_extension::KeyExtension;

/// A borrowed request without its body. Making one copies nothing.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    key_extension: Option<&'a OnceLock<KeyExtension>>,
}

impl<'a> RequestHead<'a> {
    /// Borrows the head of `request`.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
            key_extension: None,
        }
    }

    /// The same head. An [`ExtensionKey`](super::ExtensionKey) that is read from it sets `key_extension`.
    pub(crate) fn with_key_extension(self, key_extension: &'a OnceLock<KeyExtension>) -> Self {
        Self { key_extension: Some(key_extension), ..self }
    }

    // Inlined into `ExtensionKey::from_request`; see there.
    #[inline(always)]
    pub(super) fn set_key_extension(&self, key_extension: KeyExtension) {
        if let Some(cell) = self.key_extension
            && cell.get().is_none()
        {
            let _ = cell.set(key_extension);
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The URI as the caller set it: absolute, or only a path.
    #[must_use]
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The HTTP version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers before the token is stamped.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions. A caller can insert the identity of a request here.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Whether sending the request twice has the same effect as sending it once.
    ///
    /// This is true for the idempotent methods of RFC 9110 section 9.2.2 (`GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`,
    /// `DELETE`) and for any request with an `Idempotency-Key` header. A key counts only if it has a value after white
    /// space and one pair of quotes are removed. If there are several keys, each needs a value.
    #[doc(alias = "idempotency-key")]
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        let by_method = matches!(
            *self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        by_method || self.has_idempotency_key()
    }

    fn has_idempotency_key(&self) -> bool {
        let keys = || self.headers.get_all("idempotency-key").iter();
        // A proxy may have joined several keys with commas (RFC 9110 section 5.3).
        keys().next().is_some() && keys().all(|key| key.as_bytes().split(|b| *b == b',').all(has_value))
    }
}

/// Whether anything is left of a header value without white space and one pair of quotes.
fn has_value(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    !inner.unwrap_or(value).trim_ascii().is_empty()
}

/// A borrowed response without its body.
#[derive(Clone, Copy)]
pub struct ResponseHead<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> ResponseHead<'a> {
    /// Borrows the head of `response`.
    pub fn of<B>(response: &'a Response<B>) -> Self {
        Self { status: response.status(), headers: response.headers(), extensions: response.extensions() }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

// Headers, extensions and query strings may contain secrets, so `Debug` leaves them out.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", self.method)
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead").field("status", &self.status).finish_non_exhaustive()
    }
}
