//! RFC 6749 section 4.4: a client that acts for itself.

use std::fmt;

use http::{HeaderMap, HeaderName};
use secrecy::ExposeSecret as _;

use super::authentication::Authentication;
use super::check;
use super::client_credentials_builder::ClientCredentialsBuilder;
use crate::api::Origins;
use crate::error::Error;
use crate::exchange::{Documented, TokenEndpoint, TokenRequest, require_runtime};
use crate::provider::{Secret, TokenProvider};
use crate::token::IssuedToken;

/// Tokens by the client credentials grant (RFC 6749 section 4.4), from any issuer.
///
/// The client id and secret go in the form of a `POST` (`client_secret_post`, RFC 6749 section 2.3.1). What the answer
/// has to look like is on [`Answer::bearer_token`](crate::exchange::Answer::bearer_token).
///
/// ```
/// use tower_bearer_auth::ClientCredentials;
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let provider = ClientCredentials::builder()
///     .token_url("https://issuer.example/oauth/token")
///     .client_id("orders")
///     .client_secret("correct horse battery staple")
///     .api_origin("https://api.example")
///     .build()?;
/// # drop(provider);
/// # Ok(()) }
/// ```
///
/// `Debug` shows the environment's name and the origins.
pub struct ClientCredentials {
    pub(super) endpoint: TokenEndpoint,
    pub(super) client_id: String,
    pub(super) authentication: Authentication,
    pub(super) scope: Option<String>,
    pub(super) environment: String,
    pub(super) origins: Origins,
    pub(super) token_headers: Vec<(HeaderName, Secret)>,
    pub(super) api_headers: HeaderMap,
    pub(super) documented: &'static [Documented],
}

impl ClientCredentials {
    /// Starts with nothing set; the token URL, the API's origins, the client id and its secret have to be.
    pub fn builder() -> ClientCredentialsBuilder {
        ClientCredentialsBuilder::default()
    }

    /// Reads all settings out of the environment, as [`ClientCredentialsBuilder::from_env`] does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) that names the variable, or the setting.
    pub fn from_env(prefix: &str) -> Result<Self, Error> {
        Self::builder().from_env(prefix)?.build()
    }

    async fn request(&self) -> Result<TokenRequest, Error> {
        let proof = self.authentication.fields(&self.client_id).await?;
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(proof.iter().map(|(name, value)| (*name, value.expose_secret())));
        if let Some(scope) = &self.scope {
            fields.push(("scope", scope));
        }
        let mut request = TokenRequest::form(&fields);
        for (name, value) in &self.token_headers {
            let value = check::header_value("token_header", &value.load().await?)?;
            request = request.header(name.clone(), value);
        }
        Ok(request)
    }
}

impl TokenProvider for ClientCredentials {
    type Key = ();

    async fn fetch(&self, (): &()) -> Result<IssuedToken, Error> {
        // Before the secret is loaded: reading a file needs the runtime as well.
        require_runtime()?;
        let request = self.request().await?;
        self.endpoint.call(request).await?.bearer_token_or(self.documented)
    }

    fn api_headers(&self) -> HeaderMap {
        self.api_headers.clone()
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    fn environment(&self) -> &str {
        &self.environment
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("environment", &self.environment)
            .field("issuer", &self.endpoint.origin())
            .field("origins", &self.origins)
            .field("authentication", &self.authentication)
            .finish_non_exhaustive()
    }
}
