//! The settings of the client credentials grant.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use super::ClientCredentials;
#[cfg(feature = "private-key-jwt")]
use super::assertion::PrivateKeyJwt;
use super::authentication::Authentication;
use super::basic::BasicEncoding;
use super::discovery;
use super::parameters::Parameters;
use crate::error::ConfigError;
use crate::providers::Secret;
use crate::providers::check;
use crate::providers::default_client;
use crate::token_endpoint::{Metadata, TokenClient, TokenEndpoint};

/// Settings of a [`ClientCredentials`]. They are checked in [`build`](Self::build).
#[must_use]
#[derive(Default)]
pub struct ClientCredentialsBuilder {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) method: Method,
    pub(in crate::providers) token_url: Option<String>,
    pub(in crate::providers) api_origins: Vec<String>,
    pub(super) parameters: Parameters,
    pub(in crate::providers) environment: Option<String>,
    pub(in crate::providers) token_headers: Vec<(String, Secret)>,
    pub(in crate::providers) api_headers: Vec<(String, SecretString)>,
    pub(super) timeout: Option<Duration>,
    pub(super) client: Option<TokenClient>,
    pub(super) discovered: Option<Metadata>,
}

/// The way that was chosen; what it needs beside the choice has settings of its own.
#[derive(Default)]
pub(super) enum Method {
    #[default]
    Post,
    Basic(BasicEncoding),
    #[cfg(feature = "private-key-jwt")]
    PrivateKeyJwt(PrivateKeyJwt),
    MutualTls,
}

impl Method {
    pub(super) fn signs(&self) -> bool {
        #[cfg(feature = "private-key-jwt")]
        return matches!(self, Self::PrivateKeyJwt(_));
        #[cfg(not(feature = "private-key-jwt"))]
        false
    }
}

impl ClientCredentialsBuilder {
    /// Sets the client's id.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Sets the client's secret: a value, or a [`Secret`] that rotates. It is sent in the form (`client_secret_post`, RFC
    /// 6749 section 2.3.1) unless another way is chosen.
    pub fn client_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// Sends id and secret in an HTTP Basic header (`client_secret_basic`, RFC 6749 section 2.3.1) and not in the form.
    ///
    /// ```
    /// use tower_bearer_auth::{BasicEncoding, ClientCredentials};
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let provider = ClientCredentials::builder()
    ///     .client_id("orders")
    ///     .client_secret("100 % secret")
    ///     .client_secret_basic(BasicEncoding::Percent)
    ///     .token_url("https://issuer.example/oauth/token")
    ///     .api_origin("https://api.example")
    ///     .build()?;
    /// # drop(provider);
    /// # Ok(()) }
    /// ```
    pub fn client_secret_basic(mut self, encoding: BasicEncoding) -> Self {
        self.method = Method::Basic(encoding);
        self
    }

    /// Sends an assertion that this key signs, and no secret (`private_key_jwt`, RFC 7523 section 2.2).
    #[cfg(feature = "private-key-jwt")]
    pub fn private_key_jwt(mut self, signer: PrivateKeyJwt) -> Self {
        self.method = Method::PrivateKeyJwt(signer);
        self
    }

    /// Sends the client id and no secret: the client's certificate says who it is (`tls_client_auth` and
    /// `self_signed_tls_client_auth`, RFC 8705 section 2).
    ///
    /// The certificate is the HTTP client's, so that [`http_client`](Self::http_client) goes with it: this crate's takes one
    /// as [`identity_pem`](crate::token_endpoint::HttpClientBuilder::identity_pem). A client that shows a certificate and proves
    /// itself by a secret all the same does not set this.
    pub fn mutual_tls(mut self) -> Self {
        self.method = Method::MutualTls;
        self
    }

