//! The settings of the middleware.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tower_layer::Layer;

use super::replay::{Empty, Mode};
use super::service::BearerAuth;
use crate::error::ConfigError;
use crate::message::Origins;
use crate::provider::TokenProvider;
use crate::source::TokenSource;

/// Puts a bearer token on every request to an allowed origin, and renews it when it expires or is refused.
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
/// All services that one layer makes, and all clones of it, share one cache of tokens.
///
/// # What it needs
///
/// The inner service is `Clone` and takes `http::Request<B>`; its answers are `http::Response<T>` where `T` is a body. `B` is
/// a body that is `Default`, for the default setting of [`bodies`](Self::bodies); with [`replay::Off`](crate::replay::Off) it
/// may be anything, `hyper::body::Incoming` for instance. The response future is `Send` if the inner service, its
/// future and both bodies are.
///
/// # Where it goes in a stack
///
/// | layer | above this one | below this one |
/// | --- | --- | --- |
/// | redirect followers | every hop is checked against the allowed origins | **leak**: a follower repeats the stamped headers to wherever it is sent; tower-http's and reqwest's take off `Authorization` at another origin and know no other header of a [`TokenProvider`] |
/// | `Timeout` | bounds the whole: waiting for a token, both sendings | bounds each sending |
/// | `Retry` | each try may heal once | tries again with the same token |
/// | `ConcurrencyLimit`, `Buffer` | a permit is held through a heal | a permit is held while a request waits for its first token, and given back before a second sending asks for the next one |
/// | `RateLimit` | a heal counts once | each sending counts |
/// | `LoadShed` | a heal is one call | a second sending may be shed; the caller gets that error |
///
/// So put redirects above, and tell reqwest to follow none (`redirect::Policy::none()`). A provider must not need a permit of
/// the limit that its own requests hold: give it a client of its own, or its token requests end by a timeout.
#[must_use]
pub struct BearerAuthLayer<P: TokenProvider, R = Empty> {
    shared: Arc<Shared<P>>,
    bodies: R,
}

/// What does not change from request to request.
pub(super) struct Shared<P: TokenProvider> {
    pub(super) source: TokenSource<P>,
    pub(super) header: HeaderName,
    pub(super) api_headers: HeaderMap,
    pub(super) origins: Origins,
    pub(super) when: Mode,
    pub(super) if_not_present: bool,
    pub(super) audit: bool,
}

impl<P: TokenProvider> BearerAuthLayer<P> {
    /// A layer with a token source of its own. The provider's origins are allowed from the start.
    pub fn new(provider: P) -> Self {
        TokenSource::new(provider).layer()
    }
}

impl<P: TokenProvider> TokenSource<P> {
    /// A layer over this source: several clients, one cache.
    pub fn layer(&self) -> BearerAuthLayer<P> {
        let provider = self.provider();
        let mut api_headers = provider.api_headers();
        api_headers.remove(provider.header());
        api_headers.values_mut().for_each(|value| value.set_sensitive(true));
        let shared = Shared {
            source: self.clone(),
            header: provider.header(),
            api_headers,
            origins: provider.origins(),
            when: Mode::default(),
            if_not_present: false,
            audit: false,
        };
        BearerAuthLayer { shared: Arc::new(shared), bodies: Empty }
    }
}

impl<P: TokenProvider, R> BearerAuthLayer<P, R> {
    /// Allows an origin, `https://host` or `https://host:port`, to receive the token, beside those of the provider.
    ///
    /// A request to any other origin goes on without the token. A request whose URI is a path alone is always stamped:
    /// the stack below chose the host.
    ///
    /// # Errors
    ///
    /// As [`Origins::allow`].
    pub fn allow_origin(self, origin: &str) -> Result<Self, ConfigError> {
        let allowed = Origins::none().allow(origin)?;
        Ok(self.change(|shared| shared.origins.merge(allowed)))
    }

    /// Allows an origin to receive the token in clear text, where anyone on the network can read and use it.
    ///
    /// # Errors
    ///
    /// As [`Origins::danger_allow_http`].
    pub fn danger_allow_http(self, origin: &str) -> Result<Self, ConfigError> {
        let allowed = Origins::none().danger_allow_http(origin)?;
        Ok(self.change(|shared| shared.origins.merge(allowed)))
    }

    /// How a copy of a request's body is kept for a second sending; [`Empty`] by default.
    pub fn bodies<R2>(self, bodies: R2) -> BearerAuthLayer<P, R2> {
        BearerAuthLayer { shared: self.shared, bodies }
    }

    /// Whether a refused request may be sent again; [`Mode::Safe`] by default.
    pub fn replay(self, when: Mode) -> Self {
        self.change(|shared| shared.when = when)
    }

    /// Leaves a request alone that has the token's header already: it goes on as it is, and a refusal of it is not
    /// looked at. By default such a header is replaced, so that an inbound credential cannot leak upstream.
    pub fn if_not_present(self) -> Self {
        self.change(|shared| shared.if_not_present = true)
    }

    /// Puts an [`Audit`](crate::Audit) into the extensions of every response. By default only responses that were rejected or
    /// replayed have one.
    pub fn audit_all(self) -> Self {
        self.change(|shared| shared.audit = true)
    }

    /// The source that this layer asks for tokens.
    #[must_use]
    pub fn source(&self) -> &TokenSource<P> {
        &self.shared.source
    }

    fn change(mut self, change: impl FnOnce(&mut Shared<P>)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S, P: TokenProvider, R: Clone> Layer<S> for BearerAuthLayer<P, R> {
    type Service = BearerAuth<S, P, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuth::new(inner, Arc::clone(&self.shared), self.bodies.clone())
    }
}

impl<P: TokenProvider, R: Clone> Clone for BearerAuthLayer<P, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), bodies: self.bodies.clone() }
    }
}

impl<P: TokenProvider> Clone for Shared<P> {
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            header: self.header.clone(),
            api_headers: self.api_headers.clone(),
            origins: self.origins.clone(),
            when: self.when,
            if_not_present: self.if_not_present,
            audit: self.audit,
        }
    }
}

impl<P: TokenProvider> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("source", &self.source)
            .field("header", &self.header)
            .field("origins", &self.origins)
            .field("replay", &self.when)
            .field("if_not_present", &self.if_not_present)
            .field("audit", &self.audit)
            .finish_non_exhaustive()
    }
}

impl<P: TokenProvider, R: fmt::Debug> fmt::Debug for BearerAuthLayer<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthLayer").field("settings", &self.shared).field("bodies", &self.bodies).finish()
    }
}
