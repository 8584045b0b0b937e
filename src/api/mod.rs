//! What a request and a response say: whose token, where to, and whether it was refused.
//!
//! A leaf: it looks at `http` types and knows neither tokens nor caches.

mod challenge;
mod origins;
mod refusal;

pub(crate) use self::origins::Destination;
pub use self::origins::Origins;
#[cfg(feature = "exchange")]
pub(crate) use self::origins::{absolute_url, is_loopback};
pub use self::refusal::Refusal;

use std::fmt::{self, Debug};
use std::hash::Hash;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use crate::error::{Error, ErrorKind};

/// A request without its body, borrowed: looking at it copies nothing.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    /// The head of `request`.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    pub(crate) fn from_fields(
        method: &'a Method,
        uri: &'a Uri,
        version: Version,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
    ) -> Self {
        Self { method, uri, version, headers, extensions }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The URI as the caller set it: absolute, or a path alone.
    #[must_use]
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The HTTP version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers, before anything is stamped.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions, in which a caller says as whom a request goes.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

/// A response without its body, borrowed.
#[derive(Clone, Copy)]
pub struct ResponseHead<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> ResponseHead<'a> {
    /// The head of `response`.
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

    /// Whether the answer shows that the token was good: a 2xx, for gRPC without a non-zero status.
    pub(crate) fn accepts(&self) -> bool {
        self.status.is_success() && self.headers.get(&refusal::GRPC_STATUS).is_none_or(|status| status == "0")
    }
}

// Headers, extensions and queries hold whatever callers put there, secrets among it.
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

/// Which identity a request acts as. One token is kept for each value.
///
/// `Debug` output is meant for logs: a key holds an identity and never a secret.
pub trait RequestKey: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// Reads the identity out of a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingKey`] where the request does not say. It then goes nowhere, and never under another
    /// identity's token.
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error>;
}

impl RequestKey for () {
    fn from_request(_: &RequestHead<'_>) -> Result<Self, Error> {
        Ok(())
    }
}

/// A key that the caller puts into the request's extensions.
///
/// ```
/// use tower_bearer_auth::{FromExtension, RequestHead, RequestKey};
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// struct Tenant(u32);
///
/// let request = http::Request::builder().extension(Tenant(7)).body(()).unwrap();
/// let key = FromExtension::<Tenant>::from_request(&RequestHead::of(&request)).unwrap();
/// assert_eq!(key.0, Tenant(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FromExtension<T>(
    /// What the request carried.
    pub T,
);

impl<T> RequestKey for FromExtension<T>
where
    T: Clone + Eq + Hash + Debug + Send + Sync + 'static,
{
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        request.extensions().get::<T>().cloned().map(Self).ok_or_else(|| {
            Error::new(ErrorKind::MissingKey, "the request does not say as whom it goes")
                .with_hint(format!("put a {} into the request's extensions", std::any::type_name::<T>()))
        })
    }
}

/// Marks a request of this crate's own token call, so that a client that is wrapped in its own layer passes it on
/// instead of waiting for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenCall;

#[cfg(test)]
mod tests;