    /// Sets the token endpoint: https, or http to loopback. [`discover`](Self::discover) asks the issuer for it instead.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self.discovered = None;
        self
    }

    /// Adds an origin of the API that the tokens are for, as `https://host` or `https://host:port`.
    pub fn api_origin(mut self, origin: impl Into<String>) -> Self {
        self.api_origins.push(origin.into());
        self
    }

    /// Sets the scope to ask for (RFC 6749 section 3.3: names with a space between them). Without it none is sent.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.parameters.scope = Some(scope.into());
        self
    }

    /// Adds a resource that the token is to be for (RFC 8707 section 2): an absolute URI without a fragment. It may be
    /// called more than once, where the issuer allows several; each is sent as a `resource` of its own, in this order.
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.parameters.resources.push(uri.into());
        self
    }

    /// Sets the `audience` that the token is to be for. No standard has it for this grant; Auth0 and others want it.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.parameters.audience = Some(audience.into());
        self
    }

    /// Adds a parameter that the issuer documents beside the standard's (RFC 6749 section 8.2). It is sent in the form.
    ///
    /// [`build`](Self::build) refuses a name that is there already, and, in upper case or lower, those that have no place in
    /// this request or a setting of their own:
    ///
    /// - of this grant and its client: `grant_type`, `client_id`, `client_secret`, `client_assertion`,
    ///   `client_assertion_type`, `scope`, `resource`, `audience`;
    /// - of other grants: `code`, `code_verifier`, `redirect_uri`, `username`, `password`, `refresh_token` (RFC 6749, RFC
    ///   7636), `assertion` (RFC 7521), `device_code` (RFC 8628), `auth_req_id` (OpenID Connect CIBA), and token exchange's
    ///   `subject_token`, `subject_token_type`, `actor_token`, `actor_token_type`, `requested_token_type` (RFC 8693);
    /// - of the authorization endpoint: `request` and `request_uri` (RFC 9101).
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.further.push((name.into(), value.into()));
        self
    }

    /// Sets the name under which `Debug` output and events show this issuer. By default, the token URL's origin.
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.environment = Some(name.into());
        self
    }

    /// Sets a header of the token call, marked sensitive. It goes to the issuer and nowhere else. Of two with one name the
    /// later one counts.
    ///
    /// [`build`](Self::build) refuses `Authorization`, whatever the method is: a client proves itself in one way in each
    /// request (RFC 6749 section 2.3), and [`client_secret_basic`](Self::client_secret_basic) is the setting for that one.
    /// It refuses what is the connection's, the message's or a proxy's to say as well: `Connection`, `Content-Type`,
    /// `Accept-Encoding`, `Proxy-Authorization` and the like.
    pub fn token_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.token_headers.push((name.into(), value.into()));
        self
    }

    /// Sets a header of the API's requests, marked sensitive. It goes where the token goes and nowhere else. Of two with one
    /// name the later one counts. The names that
    /// [`token_header`](Self::token_header) refuses are refused.
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
    pub fn http_client(mut self, client: impl Into<TokenClient>) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Checks the settings and makes the provider. No I/O happens, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), or [`ErrorKind::InsecureUrl`](crate::ErrorKind::InsecureUrl) for
    /// http to anything but loopback. The message begins with the setting's name and does not repeat its value. A token
    /// URL without API origins is an error, and so is the reverse: they change together.
    pub fn build(self) -> Result<ClientCredentials, ConfigError> {
        let missing = |field| ConfigError::new(field, "it is missing");
        let client_id = self.client_id.ok_or_else(|| missing("client_id"))?;
        check::text("client_id", &client_id)?;
        let authentication = authentication(self.method, &client_id, self.client_secret, self.client.is_some())?;
        let token_url = match (self.token_url, self.api_origins.is_empty()) {
            (Some(_), true) => {
                return Err(ConfigError::new("api_origin", "it is missing beside the token_url"));
            }
            (None, false) => {
                return Err(ConfigError::new("token_url", "it is missing beside the api_origin"));
            }
            (None, true) => return Err(missing("token_url")),
            (Some(url), false) => match self.discovered {
                Some(metadata) => discovery::token_url(metadata, &authentication)?,
                None => url,
            },
        };
        let origins = check::origins("api_origin", &self.api_origins)?;
        self.parameters.check()?;
        if let Some(environment) = &self.environment {
            check::text("environment", environment)?;
        }
        let mut token_headers = Vec::with_capacity(self.token_headers.len());
        for (name, value) in self.token_headers {
            let name = check::header_name("token_header", &name)?;
            if name == AUTHORIZATION {
                return Err(ConfigError::new("token_header", "that header is a way of its own to prove the client")
                    .with_hint("client_secret_basic is the setting for HTTP Basic"));
            }
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
        let client = self.client.map_or_else(default_client, Ok)?;
        let mut endpoint = TokenEndpoint::new(&token_url, client)?;
        if let Some(timeout) = self.timeout {
            endpoint = endpoint.timeout(timeout)?;
        }
        Ok(ClientCredentials {
            environment: self.environment.unwrap_or_else(|| endpoint.origin().to_owned()),
            endpoint,
            client_id,
            authentication: authentication.addressed_to(&token_url),
            parameters: self.parameters,
            origins,
            token_headers,
            api_headers,
            documented: &[],
        })
    }
}

/// The one way in which the client proves itself (RFC 6749 section 2.3), with all that it needs and nothing of another.
fn authentication(
    method: Method,
    client_id: &str,
    secret: Option<Secret>,
    has_client: bool,
) -> Result<Authentication, ConfigError> {
    let alone = |setting: &str, secret: Option<Secret>| match secret {
        Some(_) => Err(ConfigError::new("client_secret", &format!("{setting} sends none; set one of the two"))),
        None => Ok(()),
    };
    let checked = |secret: Option<Secret>| {
        let secret = secret.ok_or_else(|| ConfigError::new("client_secret", "it is missing"))?;
        if let Some(known) = secret.known() {
            check::secret("client_secret", &known)?;
        }
        Ok::<_, ConfigError>(secret)
    };
    match method {
        Method::Post => Ok(Authentication::Post(checked(secret)?)),
        Method::Basic(encoding) => {
            let secret = checked(secret)?;
            encoding.check(client_id)?;
            Ok(Authentication::Basic(secret, encoding))
        }
        #[cfg(feature = "private-key-jwt")]
        Method::PrivateKeyJwt(signer) => {
            alone("private_key_jwt", secret)?;
            signer.check()?;
            Ok(Authentication::PrivateKeyJwt(signer))
        }
        Method::MutualTls => {
            alone("mutual_tls", secret)?;
            if !has_client {
                return Err(ConfigError::new("mutual_tls", "the default HTTP client has no certificate to show")
                    .with_hint("set an http_client with an identity"));
            }
            Ok(Authentication::MutualTls)
        }
    }
}

impl fmt::Debug for ClientCredentialsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentialsBuilder")
            .field("environment", &self.environment)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
