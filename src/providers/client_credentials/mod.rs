//! RFC 6749 section 4.4: a client that acts for itself.

#[cfg(feature = "private-key-jwt")]
mod assertion;
mod authentication;
mod basic;
mod builder;
mod discovery;
mod parameters;
mod variables;

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use secrecy::ExposeSecret as _;

#[cfg(feature = "private-key-jwt")]
pub use self::assertion::{PrivateKeyJwt, SigningAlgorithm};
use self::authentication::Authentication;
pub use self::basic::BasicEncoding;
pub use self::builder::ClientCredentialsBuilder;
use self::parameters::Parameters;
use super::check;
use crate::error::{ConfigError, Error};
use crate::message::Origins;
use crate::provider::{FetchContext, TokenProvider};
use crate::providers::Secret;
use crate::token::IssuedToken;
use crate::token_endpoint::{Documented, TokenEndpoint, TokenRequest};

/// Tokens by the client credentials grant (RFC 6749 section 4.4), from any issuer.
///
/// The request is a form, sent by `POST`. What the answer has to look like is on
/// [`EndpointResponse::bearer_token`](crate::token_endpoint::EndpointResponse::bearer_token).
///
/// # How the client proves who it is
///
/// | method (RFC 8414 section 2) | setting | what is sent |
/// | --- | --- | --- |
/// | `client_secret_post` | [`client_secret`](ClientCredentialsBuilder::client_secret) | id and secret in the form (RFC 6749 section 2.3.1) |
/// | `client_secret_basic` | the same, and [`client_secret_basic`](ClientCredentialsBuilder::client_secret_basic) | both in an `Authorization` header, encoded as [`BasicEncoding`] says |
/// | `private_key_jwt` | `private_key_jwt`, behind the feature of that name | an assertion that the client signed, in the form (RFC 7523 section 2.2) |
/// | `tls_client_auth`, `self_signed_tls_client_auth` | [`mutual_tls`](ClientCredentialsBuilder::mutual_tls) | the id in the form; the client's certificate says the rest (RFC 8705 section 2) |
///
/// A provider uses one of them.
///
/// # Which tokens are the same
///
/// A token is what one provider asked for: its client, scope, resources, audience and further parameters are fixed when it
/// is built. A cache belongs to one [`TokenSource`](crate::TokenSource) and its clones, and two sources share nothing, not
/// even where their settings are equal. An API that wants another audience gets a source of its own.
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
/// `Debug` shows the environment's name, the origins and what the tokens are asked for: scope, resources, audience, and of
/// further parameters the names.
pub struct ClientCredentials {
    pub(in crate::providers) endpoint: TokenEndpoint,
    pub(in crate::providers) client_id: String,
    authentication: Authentication,
    pub(in crate::providers) parameters: Parameters,
    pub(in crate::providers) environment: String,
    pub(in crate::providers) origins: Origins,
    pub(in crate::providers) token_headers: Vec<(HeaderName, Secret)>,
    pub(in crate::providers) api_headers: HeaderMap,
    pub(in crate::providers) documented: &'static [Documented],
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
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        Self::builder().from_env(prefix)?.build()
    }

    async fn request(&self) -> Result<TokenRequest, Error> {
        let proof = self.authentication.proof(&self.client_id).await?;
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(proof.fields.iter().map(|(name, value)| (*name, value.expose_secret())));
        fields.extend(self.parameters.fields());
        let mut request = TokenRequest::form(&fields);
        if let Some(value) = proof.header {
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in &self.token_headers {
            let value = check::header_value("token_header", &value.load().await?)?;
            request = request.header(name.clone(), value);
        }
        Ok(request)
    }
}

impl TokenProvider for ClientCredentials {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        // Before the secret is loaded: reading a file needs the runtime as well.
        crate::rt::current()?;
        let request = self.request().await?;
        self.endpoint.call(request).await?.bearer_token_or(self.documented)
    }

    fn api_headers(&self) -> HeaderMap {
        self.api_headers.clone()
    }

    fn origins(&self) -> Origins {
        self.origins.clone()
    }

    fn label(&self) -> &str {
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
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
