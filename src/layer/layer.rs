//! The layer and its builder methods.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::replay::{Empty, Mode};
use super::service::BearerAuth;
use super::settings::{OnForeignOrigin, Settings};
use crate::error::ConfigError;
use crate::message::{Origins, Rejection, ResponseHead};
use crate::provider::TokenProvider;
use crate::source::TokenSource;

/// Stamps a bearer token on every request to an allowed origin. Fetches a new token before the old one expires, and
/// after a 401.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_bearer_auth::{BearerAuthLayer, BoxError, FixedToken};
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # async fn send(_: Request<Full<bytes::Bytes>>) -> Result<Response<Full<bytes::Bytes>>, BoxError> {
/// #     Ok(Response::default())
/// # }
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let layer = BearerAuthLayer::new(FixedToken::new("opaque-token")?).allow_origin("https://api.example.com")?;
/// let client = ServiceBuilder::new().layer(layer).service(tower::service_fn(send));
/// # let _: tower_bearer_auth::BearerAuth<_, _> = client;
/// # Ok(()) }
/// ```
///
/// All clones of a layer and all services that they make share one token source, and so one cache of tokens.
///
/// # Requirements
///
/// - The inner service is `Clone` and takes `http::Request<B>`.
/// - Its response is `http::Response<T>`, and `T` implements `http_body::Body`.
/// - Its error converts to [`BoxError`](crate::BoxError).
/// - With the default setting of [`bodies`](Self::bodies), `B` implements `Body` and `Default`. With
///   [`replay::Off`](crate::replay::Off), `B` can be any type, for example `hyper::body::Incoming`.
///
/// The response future is `Send` if the inner service, its future and both body types are.
///
/// # Where it goes in a stack
///
/// | other layer | outside of this layer | inside of this layer |
/// | --- | --- | --- |
/// | one that follows redirects | recommended: each hop is checked against the allowed origins | **can leak the token**: it sends the stamped headers to the target of the redirect. On a cross-origin redirect, tower-http and reqwest remove `Authorization`, but no other [`header`](TokenProvider::header) and no [`api_headers`](TokenProvider::api_headers) |
/// | `Timeout` | limits the whole call: the wait for a token, the first send and the replay | limits each send |
/// | `Retry` | each attempt can include one replay | repeats the request with the same token |
/// | `ConcurrencyLimit`, `Buffer` | a call holds its permit during the replay too | a call holds its permit while it waits for its first token; a rejected call releases its permit, and the replay requests a new one |
/// | `RateLimit` | a call counts once | each send counts |
/// | `LoadShed` | a call counts once | a replay can be shed; the caller then gets that error |
///
/// If reqwest is the inner service, disable its redirects with `redirect::Policy::none()`.
///
/// Give the provider an HTTP client of its own. If token requests and stamped requests share a limit, a stamped request
/// can hold the last permit while it waits for its token. The token request then waits for that permit, until the fetch
/// times out.
#[must_use = "layers do nothing unless you add them to a service"]
#[doc(alias("oauth2", "401", "refresh", "retry"))]
pub struct BearerAuthLayer<P: TokenProvider, R = Empty> {
    settings: Arc<Settings<P>>,
    bodies: R,
}

impl<P: TokenProvider> BearerAuthLayer<P> {
    /// A layer with a new token source. The provider's own origins are allowed.
    pub fn new(provider: P) -> Self {
        TokenSource::new(provider).layer()
    }
}

impl<P: TokenProvider> TokenSource<P> {
    /// A layer that uses this source. Several layers can share one source, and so one cache of tokens.
    pub fn layer(&self) -> BearerAuthLayer<P> {
        BearerAuthLayer { settings: Arc::new(Settings::new(self)), bodies: Empty }
    }
}

impl<P: TokenProvider, R> BearerAuthLayer<P, R> {
    /// Allows an origin to receive the token: `https://host` or `https://host:port`. `http` is accepted only for loopback
    /// addresses. The provider's own origins stay allowed.
    ///
    /// A request to any other origin is sent without the token, unless [`on_foreign_origin`](Self::on_foreign_origin) says
    /// otherwise. A request whose URI has no host is stamped, because the service below chooses the host.
    ///
    /// # Errors
    ///
    /// As for [`Origins::allow`].
    pub fn allow_origin(self, origin: &str) -> Result<Self, ConfigError> {
        let allowed = Origins::none().allow(origin)?;
        Ok(self.change(|settings| settings.origins.merge(allowed)))
    }

