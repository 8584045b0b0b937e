//! Aera's AccessPSP, as <https://aera.readme.io/docs/accesspsp> documents it.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;

use super::check;
use super::client_credentials::{ClientCredentials, ClientCredentialsBuilder};
use super::env::{Variables, process, process_names};
use super::secret::Secret;
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{Origins, Rejection, ResponseHead};
use crate::provider::{FetchContext, TokenProvider};
use crate::token::IssuedToken;
use crate::token_endpoint::{DocumentedError, TokenClient};

const PRODUCTION: &str = "production";
const TOKEN_URL: &str = "https://accesspsp.aerahost.com/oauth/token";
const API_ORIGINS: [&str; 2] = ["https://api.aerahost.com", "https://psp.aerahost.com"];
const API_KEY: &str = "x-api-key";

/// The variables of [`AccessPspBuilder::from_env`], without their prefix.
pub(super) const VARIABLES: &[&str] =
    &["CLIENT_ID", "CLIENT_SECRET", "TOKEN_URL", "API_ORIGINS", "ENVIRONMENT", "SCOPE", "TOKEN_API_KEY", "API_KEY"];

/// The error table of the page.
const DOCUMENTED: &[DocumentedError] = &[
    DocumentedError {
        status: Some(400),
        code: "invalid_request",
        kind: ErrorKind::InvalidRequest,
        what: "rejects the token request: a parameter is missing or malformed",
        hint: "check the body fields: grant_type, client_id, client_secret, scope",
    },
    DocumentedError {
        status: Some(401),
        code: "invalid_client",
        kind: ErrorKind::InvalidCredentials,
        what: "rejects the client's credentials",
        hint: "verify the client_id and client_secret, and that they belong to this environment",
    },
    DocumentedError {
        status: Some(403),
        code: "disabled_client",
        kind: ErrorKind::InvalidCredentials,
        what: "has suspended this client's credentials",
        hint: "contact Aera support",
    },
];

/// Tokens for Aera's APIs, from AccessPSP (<https://aera.readme.io/docs/accesspsp>).
///
/// The default environment is production: the token URL `https://accesspsp.aerahost.com/oauth/token`, for the APIs at
/// `https://api.aerahost.com` and `https://psp.aerahost.com`. A token is valid for 30 minutes.
///
/// ```
/// use tower_bearer_auth::AccessPsp;
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let production = AccessPsp::new("my-client-id", "my-client-secret")?;
///
/// // Aera names the hosts of other environments during onboarding.
/// let staging = AccessPsp::builder()
///     .client_id("my-client-id")
///     .client_secret("my-client-secret")
///     .environment("staging")
///     .token_url("https://accesspsp.staging.example/oauth/token")
///     .api_origin("https://api.staging.example")
///     .api_key("my-x-api-key")
///     .build()?;
/// # drop((production, staging));
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// The page lists these errors. The fix that it gives is the error's [`hint`](Error::hint). If the body contains none
/// of the codes, the status decides.
///
/// | status | [`code`](Error::code) | [`kind`](Error::kind) |
/// | --- | --- | --- |
/// | 400 | `invalid_request` | [`ErrorKind::InvalidRequest`] |
/// | 401 | `invalid_client` | [`ErrorKind::InvalidCredentials`] |
/// | 403 | `disabled_client` | [`ErrorKind::InvalidCredentials`] |
///
/// # Rejections
///
/// A 401 of Aera's APIs means that the token has expired or was revoked, so it is a [`Rejection::InvalidToken`].
#[doc(alias = "oauth2")]
pub struct AccessPsp {
    inner: ClientCredentials,
}

impl AccessPsp {
    /// A provider for the production environment, without API keys.
    ///
    /// # Errors
    ///
    /// As [`AccessPspBuilder::build`].
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Result<Self, ConfigError> {
        Self::builder().client_id(client_id).client_secret(client_secret).build()
    }

    /// A builder for the production environment. The client id and the client secret are required.
    pub fn builder() -> AccessPspBuilder {
        AccessPspBuilder::default()
    }

    /// Reads all settings from environment variables, as [`AccessPspBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the variable or of the setting.
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        Self::builder().from_env(prefix)?.build()
    }
}

