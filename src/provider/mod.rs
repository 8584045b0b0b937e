//! What a provider is, and the two simplest ones.

mod secret;

pub use self::secret::Secret;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Method};

use crate::api::{Origins, Refusal, RequestHead, RequestKey, ResponseHead};
use crate::error::Error;
use crate::token::IssuedToken;

/// Fetches tokens from an issuer, and says how the API on the other side carries and refuses them.
///
/// `type Key = ()` and [`fetch`](Self::fetch) make a provider; implementers write `async fn fetch`. The other methods
/// have defaults that follow the standards. [The guide](crate::guide::provider) goes through them.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer_auth::{Error, IssuedToken, TokenProvider};
///
/// struct MetadataServer;
///
/// impl TokenProvider for MetadataServer {
///     type Key = ();
///
///     async fn fetch(&self, _key: &()) -> Result<IssuedToken, Error> {
///         // .. ask the issuer ..
///         Ok(IssuedToken::bearer("opaque-token")?.expires_in(Duration::from_secs(1800)))
///     }
/// }
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// Which identity a token belongs to; `()` where there is only one.
    type Key: RequestKey;

    /// Asks the issuer for a token.
    ///
    /// It runs in a task of its own, at most once at a time for each key, and knows nothing of the requests that wait
    /// for it. It is dropped when nobody needs its result any more, and after the source's
    /// [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::transient`] where another try may succeed, [`Error::permanent`] where someone has to change a setting
    /// first. A panic is a transient error.
    fn fetch(&self, key: &Self::Key) -> impl Future<Output = Result<IssuedToken, Error>> + Send;

    /// Which identity `request` acts as.
    ///
    /// # Errors
    ///
    /// Whatever it returns is the request's outcome, before any I/O.
    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        Self::Key::from_request(request)
    }

    /// The header that carries the token (RFC 6750 section 2.1: `Authorization`). Asked once, when a layer is made.
    fn header(&self) -> HeaderName {
        AUTHORIZATION
    }

    /// Further headers that the API wants with the token, an API key for instance. They go where the token goes.
    ///
    /// Asked once, when a layer is made: [`rotate`](crate::TokenSource::rotate) does not change them.
    fn api_headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// The origins of the API that this provider's tokens are for. Those of the layer are added to them.
    ///
    /// Asked once, when a layer is made.
    fn origins(&self) -> Origins {
        Origins::none()
    }

    /// What a response says of the token that its request carried.
    fn refusal(&self, response: &ResponseHead<'_>) -> Refusal {
        Refusal::standard(response)
    }

    /// Whether sending `request` twice does no more than sending it once.
    ///
    /// By default the idempotent methods of RFC 9110 section 9.2.2, and any request with an `Idempotency-Key`.
    fn idempotent(&self, request: &RequestHead<'_>) -> bool {
        is_idempotent(request)
    }

    /// Where the tokens come from and are for, as `Debug` output shows it: `production`, say. Never a secret.
    ///
    /// It is in every event and a label of every metric, for which it is asked once, when a source is built.
    fn environment(&self) -> &str {
        ""
    }
}

impl<P: TokenProvider> TokenProvider for Arc<P> {
    type Key = P::Key;

    fn fetch(&self, key: &Self::Key) -> impl Future<Output = Result<IssuedToken, Error>> + Send {
        P::fetch(self, key)
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

    fn refusal(&self, response: &ResponseHead<'_>) -> Refusal {
        P::refusal(self, response)
    }

    fn idempotent(&self, request: &RequestHead<'_>) -> bool {
        P::idempotent(self, request)
    }

    fn environment(&self) -> &str {
        P::environment(self)
    }
}

/// The default of [`TokenProvider::idempotent`], for providers that add to it.
pub(crate) fn is_idempotent(request: &RequestHead<'_>) -> bool {
    let by_method = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    by_method || request.headers().get("idempotency-key").is_some_and(|key| !key.is_empty())
}

/// A provider made of a function, for one identity.
///
/// ```
/// use tower_bearer_auth::{IssuedToken, TokenSource, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
/// let source = TokenSource::new(from_fn(|| async { IssuedToken::bearer("opaque-token") }));
/// assert_eq!(source.token().await?.expose_secret(), "opaque-token");
/// # Ok(()) }
/// ```
pub fn from_fn<F, Fut>(fetch: F) -> FromFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    FromFn { fetch }
}

/// The provider that [`from_fn`] makes.
#[derive(Clone)]
pub struct FromFn<F> {
    fetch: F,
}

impl<F, Fut> TokenProvider for FromFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    type Key = ();

    async fn fetch(&self, (): &()) -> Result<IssuedToken, Error> {
        (self.fetch)().await
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

/// A token that is known beforehand, for tests of your own service.
#[derive(Clone, Debug)]
pub struct Static {
    token: IssuedToken,
}

impl Static {
    /// A provider that always hands out `token`.
    ///
    /// # Errors
    ///
    /// As [`IssuedToken::bearer`].
    pub fn new(token: impl AsRef<str>) -> Result<Self, Error> {
        let token = IssuedToken::bearer(token)?.expires_in(Duration::from_secs(24 * 60 * 60));
        Ok(Self { token })
    }
}

impl TokenProvider for Static {
    type Key = ();

    async fn fetch(&self, (): &()) -> Result<IssuedToken, Error> {
        Ok(self.token.clone())
    }
}
