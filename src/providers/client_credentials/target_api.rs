//! The key of a provider with one client for many APIs.

use std::fmt;
use std::sync::Arc;

use super::parameters::Parameters;
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{RequestHead, RequestKey};

/// The API that a request calls: the scope, the audience and the resources of its token.
///
/// It is the key of a provider that [`build_keyed`](crate::ClientCredentialsBuilder::build_keyed) returns. Put it into the
/// extensions of each request. Cloning shares it, so make each one once:
///
/// ```
/// use tower_bearer_auth::{ClientCredentials, TargetApi, TokenSource};
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let provider = ClientCredentials::builder()
///     .token_url("https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token")
///     .client_id("orders")
///     .client_secret("correct horse battery staple")
///     .api_origin("https://graph.microsoft.com")
///     .api_origin("https://vault.azure.net")
///     .build_keyed()?;
/// let source = TokenSource::new(provider);
///
/// let graph = TargetApi::new().scope("https://graph.microsoft.com/.default");
/// let request = http::Request::get("https://graph.microsoft.com/v1.0/users").extension(graph.clone()).body(());
/// # drop((source, request));
/// # Ok(()) }
/// ```
///
/// # Which requests share a token
///
/// Requests with equal values share a token. Others never do. The scope is a set: neither the order of its names nor a
/// repeated name makes another value. The order of resources does.
///
/// # What is requested
///
/// What is set here replaces the same setting of the builder: the scope, the audience, or all resources. What is not set, and
/// every additional parameter, is the builder's. `TargetApi::new()` names the builder's own scope, audience and resources.
///
/// # Values from outside
///
/// Choose the value from those that your program knows. Each new value costs a token request and an entry in the cache, and
/// the issuer decides which token it gets. A caller who can invent values cannot evict tokens that are in use (see
/// [`max_keys`](crate::TokenSourceBuilder::max_keys)), but can use up the issuer's rate limit.
///
/// # Debug
///
/// `Debug` prints the scope, and the audience and the resources without their queries. Logs contain it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct TargetApi(Arc<Parameters>);

impl TargetApi {
    /// The scope, the audience and the resources of the builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the scope: names separated by spaces (RFC 6749 section 3.3). They are sent in alphabetical order, each once.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        let mut names: Vec<&str> = scope.as_ref().split(' ').filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        Arc::make_mut(&mut self.0).scope = Some(names.join(" "));
        self
    }

    /// Sets the audience, as [`ClientCredentialsBuilder::audience`](crate::ClientCredentialsBuilder::audience).
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).audience = Some(audience.into());
        self
    }

    /// Adds a resource (RFC 8707 section 2), as
    /// [`ClientCredentialsBuilder::resource`](crate::ClientCredentialsBuilder::resource).
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.0).resources.push(uri.into());
        self
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.0
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.0.check()
    }
}

impl RequestKey for TargetApi {
    /// Reads the value from the extensions of the request. A request without one is an error. It does not get the token of the
    /// builder's own scope by default.
    fn from_request(request: &RequestHead<'_>) -> Result<Self, Error> {
        let target = request.extensions().get::<Self>().cloned().ok_or_else(|| {
            Error::new(ErrorKind::MissingKey, "the request does not name the API that it calls").with_hint(
                "insert a TargetApi into the extensions of the request; TargetApi::new() stands for the builder's settings",
            )
        })?;
        // An invalid value costs no token request, and no entry in the cache.
        target.check()?;
        Ok(target)
    }
}

impl fmt::Debug for TargetApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print_target(&mut f.debug_struct("TargetApi")).finish()
    }
}
