//! What a second sending is made from.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::message::RequestHead;

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

/// The copy of a head, smaller than `http::request::Parts` and cheaper to make, since hardly any is ever used. Its headers are
/// a list in the order of the map, and a map again where the request is refused.
pub(super) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

impl Head {
    // Not inlined, it would take 16 instructions more for each request that is kept.
    #[inline(always)]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let mut headers = Vec::with_capacity(request.headers().len());
        headers.extend(request.headers().iter().map(|(name, value)| (name.clone(), value.clone())));
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers,
            extensions: request.extensions().clone(),
        }
    }

    /// The headers as they came. `None` would be a map without room for them, which the one they came from had.
    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.try_append(name, value.clone()).ok()?;
        }
        Some(map)
    }

    /// This head, with `headers` in the place of its own.
    pub(super) fn borrowed<'a>(&'a self, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead::from_fields(&self.method, &self.uri, self.version, headers, &self.extensions)
    }

    pub(super) fn into_request<B>(self, headers: HeaderMap, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
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
    fn empty() -> Self {
        None
    }

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
    fn empty() -> Self {
        Self
    }

    fn with(_: C) -> Self {
        Self
    }

    fn take(self) -> Option<C> {
        None
    }
}
