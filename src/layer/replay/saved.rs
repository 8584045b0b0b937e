//! The copy of a request from which a replay is made.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::message::{ReplayMarker, RequestHead};
use crate::source::Waited;

/// What a replay needs: the service and the request.
pub(crate) struct Replayable<S, K> {
    pub(crate) service: S,
    pub(crate) request: SavedRequest<K>,
}

/// A request before it was stamped. `body` is what the new body is made from.
pub(crate) struct SavedRequest<K> {
    pub(crate) head: SavedHead,
    pub(crate) body: K,
}

/// The copy of a request head. Most copies are never used, so this one is smaller than `http::request::Parts` and
/// cheaper to make: it keeps the headers as a list. The list becomes a map again when the request is rejected.
pub(crate) struct SavedHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Box<[(HeaderName, HeaderValue)]>,
    extensions: Extensions,
    /// For how long the request waited for its first token. It is here because this struct has unused bytes.
    waited: Waited,
}

impl SavedHead {
    // Without inlining, each request that is kept takes 16 instructions more.
    #[inline(always)]
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let mut headers = Vec::with_capacity(request.headers().len());
        // `extend` takes 32 instructions more for two headers.
        for (name, value) in request.headers() {
            headers.push((name.clone(), value.clone()));
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: headers.into_boxed_slice(),
            extensions: request.extensions().clone(),
            waited: Waited::default(),
        }
    }

    /// The same head, of a request that waited for its token.
    pub(crate) fn after(self, waited: Waited) -> Self {
        Self { waited, ..self }
    }

    pub(crate) fn waited(&self) -> Waited {
        self.waited
    }

    /// Whether the request is already the replay of a layer above.
    pub(crate) fn is_replay(&self) -> bool {
        self.extensions.get::<ReplayMarker>().is_some()
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    pub(crate) fn extension<T: Copy + Send + Sync + 'static>(&self) -> Option<T> {
        self.extensions.get().copied()
    }

    /// The original headers as a map. They come from a map, so they fit into one, and this never returns `None`.
    pub(crate) fn headers(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.try_append(name, value.clone()).ok()?;
        }
        Some(map)
    }

    /// This head, with `headers` as its headers.
    pub(crate) fn borrowed<'a>(&'a self, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead::from_fields(&self.method, &self.uri, self.version, headers, &self.extensions)
    }

    pub(crate) fn into_request<B>(self, headers: HeaderMap, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}

/// Storage for the copy of a request while its response is awaited.
pub(crate) trait KeepCopy<C> {
    /// Without a copy.
    fn empty() -> Self;

    /// With a copy.
    fn with(copy: C) -> Self;

    /// The copy, if there is one.
    fn take(self) -> Option<C>;
}

impl<C> KeepCopy<C> for Option<C> {
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

/// Storage for a setting that never keeps a copy. It needs no space in the response future, which callers move.
#[derive(Debug)]
pub(crate) struct KeepNothing;

impl<C> KeepCopy<C> for KeepNothing {
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
