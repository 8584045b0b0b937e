//! The settings of [`ClientCredentials`].

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::header::AUTHORIZATION;

#[cfg(feature = "private-key-jwt")]
use super::assertion::PrivateKeyJwt;
use super::authentication::{Authentication, CLIENT_ASSERTION};
use super::basic::BasicEncoding;
use super::parameters::Parameters;
use super::provider::ClientCredentials;
use super::target_api::TargetApi;
use super::token_url;
use crate::error::ConfigError;
use crate::providers::check;
use crate::providers::secret::Secret;
use crate::providers::secret_headers::SecretHeaders;
use crate::providers::token_endpoint::token_endpoint;
use crate::providers::token_headers::TokenHeaders;
use crate::token_endpoint::{Metadata, TokenClient, is_other_type};

impl ClientCredentials {
    /// A builder. The token URL, the API's origins, the client id and a client authentication are required.
    pub fn builder() -> ClientCredentialsBuilder {
        ClientCredentialsBuilder::default()
    }

    /// Reads all settings from environment variables, as [`ClientCredentialsBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the variable or of the setting.
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        Self::builder().from_env(prefix)?.build()
    }
}

/// The settings of a [`ClientCredentials`]. [`build`](Self::build) checks them.
#[must_use]
#[derive(Default)]
pub struct ClientCredentialsBuilder {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) method: Method,
    pub(in crate::providers) token_url: Option<String>,
    pub(in crate::providers) api_origins: Vec<String>,
    pub(super) parameters: Parameters,
    pub(in crate::providers) label: Option<String>,
    pub(in crate::providers) token_headers: Vec<(String, Secret)>,
    pub(in crate::providers) api_headers: Vec<(String, Secret)>,
    pub(super) timeout: Option<Duration>,
    pub(super) client: Option<TokenClient>,
    pub(super) discovered: Option<Metadata>,
    token_types: Vec<String>,
    default_lifetime: Option<Duration>,
}

/// The method of client authentication. The client id and secret are separate settings.
#[derive(Default)]
pub(super) enum Method {
    #[default]
    Post,
    Basic(BasicEncoding),
    #[cfg(feature = "private-key-jwt")]
    PrivateKeyJwt(PrivateKeyJwt),
    ClientAssertion(Secret),
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
    /// Sets the client id.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Sets the client secret: a value, or a [`Secret`] that can change while the program runs.
    ///
    /// It is sent in the form (`client_secret_post`, RFC 6749 section 2.3.1), unless another method is set.
    pub fn client_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// Sends id and secret in an HTTP Basic header instead of the form (`client_secret_basic`, RFC 6749 section 2.3.1).
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

    /// Sends a signed assertion instead of a secret (`private_key_jwt`, RFC 7523 section 2.2).
    #[cfg(feature = "private-key-jwt")]
    pub fn private_key_jwt(mut self, signer: PrivateKeyJwt) -> Self {
        self.method = Method::PrivateKeyJwt(signer);
        self
    }

    /// Sends a ready-made assertion instead of a secret (RFC 7521 section 4.2, RFC 7523 section 2.2): a JWT that another issuer
    /// has signed for this workload, for example Kubernetes, GitHub Actions or a cloud platform. The issuer must trust that
    /// one ("workload identity federation").
    ///
    /// The assertion is loaded for each token request, because it expires. Use [`Secret::from_file`] for a file that the
    /// platform replaces, [`Secret::from_fn`], or [`Secret::from_async_fn`] to request it. If the file cannot be read, the
    /// value of the latest successful read is sent, and an error of the issuer says so in its hint.
    ///
    /// ```no_run
    /// use tower_bearer_auth::{ClientCredentials, Secret};
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let provider = ClientCredentials::builder()
    ///     .client_id("orders")
    ///     .client_assertion(Secret::from_file("/var/run/secrets/tokens/issuer")?)
    ///     .token_url("https://issuer.example/oauth/token")
    ///     .api_origin("https://api.example")
    ///     .build()?;
    /// # drop(provider);
    /// # Ok(()) }
    /// ```
    ///
    /// The crate verifies neither the signature nor the claims. It checks that the assertion is not empty, and has no control
    /// character. With `shared`, the claims `iss` and `sub` identify the token: two assertions with the same claims share one.
    #[doc(alias = "workload_identity")]
    pub fn client_assertion(mut self, assertion: impl Into<Secret>) -> Self {
        self.method = Method::ClientAssertion(assertion.into());
        self
    }