impl TokenProvider for AccessPsp {
    type Key = ();

    async fn fetch(&self, key: &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        self.inner.fetch(key, cx).await
    }

    fn api_headers(&self) -> HeaderMap {
        self.inner.api_headers()
    }

    fn origins(&self) -> Origins {
        self.inner.origins()
    }

    /// According to the page, a 401 has one meaning: fetch a new token. A challenge that a new token does not solve is
    /// not a rejection.
    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        Rejection::standard(response).map(|_| Rejection::InvalidToken)
    }

    fn label(&self) -> &str {
        self.inner.label()
    }
}

impl fmt::Debug for AccessPsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessPsp").field(&self.inner).finish()
    }
}

/// The settings of an [`AccessPsp`]. [`build`](Self::build) checks them.
#[must_use]
#[derive(Debug, Default)]
pub struct AccessPspBuilder {
    inner: ClientCredentialsBuilder,
}

impl AccessPspBuilder {
    /// Sets the client id that Aera issued.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.map(|inner| inner.client_id(id))
    }

    /// Sets the client secret: a value, or a [`Secret`] that can change while the program runs.
    pub fn client_secret(self, secret: impl Into<Secret>) -> Self {
        self.map(|inner| inner.client_secret(secret))
    }

    /// Sets the scope. The page says: "Leave empty unless instructed by Aera".
    pub fn scope(self, scope: impl Into<String>) -> Self {
        self.map(|inner| inner.scope(scope))
    }

    /// Sets the name of the environment, for an environment other than production. Also set
    /// [`token_url`](Self::token_url) and [`api_origin`](Self::api_origin).
    ///
    /// The name is the provider's [`label`](TokenProvider::label) in telemetry and `Debug` output.
    pub fn environment(self, name: impl Into<String>) -> Self {
        self.map(|inner| inner.label(name))
    }

    /// Sets the token URL of another environment.
    pub fn token_url(self, url: impl Into<String>) -> Self {
        self.map(|inner| inner.token_url(url))
    }

    /// Adds an API origin of another environment: `https://host` or `https://host:port`. `http` is accepted only for
    /// loopback addresses.
    pub fn api_origin(self, origin: impl Into<String>) -> Self {
        self.map(|inner| inner.api_origin(origin))
    }

    /// Sets the `x-api-key` of token requests: a value, or a [`Secret`] that can change while the program runs.
    ///
    /// The page does not mention the header there. Aera's gateway may require it.
    pub fn token_api_key(self, key: impl Into<Secret>) -> Self {
        self.map(|inner| inner.token_header(API_KEY, key))
    }

    /// Sets the `x-api-key` of requests to the API. It is sent only where the token is sent. Payments require it.
    ///
    /// [`build`](Self::build) loads the key, and each token request loads it again. After a change, call
    /// [`rotate`](crate::TokenSource::rotate).
    pub fn api_key(self, key: impl Into<Secret>) -> Self {
        self.map(|inner| inner.api_header(API_KEY, key))
    }

    /// Sets the lifetime of a token whose response has no usable `expires_in`, as
    /// [`ClientCredentialsBuilder::default_lifetime`]. The default is 5 minutes.
    pub fn default_lifetime(self, lifetime: Duration) -> Self {
        self.map(|inner| inner.default_lifetime(lifetime))
    }

    /// Sets how long a token request may take, from its start to the last byte of the response. The default is 10
    /// seconds.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.map(|inner| inner.timeout(timeout))
    }

    /// Sets the HTTP client for token requests: an `HttpClient`, or any service in [`TokenClient::new`]. The default is
    /// an `HttpClient` with default settings.
    pub fn http_client(self, client: impl Into<TokenClient>) -> Self {
        self.map(|inner| inner.http_client(client))
    }

    /// Reads the settings that are set in environment variables.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` | as named; required if the builder does not have them |
    /// | `PREFIX_TOKEN_URL`, `PREFIX_API_ORIGINS` (separated by commas) | those of another environment; set both or neither |
    /// | `PREFIX_ENVIRONMENT` | as named; a name other than `production` requires the two above |
    /// | `PREFIX_SCOPE` | as named |
    /// | `PREFIX_TOKEN_API_KEY`, `PREFIX_API_KEY` | `x-api-key` for token requests, and for requests to the API |
    ///
    /// Each variable is `NAME`, or `NAME_FILE` with the path of a file that contains the value. One trailing newline is
    /// removed. This method reads the files, which blocks. The files of the client secret and of the key for token
    /// requests are read again for each fetch. A variable replaces what is set before this call, and what is set after this
    /// call replaces the variable. Origins are always added.
    ///
    /// No other variable may begin with `PREFIX_`, except those that Kubernetes sets for a service whose name begins with
    /// the prefix, for example `PREFIX_SERVICE_HOST`. For two clients in one process, choose prefixes of which neither
    /// begins with the other.
    ///
    /// # Errors
    ///
    /// As [`ClientCredentialsBuilder::from_env`]. An unknown variable is an error with its name. So is an incomplete
    /// environment: this check sees only the settings that are made before this call.
    pub fn from_env(self, prefix: &str) -> Result<Self, ConfigError> {
        let variables = Variables::new(prefix, &process)?;
        variables.check_names(VARIABLES, process_names())?;
        self.read(&variables)
    }

    pub(super) fn read(self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        let mut read = Self { inner: self.inner.read(variables)? };
        if let Some(name) = variables.text("ENVIRONMENT")? {
            read = read.environment(name);
        }
        if let Some(key) = variables.secret("TOKEN_API_KEY")? {
            read = read.token_api_key(key);
        }
        if let Some(key) = variables.secret("API_KEY")? {
            read = read.api_key(key);
        }
        read.check_environment(variables)?;
        Ok(read)
    }

    /// The same check as in [`build`](Self::build), with the names of the variables.
    fn check_environment(&self, variables: &Variables<'_>) -> Result<(), ConfigError> {
        let (suffix, reason) = match (&self.inner.token_url, self.inner.api_origins.is_empty()) {
            (Some(_), true) => ("API_ORIGINS", "it is not set, but the token URL is"),
            (None, false) => ("TOKEN_URL", "it is not set, but the API origins are"),
            (None, true) if self.names_another_environment() => {
                ("ENVIRONMENT", "its token URL and API origins are missing")
            }
            _ => return Ok(()),
        };
        let both = format!("set {} and {}", variables.name("TOKEN_URL"), variables.name("API_ORIGINS"));
        Err(variables.error(suffix, reason).with_hint(both))
    }

    fn names_another_environment(&self) -> bool {
        self.inner.label.as_deref().is_some_and(|name| name != PRODUCTION)
    }

    /// Checks the settings and builds the provider. It does no I/O and needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`ClientCredentialsBuilder::build`]. The environment's name, its token URL and its API origins belong
    /// together: a name other than `production` without the other two is an error.
    pub fn build(self) -> Result<AccessPsp, ConfigError> {
        let names_another = self.names_another_environment();
        let mut settings = self.inner;
        if let Some(name) = &settings.label {
            super::check::text("environment", name)?;
        }
        if settings.token_url.is_none() && settings.api_origins.is_empty() {
            if names_another {
                return Err(ConfigError::new("environment", "its token URL and API origins are missing")
                    .with_hint("set token_url and api_origin"));
            }
            settings = settings.label(PRODUCTION).token_url(TOKEN_URL);
            for origin in API_ORIGINS {
                settings = settings.api_origin(origin);
            }
        }
        for (_, key) in &settings.token_headers {
            if let Some(key) = key.peek() {
                check::header_value("token_api_key", &key)?;
            }
        }
        for (_, key) in &settings.api_headers {
            check::header_value("api_key", &check::load_once("api_key", key)?)?;
        }
        let mut inner = settings.build()?;
        inner.token_headers.setting = "token_api_key";
        inner.api_headers.setting = "api_key";
        inner.documented = DOCUMENTED;
        Ok(AccessPsp { inner })
    }

    fn map(self, change: impl FnOnce(ClientCredentialsBuilder) -> ClientCredentialsBuilder) -> Self {
        Self { inner: change(self.inner) }
    }
}