    /// Allows an origin to receive the token in clear text. Anyone who can read the network traffic can use the token.
    ///
    /// This is for a network that encrypts below HTTP, for example a service mesh.
    ///
    /// # Errors
    ///
    /// As for [`Origins::danger_allow_http`].
    pub fn danger_allow_http(self, origin: &str) -> Result<Self, ConfigError> {
        let allowed = Origins::none().danger_allow_http(origin)?;
        Ok(self.change(|settings| settings.origins.merge(allowed)))
    }

    /// What the layer does with a request to an origin that is not allowed. The default is
    /// [`OnForeignOrigin::PassUnstamped`].
    pub fn on_foreign_origin(self, action: OnForeignOrigin) -> Self {
        self.change(|settings| settings.on_foreign_origin = action)
    }

    /// How the layer keeps request bodies for a replay. The default is [`Empty`].
    #[doc(alias("body", "retry"))]
    pub fn bodies<R2>(self, bodies: R2) -> BearerAuthLayer<P, R2> {
        BearerAuthLayer { settings: self.settings, bodies }
    }

    /// When the layer replays a rejected request. The default is [`Mode::Safe`].
    #[doc(alias = "retry")]
    pub fn replay(self, mode: Mode) -> Self {
        self.change(|settings| settings.mode = mode)
    }

    /// Does not stamp a request that already has the token header. The layer sends such a request unchanged, and the
    /// caller gets its 401.
    ///
    /// By default the layer replaces the header, so that the credential of an incoming request cannot reach the API. If
    /// the token goes into another [`header`](TokenProvider::header) than `Authorization`, the layer removes the caller's
    /// `Authorization` for the same reason. With this setting it keeps it.
    ///
    /// A `TRACE` request is sent without either header, with this setting too.
    pub fn if_not_present(self) -> Self {
        self.change(|settings| settings.if_not_present = true)
    }

    /// Decides which responses reject the token, by their status and headers.
    ///
    /// The function is for an API that rejects tokens with another status than 401. `None` means that the provider's
    /// [`rejection`](TokenProvider::rejection) decides. A [`mark`](Rejection::mark) of a layer below takes precedence over
    /// both. A second call replaces the function.
    ///
    /// The layer calls the function for each response to a stamped request, so it must be fast and must not block.
    ///
    /// Return [`Rejection::InvalidToken`] only if the API's documentation says that it did not apply the request. The layer
    /// then replays it whatever its method.
    ///
    /// ```
    /// use tower_bearer_auth::{BearerAuthLayer, FixedToken, Rejection};
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let layer = BearerAuthLayer::new(FixedToken::new("opaque-token")?)
    ///     .allow_origin("https://api.example.com")?
    ///     .rejected_when(|response| match response.status().as_u16() {
    ///         // This API also sends 403 if the client lacks a permission. Then it has no such header.
    ///         403 if response.headers().contains_key("x-token-expired") => Some(Rejection::InvalidToken),
    ///         419 | 501 => Some(Rejection::Unspecified),
    ///         _ => None,
    ///     });
    /// # drop(layer);
    /// # Ok(()) }
    /// ```
    #[doc(alias("403", "419", "501"))]
    pub fn rejected_when<F>(self, function: F) -> Self
    where
        F: Fn(&ResponseHead<'_>) -> Option<Rejection> + Send + Sync + 'static,
    {
        self.change(|settings| settings.rejected_when = Some(Arc::new(function)))
    }

    /// Adds an [`Audit`](crate::Audit) to the extensions of every response. By default only responses that were
    /// rejected or replayed have one.
    pub fn audit_all(self) -> Self {
        self.change(|settings| settings.audit_all = true)
    }

    /// The token source.
    #[must_use]
    pub fn source(&self) -> &TokenSource<P> {
        &self.settings.source
    }

    fn change(mut self, change: impl FnOnce(&mut Settings<P>)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl<S, P: TokenProvider, R: Clone> Layer<S> for BearerAuthLayer<P, R> {
    type Service = BearerAuth<S, P, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuth::new(inner, Arc::clone(&self.settings), self.bodies.clone())
    }
}

impl<P: TokenProvider, R: Clone> Clone for BearerAuthLayer<P, R> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), bodies: self.bodies.clone() }
    }
}

impl<P: TokenProvider, R: fmt::Debug> fmt::Debug for BearerAuthLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer").field("settings", &self.settings).field("bodies", &self.bodies).finish()
    }
}
