//! Aera's AccessPSP, as <https://aera.readme.io/docs/accesspsp> documents it.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use secrecy::SecretString;

use super::client_credentials::{ClientCredentials, ClientCredentialsBuilder};
use super::env::{Variables, process};
use crate::error::{ConfigError, Error, ErrorKind};
use crate::message::{Origins, Rejection, ResponseHead};
use crate::provider::{FetchContext, TokenProvider};
use crate::providers::Secret;
use crate::token::IssuedToken;
use crate::token_endpoint::{Documented, TokenClient};

const PRODUCTION: &str = "production";
const TOKEN_URL: &str = "https://accesspsp.aerahost.com/oauth/token";
const API_ORIGINS: [&str; 2] = ["https://api.aerahost.com", "https://psp.aerahost.com"];
const API_KEY: &str = "x-api-key";

/// The page's error table.
const DOCUMENTED: &[Documented] = &[
    Documented {
        status: 400,
        code: "invalid_request",
        kind: ErrorKind::InvalidRequest,
        what: "finds the token request malformed, or misses a parameter",
        hint: "check the body fields: grant_type, client_id, client_secret, scope",
    },
    Documented {
        status: 401,
        code: "invalid_client",
        kind: ErrorKind::InvalidCredentials,
        what: "does not accept the client's credentials",
        hint: "verify the client_id and client_secret, and that they belong to this environment",
    },
    Documented {
        status: 403,
        code: "disabled_client",
        kind: ErrorKind::InvalidCredentials,
        what: "has suspended this client's credentials",
        hint: "contact Aera support",
    },
];

/// Tokens for Aera's APIs, from AccessPSP (<https://aera.readme.io/docs/accesspsp>).
///
/// The environment is production unless the builder says otherwise: `https://accesspsp.aerahost.com/oauth/token`, for
/// `https://api.aerahost.com` and `https://psp.aerahost.com`. Tokens live for 30 minutes.
///
/// ```
/// use tower_bearer_auth::AccessPsp;
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let production = AccessPsp::new("my-client-id", "my-client-secret")?;
///
/// // Aera tells the hosts of other environments at onboarding.
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
/// Its errors are those that the page lists, each with the page's fix as its [`hint`](Error::hint): `invalid_request`
/// (400) is [`ErrorKind::InvalidRequest`], `invalid_client` (401) [`ErrorKind::InvalidCredentials`], `disabled_client`
/// (403) [`ErrorKind::InvalidCredentials`] too, with its [`code`](Error::code); the status decides where the body has no such code. The APIs' 401 means that the token
/// has expired or was withdrawn, and counts as [`Rejection::InvalidToken`].
pub struct AccessPsp {
    inner: ClientCredentials,
}

impl AccessPsp {
    /// The production environment, without API keys.
    ///
    /// # Errors
    ///
    /// As [`AccessPspBuilder::build`].
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Result<Self, ConfigError> {
        Self::builder().client_id(client_id).client_secret(client_secret).build()
    }

    /// Starts with the production environment; the client id and its secret have to be set.
    pub fn builder() -> AccessPspBuilder {
        AccessPspBuilder::default()
    }

    /// Reads all settings out of the environment, as [`AccessPspBuilder::from_env`] does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] that names the variable, or the setting.
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

    /// The page gives one meaning to a 401: fetch a new token. Challenges that a new one would not help stand.
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

/// Settings of an [`AccessPsp`]. They are checked in [`build`](Self::build).
#[must_use]
#[derive(Debug, Default)]
pub struct AccessPspBuilder {
    inner: ClientCredentialsBuilder,
}

impl AccessPspBuilder {
    /// Sets the client's id, as Aera issued it.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.map(|inner| inner.client_id(id))
    }

    /// Sets the client's secret: a value, or a [`Secret`] that rotates.
    pub fn client_secret(self, secret: impl Into<Secret>) -> Self {
        self.map(|inner| inner.client_secret(secret))
    }

    /// Sets the scope. The page: "Leave empty unless instructed by Aera".
    pub fn scope(self, scope: impl Into<String>) -> Self {
        self.map(|inner| inner.scope(scope))
    }

