//! The copy of a request head.
//!
//! Most copies are never used, so a copy has to be cheap to make. A clone of a `Request` is not: the first clone of a header
//! value or a URI that was made from a string allocates. So the copy is text in a buffer, which the next request of the
//! same thread uses again.

use std::cell::RefCell;
use std::hint::black_box;
use std::mem;

use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use crate::message::{KeyExtension, KeySlot, ReplayMarker};
use crate::source::Waited;

/// A longer URI or value is cloned, and not copied as text.
const MAX_COPIED: usize = 512;

// The limits of what one thread keeps: less than 512 KiB.
const MAX_BUFFERS: usize = 64;
const MAX_TEXT: usize = 4 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_VALUES: usize = 16;

thread_local! {
    /// The buffers that no request uses. They are freed when the thread ends.
    #[expect(clippy::vec_box, reason = "a copy moves with its response future, and a pointer is cheaper to move")]
    static UNUSED: RefCell<Vec<Box<Buffer>>> = const { RefCell::new(Vec::new()) };
}

/// The copy of a request head.
pub(crate) struct SavedHead {
    /// `None` only while this is dropped.
    buffer: Option<Box<Buffer>>,
}

impl SavedHead {
    /// `key_extension` is the extension that keys are read from.
    #[inline(always)]
    pub(crate) fn of<B>(request: &Request<B>, key_extension: Option<&KeyExtension>) -> Self {
        let mut buffer = Buffer::take();
        buffer.save(request);
        if !request.extensions().is_empty() {
            match key_extension {
                Some(key) if (key.save)(request.extensions(), &mut buffer.key_slot) => buffer.key = Some(*key),
                _ => buffer.extensions = request.extensions().clone(),
            }
        }
        Self { buffer: Some(buffer) }
    }

    /// The same head, of a request that waited for its token.
    pub(crate) fn after(mut self, waited: Waited) -> Self {
        if let Some(buffer) = &mut self.buffer {
            buffer.waited = waited;
        }
        self
    }

    pub(crate) fn waited(&self) -> Waited {
        self.buffer.as_ref().map(|buffer| buffer.waited).unwrap_or_default()
    }

    /// Whether the request is already the replay of a layer above.
    pub(crate) fn is_replay(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.extensions.get::<ReplayMarker>().is_some())
    }

    /// The head as it was. `None` if that fails, which it does for no head that the safe functions of `http` can create.
    pub(crate) fn restore(mut self) -> Option<Request<()>> {
        let buffer = self.buffer.as_mut()?;
        if let Some(key) = buffer.key {
            (key.restore)(&mut buffer.key_slot, &mut buffer.extensions);
        }
        buffer.restore()
    }
}

impl Drop for SavedHead {
    #[inline]
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffer.give_back();
        }
    }
}

#[derive(Default)]
struct Buffer {
    method: Method,
    version: Version,
    scheme: Option<Scheme>,
    /// The length of the authority.
    authority: Option<usize>,
    /// The length of the path with its query.
    path: Option<usize>,
    /// A URI that is not in the text.
    uri: Option<Uri>,
    /// The authority, the path, and then the name and the value of each header.
    text: Vec<u8>,
    headers: Vec<SavedHeader>,
    /// The values that are not in the text, in the order of their headers.
    values: Vec<HeaderValue>,
    extensions: Extensions,
    /// If the key is the only extension, it is in `key_slot`.
    key: Option<KeyExtension>,
    key_slot: KeySlot,
    /// For how long the request waited for its first token.
    waited: Waited,
}

/// The lengths of a name and of its value. `None` is a value that is not in the text.
struct SavedHeader {
    name: usize,
    value: Option<usize>,
}

impl Buffer {
    #[inline]
    fn take() -> Box<Self> {
        let unused = UNUSED.try_with(|unused| unused.try_borrow_mut().ok()?.pop());
        unused.ok().flatten().unwrap_or_else(Self::with_capacity)
    }

    /// With room for the head of most requests.
    #[cold]
    fn with_capacity() -> Box<Self> {
        Box::new(Self { text: Vec::with_capacity(512), headers: Vec::with_capacity(16), ..Self::default() })
    }

