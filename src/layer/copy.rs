//! What a second sending is made from.

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

use crate::api::RequestHead;

/// Everything that a second sending needs.
pub(super) struct Again<S, K> {
    pub(super) service: S,
    pub(super) copy: Copied<K>,
}

/// A request as it came, before anything was stamped, and what its body is made from.
pub(super) struct Copied<K> {
    pub(super) head: Head,
    pub(super) kept: K,
}

/// `http::request::Parts` cannot be made but by way of a whole request, which is one more move on the cached path.
pub(super) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    pub(super) headers: HeaderMap,
    extensions: Extensions,
}

impl Head {
    #[inline(always)]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        }
    }

    pub(super) fn borrowed(&self) -> RequestHead<'_> {
        RequestHead::from_fields(&self.method, &self.uri, self.version, &self.headers, &self.extensions)
    }

    pub(super) fn with_body<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}

/// Where a copy waits for the answer.
#[expect(unnameable_types, reason = "only the settings of `replay` choose it")]
pub trait Room<C> {
    /// Nothing was kept.
    fn empty() -> Self;

    /// Keeps a copy.
    fn with(copy: C) -> Self;

    /// The copy, if there is one.
    fn take(self) -> Option<C>;
}

impl<C> Room<C> for Option<C> {
    #[inline(always)]
    fn empty() -> Self {
        None
    }

    #[inline(always)]
    fn with(copy: C) -> Self {
        Some(copy)
    }

    fn take(self) -> Self {
        self
    }
}

/// What is never kept takes no room in the future, which callers move about.
#[derive(Debug)]
#[expect(unnameable_types, reason = "only the settings of `replay` choose it")]
pub struct NoRoom;

impl<C> Room<C> for NoRoom {
    #[inline(always)]
    fn empty() -> Self {
        Self
    }

    #[inline(always)]
    fn with(_: C) -> Self {
        Self
    }

    fn take(self) -> Option<C> {
        None
    }
}