    /// Sends the client id and no secret: the client certificate proves the identity (`tls_client_auth` and
    /// `self_signed_tls_client_auth`, RFC 8705 section 2).
    ///
    /// The certificate belongs to the HTTP client, so also set [`http_client`](Self::http_client). This crate's client
    /// takes the certificate in `HttpClientBuilder::identity_pem`, or in `identity_files` if its files can be replaced. If the
    /// issuer's own certificate is from a private authority, set `roots_pem` or `roots_file` too. Do not set this for a client
    /// that has a certificate and also sends a secret.
    #[doc(alias = "mtls")]
    pub fn mutual_tls(mut self) -> Self {
        self.method = Method::MutualTls;
        self
    }

    /// Sets the token URL: https, or http for loopback addresses. [`discover`](Self::discover) gets it from the issuer
    /// instead.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self.discovered = None;
        self
    }

    /// Adds an origin of the API that accepts the tokens: `https://host` or `https://host:port`.
    ///
    /// To configure the host of the API once, make the origin from the API's URL. Set it before
    /// [`from_env`](Self::from_env), which otherwise requires `PREFIX_API_ORIGINS`:
    ///
    /// ```
    /// fn of_uri(url: &http::Uri) -> Option<String> {
    ///     Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
    /// }
    ///
    /// fn of_url(url: &reqwest::Url) -> String { // the same type as `url::Url`
    ///     url.origin().ascii_serialization()
    /// }
    /// # for origin in ["https://api.example", "https://api.example:8443", "https://[::1]"] {
    /// #     let url = format!("{origin}/orders?page=1");
    /// #     assert_eq!((of_uri(&url.parse().unwrap()).unwrap(), of_url(&url.parse().unwrap())), (origin.into(), origin.into()));
    /// # }
    /// ```
    ///
    /// An `http` origin is accepted only for loopback addresses. If the network below encrypts, for example in a service
    /// mesh, set the `https` origin here, and the `http` origin with
    /// [`BearerAuthLayer::danger_allow_http`](crate::BearerAuthLayer::danger_allow_http).
    pub fn api_origin(mut self, origin: impl Into<String>) -> Self {
        self.api_origins.push(origin.into());
        self
    }

    /// Sets the scope: names separated by spaces (RFC 6749 section 3.3). By default the request has no scope.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.parameters.scope = Some(scope.into());
        self
    }

    /// Adds a resource that the token is for (RFC 8707 section 2): an absolute URI without a fragment.
    ///
    /// Call it several times if the issuer allows several resources. Each is sent as its own `resource` parameter, in
    /// this order.
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.parameters.resources.push(uri.into());
        self
    }

    /// Sets the `audience` that the token is for. It is not a standard parameter of this grant. Auth0 and other issuers
    /// require it.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.parameters.audience = Some(audience.into());
        self
    }

    /// Adds a parameter that the issuer documents in addition to the standard ones (RFC 6749 section 8.2). It is sent
    /// in the form.
    ///
    /// [`build`](Self::build) rejects a name that is already set. Ignoring case, it also rejects names that have their
    /// own setting or belong to another request:
    ///
    /// - this grant and its client authentication: `grant_type`, `client_id`, `client_secret`, `client_assertion`,
    ///   `client_assertion_type`, `scope`, `resource`, `audience`;
    /// - other grants: `code`, `code_verifier`, `redirect_uri`, `username`, `password`, `refresh_token` (RFC 6749, RFC
    ///   7636), `assertion` (RFC 7521), `device_code` (RFC 8628), `auth_req_id` (OpenID Connect CIBA), `subject_token`,
    ///   `subject_token_type`, `actor_token`, `actor_token_type`, `requested_token_type` (RFC 8693);
    /// - the authorization endpoint: `request` and `request_uri` (RFC 9101).
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.extra.push((name.into(), value.into()));
        self
    }

    /// Sets the name of this issuer in telemetry and `Debug` output: the provider's
    /// [`label`](crate::TokenProvider::label). The default is the origin of the token URL.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a header to token requests. It is marked sensitive and sent only to the issuer. A later header replaces an
    /// earlier one of the same name. `User-Agent` replaces the default, `tower-bearer-auth/VERSION`.
    ///
    /// [`build`](Self::build) rejects `Authorization`: a client uses one authentication method for each request (RFC
    /// 6749 section 2.3), and [`client_secret_basic`](Self::client_secret_basic) is the setting for that header. It
    /// also rejects headers of the connection, the message or a proxy, for example `Connection`, `Content-Type`,
    /// `Accept-Encoding` and `Proxy-Authorization`.
    pub fn token_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.token_headers.push((name.into(), value.into()));
        self
    }

    /// Adds a header to requests to the API. It is marked sensitive and sent only where the token is sent. A later
    /// header replaces an earlier one of the same name. [`build`](Self::build) rejects the same names as for
    /// [`token_header`](Self::token_header).
    ///
    /// [`build`](Self::build) loads the value, and each token request loads it again. After a change, call
    /// [`rotate`](crate::TokenSource::rotate).
    pub fn api_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.api_headers.push((name.into(), value.into()));
        self
    }

    /// Uses tokens of this `token_type` as bearer tokens. Further calls add types. Case does not matter.
    ///
    /// By default, the type of a token must be `Bearer`, null, empty or missing (RFC 6749 section 7.1). Some issuers have
    /// another name for it: Apigee sends `BearerToken`. [`build`](Self::build) rejects `DPoP`, `MAC`, `N_A` and `PoP`: an API
    /// does not accept such a token as a bearer token.
    pub fn accept_token_type(mut self, name: impl Into<String>) -> Self {
        self.token_types.push(name.into());
        self
    }

    /// Sets the lifetime of a token whose response has no `expires_in`, or one that is zero, negative or unreadable. The
    /// default is 5 minutes. It counts as at least 1 second and at most 24 hours.
    ///
    /// RFC 6749 section 5.1 only recommends `expires_in`. Set this to the lifetime that the issuer documents.
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = Some(lifetime);
        self
    }

    /// Sets how long a token request may take, from its start to the last byte of the response. The default is 10
    /// seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the HTTP client for token requests: an `HttpClient`, or any service in [`TokenClient::new`]. The default is
    /// an `HttpClient` with default settings.
    pub fn http_client(mut self, client: impl Into<TokenClient>) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Checks the settings and builds the provider. It does no I/O and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the setting. It does not contain the value. A token URL without API origins is
    /// an error, and so are API origins without a token URL, because they change together.
    pub fn build(self) -> Result<ClientCredentials, ConfigError> {
        self.build_with_key()
    }

    /// As [`build`](Self::build), for a client that calls several APIs: each request chooses the scope, the audience or the
    /// resources of its token with a [`TargetApi`] in its extensions. A request without one is an error, and is not sent.
    ///
    /// The settings of this builder apply where the [`TargetApi`] has none. Everything else is the same for all APIs: the
    /// client, the token URL, additional parameters, headers, and the origins that may receive a token. A token for one API
    /// can be sent to the origin of another if a request names the wrong [`TargetApi`].
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_keyed(self) -> Result<ClientCredentials<TargetApi>, ConfigError> {
        self.build_with_key()
    }

    fn build_with_key<K>(self) -> Result<ClientCredentials<K>, ConfigError> {
        let client_id = self.client_id.ok_or_else(|| check::missing("client_id"))?;
        check::text("client_id", &client_id)?;
        let authentication = authentication(self.method, &client_id, self.client_secret, self.client.is_some())?;
        let token_url = match (self.token_url, self.api_origins.is_empty()) {
            (None, true) => return Err(check::missing("token_url")),
            (Some(_), true) => {
                return Err(check::missing("api_origin").with_hint("it is required when token_url is set"));
            }
            (None, false) => {
                return Err(check::missing("token_url").with_hint("it is required when api_origin is set"));
            }
            (Some(url), false) => match self.discovered {
                Some(metadata) => token_url::token_url(metadata, &authentication)?,
                None => url,
            },
        };
        let origins = check::origins("api_origin", &self.api_origins)?;
        self.parameters.check()?;
        for name in &self.token_types {
            check::text("accept_token_type", name)?;
            if is_other_type(name.trim()) {
                return Err(ConfigError::new("accept_token_type", "a token of this type is not a bearer token")
                    .with_hint("configure the issuer to give this client bearer tokens"));
            }
        }
        check::default_lifetime(self.default_lifetime)?;
        if let Some(label) = &self.label {
            check::text("label", label)?;
        }
        let token_headers = TokenHeaders::new(self.token_headers)?;
        if token_headers.contain(&AUTHORIZATION) {
            return Err(ConfigError::new("token_header", "the Authorization header is a client authentication method")
                .with_hint("use client_secret_basic for HTTP Basic"));
        }
        let api_headers = SecretHeaders::new(self.api_headers)?;
        let endpoint = token_endpoint("token_url", &token_url, self.client, self.timeout)?;
        Ok(ClientCredentials {
            label: self.label.unwrap_or_else(|| endpoint.origin().to_owned()),
            endpoint,
            client_id,
            authentication: authentication.addressed_to(&token_url),
            parameters: self.parameters,
            origins,
            token_headers,
            api_headers,
            documented: &[],
            token_types: self.token_types,
            default_lifetime: self.default_lifetime,
            key: PhantomData,
        })
    }
}