    /// Wipes the buffer and keeps it for the next request, within the limits.
    #[inline]
    fn give_back(mut self: Box<Self>) {
        // Before `UNUSED` is borrowed: the `Drop` of an extension may send a request.
        self.wipe();
        let is_large = self.text.capacity() > MAX_TEXT
            || self.headers.capacity() > MAX_HEADERS
            || self.values.capacity() > MAX_VALUES;
        if is_large {
            return;
        }
        let _ = UNUSED.try_with(|unused| {
            if let Ok(mut unused) = unused.try_borrow_mut()
                && unused.len() < MAX_BUFFERS
            {
                unused.push(self);
            }
        });
    }

    #[inline]
    fn wipe(&mut self) {
        self.text.fill(0);
        // Without it, the compiler may leave out the writes to a buffer that is freed next.
        black_box(&mut self.text);
        self.text.clear();
        self.headers.clear();
        if !self.values.is_empty() {
            self.values.clear();
        }
        if !self.extensions.is_empty() {
            self.extensions = Extensions::new();
        }
        if self.uri.is_some() {
            self.uri = None;
        }
        if let Some(key) = self.key.take() {
            (key.clear)(&mut self.key_slot);
        }
        (self.scheme, self.authority, self.path) = (None, None, None);
        self.waited = Waited::default();
        // The text of an extension method has no limit.
        if !matches!(self.method, Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            self.method = Method::GET;
        }
    }

    #[inline]
    fn save<B>(&mut self, request: &Request<B>) {
        // Most requests of a thread have the same method, and a comparison takes less than a clone and a drop.
        if self.method != *request.method() {
            self.method = request.method().clone();
        }
        self.version = request.version();
        self.save_uri(request.uri());
        for (name, value) in request.headers() {
            let name = name.as_str();
            self.text.extend_from_slice(name.as_bytes());
            let length = if value.len() > MAX_COPIED || value.is_sensitive() {
                self.values.push(value.clone());
                None
            } else {
                self.text.extend_from_slice(value.as_bytes());
                Some(value.len())
            };
            self.headers.push(SavedHeader { name: name.len(), value: length });
        }
    }

    // Without inlining, each request takes 16 instructions more.
    #[inline(always)]
    fn save_uri(&mut self, uri: &Uri) {
        let path = uri.path_and_query().map(PathAndQuery::as_str).filter(|path| path.len() <= MAX_COPIED);
        match (uri.scheme(), uri.authority(), path) {
            (Some(scheme), Some(authority), Some(path)) if authority.as_str().len() <= MAX_COPIED => {
                self.scheme = Some(scheme.clone());
                self.authority = Some(authority.as_str().len());
                self.path = Some(path.len());
                self.text.extend_from_slice(authority.as_str().as_bytes());
                self.text.extend_from_slice(path.as_bytes());
            }
            (None, None, Some(path)) => {
                self.path = Some(path.len());
                self.text.extend_from_slice(path.as_bytes());
            }
            _ => self.uri = Some(uri.clone()),
        }
    }

    fn restore(&mut self) -> Option<Request<()>> {
        let mut text = Reader(&self.text);
        let uri = match self.uri.take() {
            Some(uri) => uri,
            None => {
                let mut parts = uri::Parts::default();
                parts.scheme = self.scheme.take();
                if let Some(length) = self.authority {
                    parts.authority = Some(Authority::try_from(text.read(length)?).ok()?);
                }
                parts.path_and_query = Some(PathAndQuery::try_from(text.read(self.path?)?).ok()?);
                Uri::from_parts(parts).ok()?
            }
        };
        let mut headers = HeaderMap::new();
        let mut values = self.values.drain(..);
        for header in &self.headers {
            let name = HeaderName::from_bytes(text.read(header.name)?).ok()?;
            let value = match header.value {
                Some(length) => HeaderValue::from_bytes(text.read(length)?).ok()?,
                None => values.next()?,
            };
            headers.try_append(name, value).ok()?;
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = mem::take(&mut self.extensions);
        Some(request)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn read(&mut self, length: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests;
