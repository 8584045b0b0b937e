//! A provider that is chosen at run time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::{FetchContext, TokenProvider};
use crate::error::Error;
use crate::message::{Origins, Rejection, RequestHead, RequestKey, ResponseHead};
use crate::token::IssuedToken;

/// Any provider with the key type `K`, chosen at run time. Cloning shares the provider.
///
/// Use it where one type must cover several providers, for example a fixed token in development and AccessPSP in
/// production. Each fetch allocates one boxed future. A request with a cached token makes two dynamic calls.
///
/// ```
/// use tower_bearer_auth::{DynProvider, Error, FixedToken, TokenSource, from_fn, IssuedToken};
///
/// fn provider(development: bool) -> Result<DynProvider, Error> {
///     Ok(if development {
///         DynProvider::new(FixedToken::new("dev-token")?)
///     } else {
///         DynProvider::new(from_fn(|| async { IssuedToken::bearer("from-the-issuer") }))
///     })
/// }
///
/// let source: TokenSource<DynProvider> = TokenSource::new(provider(true)?);
/// # drop(source);
/// # Ok::<(), Error>(())
/// ```
pub struct DynProvider<K = ()> {
    inner: Arc<dyn object::Provider<K>>,
}

impl<K: RequestKey> DynProvider<K> {
    /// Erases the type of `provider`.
    pub fn new<P: TokenProvider<Key = K>>(provider: P) -> Self {
        Self { inner: Arc::new(provider) }
    }
}

mod object {
    use super::*;

    pub(super) type BoxFetch<'a> = Pin<Box<dyn Future<Output = Result<IssuedToken, Error>> + Send + 'a>>;

    /// The object-safe twin of [`TokenProvider`].
    pub(super) trait Provider<K>: Send + Sync {
        fn fetch<'a>(&'a self, key: &'a K, cx: &'a FetchContext) -> BoxFetch<'a>;
        fn key(&self, request: &RequestHead<'_>) -> Result<K, Error>;
        fn header(&self) -> HeaderName;
        fn api_headers(&self) -> HeaderMap;
        fn origins(&self) -> Origins;
        fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection>;
        fn is_idempotent(&self, request: &RequestHead<'_>) -> bool;
        fn label(&self) -> &str;
    }

    impl<P: TokenProvider> Provider<P::Key> for P {
        fn fetch<'a>(&'a self, key: &'a P::Key, cx: &'a FetchContext) -> BoxFetch<'a> {
            Box::pin(TokenProvider::fetch(self, key, cx))
        }

        fn key(&self, request: &RequestHead<'_>) -> Result<P::Key, Error> {
            TokenProvider::key(self, request)
        }

        fn header(&self) -> HeaderName {
            TokenProvider::header(self)
        }

        fn api_headers(&self) -> HeaderMap {
            TokenProvider::api_headers(self)
        }

        fn origins(&self) -> Origins {
            TokenProvider::origins(self)
        }

        fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
            TokenProvider::rejection(self, response)
        }

        fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
            TokenProvider::is_idempotent(self, request)
        }

        fn label(&self) -> &str {
            TokenProvider::label(self)
        }
    }
}

impl<K: RequestKey> TokenProvider for DynProvider<K> {
    type Key = K;

    async fn fetch(&self, key: &K, cx: &FetchContext) -> Result<IssuedToken, Error> {
        self.inner.fetch(key, cx).await
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<K, Error> {
        self.inner.key(request)
    }

    fn header(&self) -> HeaderName {
        self.inner.header()
    }

    fn api_headers(&self) -> HeaderMap {
        self.inner.api_headers()
    }

    fn origins(&self) -> Origins {
        self.inner.origins()
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        self.inner.rejection(response)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        self.inner.is_idempotent(request)
    }

    fn label(&self) -> &str {
        self.inner.label()
    }
}

impl<K> Clone for DynProvider<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K> fmt::Debug for DynProvider<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynProvider").field("label", &self.inner.label()).finish()
    }
}