/// Combines the method with what it needs. A client uses exactly one method (RFC 6749 section 2.3).
fn authentication(
    method: Method,
    client_id: &str,
    secret: Option<Secret>,
    has_client: bool,
) -> Result<Authentication, ConfigError> {
    let unused = |method: &str, secret: Option<Secret>| match secret {
        Some(_) => Err(ConfigError::new("client_secret", format!("{method} sends no secret"))
            .with_hint(format!("set client_secret or {method}, not both"))),
        None => Ok(()),
    };
    let required = |secret: Option<Secret>| {
        let secret = secret.ok_or_else(|| check::missing("client_secret"))?;
        check::secret("client_secret", &secret)?;
        Ok::<_, ConfigError>(secret)
    };
    match method {
        Method::Post => Ok(Authentication::Post(required(secret)?)),
        Method::Basic(encoding) => {
            let secret = required(secret)?;
            encoding.check(client_id)?;
            Ok(Authentication::Basic(secret, encoding))
        }
        #[cfg(feature = "private-key-jwt")]
        Method::PrivateKeyJwt(signer) => {
            unused("private_key_jwt", secret)?;
            signer.check()?;
            Ok(Authentication::PrivateKeyJwt(signer))
        }
        Method::ClientAssertion(assertion) => {
            unused(CLIENT_ASSERTION, secret)?;
            check::secret(CLIENT_ASSERTION, &assertion)?;
            Ok(Authentication::ClientAssertion(assertion))
        }
        Method::MutualTls => {
            unused("mutual_tls", secret)?;
            if !has_client {
                return Err(ConfigError::new("mutual_tls", "the default HTTP client has no client certificate")
                    .with_hint("set an http_client with a client certificate"));
            }
            Ok(Authentication::MutualTls)
        }
    }
}

impl fmt::Debug for ClientCredentialsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentialsBuilder")
            .field("label", &self.label)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
