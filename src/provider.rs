//! The trait that a token provider implements.

mod dyn_provider;
mod fetch_context;

pub use self::dyn_provider::DynProvider;
pub use self::fetch_context::{FetchContext, FetchReason};
pub(crate) use self::fetch_context::{FetchFacts, FetchObserver, KnownTokens, StoreEvent};

use std::future::Future;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use crate::error::Error;
use crate::message::{Origins, Rejection, RequestHead, RequestKey, ResponseHead};
use crate::token::IssuedToken;

/// Fetches tokens from an issuer, and defines how requests carry them and how responses reject them.
///
/// An implementation needs `type Key` and [`fetch`](Self::fetch), which can be an `async fn`. The other methods have
/// defaults that follow the standards. [The guide](crate::guide::provider) explains each of them.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer_auth::{Error, FetchContext, IssuedToken, TokenProvider};
///
/// struct MetadataServer;
///
/// impl TokenProvider for MetadataServer {
///     type Key = ();
///
///     async fn fetch(&self, _key: &(), _cx: &FetchContext) -> Result<IssuedToken, Error> {
///         // Request the token from the issuer here.
///         Ok(IssuedToken::bearer("opaque-token")?.expires_in(Duration::from_secs(1800)))
///     }
/// }
/// ```
#[doc(alias = "oauth2")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a token provider",
    label = "it does not implement `TokenProvider`",
    note = "for a token that you have, use `FixedToken::new(token)`; for an async function, use `from_fn(function)`; for an \
            OAuth 2.0 issuer, use `ClientCredentials`"
)]
pub trait TokenProvider: Send + Sync + 'static {
    /// The identity that a token belongs to; `()` if there is only one.
    type Key: RequestKey;

    /// Requests a token from the issuer.
    ///
    /// The source runs at most one fetch per key, in a task of its own. All requests that wait for the token get the
    /// result, so the fetch receives the key and no request. `cx` has the reason for the fetch.
    ///
    /// # Cancel safety
    ///
    /// The source drops a running future in these cases, at any `.await`:
    ///
    /// - [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout) has passed.
    /// - [`rotate`](crate::TokenSource::rotate) discards the fetch. A call in the fetch itself does not.
    /// - All clones of the source and all callers that wait for the result are dropped.
    /// - The runtime shuts down.
    ///
    /// # Errors
    ///
    /// Return a transient error if a retry can succeed. Return a permanent one if someone must change a setting first
    /// ([`Error::transient`], [`Error::permanent`]). A panic counts as a transient error.
    fn fetch(&self, key: &Self::Key, cx: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send;

    /// The identity that `request` acts as. By default, [`RequestKey::from_request`] reads it.
    ///
    /// # Errors
    ///
    /// The layer does not send the request, and returns the error in a [`NotSent`](crate::NotSent).
    #[inline]
    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        Self::Key::from_request(request)
    }

    /// The header that carries the token, `Authorization` by default (RFC 6750 section 2.1). The layer calls this once,
    /// when it is created.
    fn header(&self) -> HeaderName {
        AUTHORIZATION
    }

    /// Headers that the API needs beside the token, for example an API key. The layer sets them wherever it sets the
    /// token.
    ///
    /// The layer calls this when it is created, and again after each fetch: a provider can load a new API key in its fetch. So a
    /// new key is used after [`rotate`](crate::TokenSource::rotate). A layer without such headers does not ask again.
    fn api_headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The origins of the API that accepts this provider's tokens. The layer adds its own origins to them.
    ///
    /// The layer calls this once, when it is created.
    fn origins(&self) -> Origins {
        Origins::none()
    }

    /// Whether `response` rejects the token that its request carried. `None` if it does not.
    ///
    /// The default is [`Rejection::standard`].
    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        Rejection::standard(response)
    }

    /// Whether sending `request` twice has the same effect as sending it once.
    ///
    /// The default is [`RequestHead::is_idempotent`].
    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        request.is_idempotent()
    }

    /// A short name for logs and metrics, for example `production`. It must not contain a secret.
    ///
    /// `Debug` output prints it. In telemetry it is the field and the label `provider`. The source calls this once,
    /// when it is built.
    fn label(&self) -> &str {
        ""
    }
}

impl<P: TokenProvider> TokenProvider for Arc<P> {
    type Key = P::Key;

    fn fetch(&self, key: &Self::Key, cx: &FetchContext) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        P::fetch(self, key, cx)
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        P::key(self, request)
    }

    fn header(&self) -> HeaderName {
        P::header(self)
    }

    fn api_headers(&self) -> HeaderMap {
        P::api_headers(self)
    }

    fn origins(&self) -> Origins {
        P::origins(self)
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        P::rejection(self, response)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        P::is_idempotent(self, request)
    }

    fn label(&self) -> &str {
        P::label(self)
    }
}
