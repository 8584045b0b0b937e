//! The settings of the client credentials grant.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::Full;
use secrecy::SecretString;
use tower::Service;

use super::authentication::Authentication;
use super::check::{self, refused};
use super::client_credentials::ClientCredentials;
use super::env::{Variables, process};
use crate::error::{BoxError, Error};
use crate::exchange::{TokenClient, TokenEndpoint};
use crate::provider::Secret;

/// Settings of a [`ClientCredentials`]. They are checked in [`build`](Self::build).
#[must_use]
#[derive(Default)]
pub struct ClientCredentialsBuilder {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    pub(super) token_url: Option<String>,
    pub(super) api_origins: Vec<String>,
    scope: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) token_headers: Vec<(String, Secret)>,
    pub(super) api_headers: Vec<(String, SecretString)>,
    timeout: Option<Duration>,
    client: Option<TokenClient>,
}

impl ClientCredentialsBuilder {
    /// Sets the client's id.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Sets the client's secret: a value, or a [`Secret`] that rotates.
    pub fn client_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// Sets the token endpoint: https, or http to loopback.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self
    }

    /// Adds an origin of the API that the tokens are for, as `https://host` or `https://host:port`.
    pub fn api_origin(mut self, origin: impl Into<String>) -> Self {
        self.api_origins.push(origin.into());
        self
    }

    /// Sets the scope to ask for (RFC 6749 section 3.3: names with a space between them). Without it none is sent.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Sets the name under which `Debug` output and events show this issuer. By default, the token URL's origin.
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.environment = Some(name.into());
        self
    }

    /// Adds a header to the token call, marked sensitive. It goes to the issuer and nowhere else.
    pub fn token_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.token_headers.push((name.into(), value.into()));
        self
    }

    /// Adds a header to the API's requests, marked sensitive. It goes where the token goes and nowhere else.
    pub fn api_header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.api_headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long a token call may take, from its start until the answer's last byte. 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the HTTP service for the token call, as [`TokenClient::new`] takes it. By default, this crate's own client.
    pub fn http_client<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.client = Some(TokenClient::new(service));
        self
    }

    /// Takes those settings that are in the environment.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` | as named; needed where the builder has none |
    /// | `PREFIX_TOKEN_URL`, `PREFIX_API_ORIGINS` (with commas between them) | as named; needed where the builder has none |
    /// | `PREFIX_SCOPE`, `PREFIX_ENVIRONMENT` | as named |
    ///
    /// Each may be given as `NAME`, or as `NAME_FILE`, the path of a file that holds the value; one trailing newline is
    /// removed. Files are read here, which blocks; the one of a secret is read again at every fetch. Origins are added
    /// to those that the builder has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) that names the variable, and the path where there is one, and never
    /// the content: `NAME` beside `NAME_FILE`, a value that is empty or not UTF-8, a file that cannot be read, a variable
    /// that is missing.
    pub fn from_env(self, prefix: &str) -> Result<Self, Error> {
        let variables = Variables::new(prefix, &process)?;
        let read = self.read(&variables)?;
        if read.token_url.is_none() {
            return Err(variables.missing("TOKEN_URL"));
        }
        if read.api_origins.is_empty() {
            return Err(variables.missing("API_ORIGINS"));
        }
        Ok(read)
    }

    pub(super) fn read(mut self, variables: &Variables<'_>) -> Result<Self, Error> {
        self.client_id = variables.text("CLIENT_ID")?.or(self.client_id);
        if self.client_id.is_none() {
            return Err(variables.missing("CLIENT_ID"));
        }
        self.client_secret = variables.secret("CLIENT_SECRET")?.or(self.client_secret);
        if self.client_secret.is_none() {
            return Err(variables.missing("CLIENT_SECRET"));
        }
        self.token_url = variables.text("TOKEN_URL")?.or(self.token_url);
        self.api_origins.extend(variables.list("API_ORIGINS")?);
        self.scope = variables.text("SCOPE")?.or(self.scope);
        self.environment = variables.text("ENVIRONMENT")?.or(self.environment);
        Ok(self)
    }

    /// Checks the settings and makes the provider. No I/O happens, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), or [`ErrorKind::InsecureUrl`](crate::ErrorKind::InsecureUrl) for
    /// http to anything but loopback. The message begins with the setting's name and does not repeat its value. A token
    /// URL without API origins is an error, and so is the reverse: they change together.
    pub fn build(self) -> Result<ClientCredentials, Error> {
        let missing = |field| refused(field, "it is missing");
        let client_id = self.client_id.ok_or_else(|| missing("client_id"))?;
        check::text("client_id", &client_id)?;
        let secret = self.client_secret.ok_or_else(|| missing("client_secret"))?;
        if let Some(known) = secret.known() {
            check::secret("client_secret", &known)?;
        }
        let token_url = match (self.token_url, self.api_origins.is_empty()) {
            (Some(_), true) => {
                return Err(refused("api_origin", "it is missing beside the token_url"));
            }
            (None, false) => {
                return Err(refused("token_url", "it is missing beside the api_origin"));
            }
            (None, true) => return Err(missing("token_url")),
            (Some(url), false) => url,
        };
        let origins = check::origins("api_origin", &self.api_origins)?;
        if let Some(scope) = &self.scope {
            check::text("scope", scope)?;
        }
        if let Some(environment) = &self.environment {
            check::text("environment", environment)?;
        }
        let mut token_headers = Vec::with_capacity(self.token_headers.len());
        for (name, value) in self.token_headers {
            let name = check::header_name("token_header", &name)?;
            if let Some(known) = value.known() {
                check::header_value("token_header", &known)?;
            }
            token_headers.push((name, value));
        }
        let mut api_headers = HeaderMap::new();
        for (name, value) in &self.api_headers {
            let name = check::api_header_name("api_header", name)?;
            api_headers.insert(name, check::header_value("api_header", value)?);
        }
        let client = self.client.map_or_else(super::own_client, Ok)?;
        let mut endpoint = TokenEndpoint::new(&token_url, client)?;
        if let Some(timeout) = self.timeout {
            endpoint = endpoint.timeout(timeout)?;
        }
        Ok(ClientCredentials {
            environment: self.environment.unwrap_or_else(|| endpoint.origin().to_owned()),
            endpoint,
            client_id,
            authentication: Authentication::Post(secret),
            scope: self.scope,
            origins,
            token_headers,
            api_headers,
            documented: &[],
        })
    }
}

impl fmt::Debug for ClientCredentialsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentialsBuilder").field("environment", &self.environment).finish_non_exhaustive()
    }
}