    /// Names another environment than production. [`token_url`](Self::token_url) and [`api_origin`](Self::api_origin) go
    /// with it.
    pub fn environment(self, name: impl Into<String>) -> Self {
        self.map(|inner| inner.environment(name))
    }

    /// Sets the token URL of another environment.
    pub fn token_url(self, url: impl Into<String>) -> Self {
        self.map(|inner| inner.token_url(url))
    }

    /// Adds an API origin of another environment, as `https://host` or `https://host:port`.
    pub fn api_origin(self, origin: impl Into<String>) -> Self {
        self.map(|inner| inner.api_origin(origin))
    }

    /// Sends `x-api-key` with the token call. The page shows none there; Aera's gateway may want it.
    pub fn token_api_key(self, key: impl Into<Secret>) -> Self {
        self.map(|inner| inner.token_header(API_KEY, key))
    }

    /// Sends `x-api-key` with the API's requests, where the token goes and nowhere else. Payments want it.
    pub fn api_key(self, key: impl Into<SecretString>) -> Self {
        self.map(|inner| inner.api_header(API_KEY, key))
    }

    /// Sets how long a token call may take, from its start until the answer's last byte. 10 seconds by default.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.map(|inner| inner.timeout(timeout))
    }

    /// Sets the HTTP service for the token call, as
    /// [`TokenClient::new`](crate::token_endpoint::TokenClient::new) takes it. By default, this crate's own client.
    pub fn http_client(self, client: impl Into<TokenClient>) -> Self {
        self.map(|inner| inner.http_client(client))
    }

    /// Takes those settings that are in the environment.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` | as named; needed where the builder has none |
    /// | `PREFIX_TOKEN_URL`, `PREFIX_API_ORIGINS` (with commas between them) | another environment's; both or neither |
    /// | `PREFIX_ENVIRONMENT`, `PREFIX_SCOPE` | as named |
    /// | `PREFIX_TOKEN_API_KEY`, `PREFIX_API_KEY` | `x-api-key` for the token call and for the API |
    ///
    /// Each may be given as `NAME`, or as `NAME_FILE`, the path of a file that holds the value; one trailing newline is
    /// removed. Files are read here, which blocks; those of the client secret and of the token call's key are read again
    /// at every fetch.
    ///
    /// # Errors
    ///
    /// As [`ClientCredentialsBuilder::from_env`].
    pub fn from_env(self, prefix: &str) -> Result<Self, ConfigError> {
        let variables = Variables::new(prefix, &process)?;
        let mut read = Self { inner: self.inner.read(&variables)? };
        if let Some(key) = variables.secret("TOKEN_API_KEY")? {
            read = read.token_api_key(key);
        }
        if let Some(key) = variables.secret("API_KEY")?.and_then(|key| key.known()) {
            read = read.api_key(key);
        }
        Ok(read)
    }

    /// Checks the settings and makes the provider. No I/O happens, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// As [`ClientCredentialsBuilder::build`]. The environment's name, where it is given, its token URL and its API
    /// origins go together: a name other than `production` without them is an error too.
    pub fn build(self) -> Result<AccessPsp, ConfigError> {
        let mut settings = self.inner;
        if settings.token_url.is_none() && settings.api_origins.is_empty() {
            match settings.environment.as_deref() {
                None | Some(PRODUCTION) => {}
                Some(_) => {
                    return Err(ConfigError::new(
                        "environment",
                        "it is named, but its token_url and api_origin are missing",
                    ));
                }
            }
            settings = settings.environment(PRODUCTION).token_url(TOKEN_URL);
            for origin in API_ORIGINS {
                settings = settings.api_origin(origin);
            }
        }
        for (_, key) in &settings.token_headers {
            if let Some(key) = key.known() {
                super::check::header_value("token_api_key", &key)?;
            }
        }
        for (_, key) in &settings.api_headers {
            super::check::header_value("api_key", key)?;
        }
        let mut inner = settings.build()?;
        inner.documented = DOCUMENTED;
        Ok(AccessPsp { inner })
    }

    fn map(self, change: impl FnOnce(ClientCredentialsBuilder) -> ClientCredentialsBuilder) -> Self {
        Self { inner: change(self.inner) }
    }
}
