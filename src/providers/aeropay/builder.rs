//! The settings of [`Aeropay`].

use std::fmt;
use std::time::Duration;

use http::{Method, Uri};

use super::credentials::{Credentials, Directory};
use super::endpoint::Endpoint;
use super::key::{MerchantId, TokenScope};
use super::provider::{Aeropay, not_a_number};
use super::token_call::is_number;
use super::version::{ApiVersion, MerchantIdForm};
use crate::error::{ConfigError, Error};
use crate::message::Origins;
use crate::providers::check;
use crate::providers::env::{Variables, process, process_names};
use crate::providers::names::named;
use crate::providers::secret::Secret;
use crate::providers::token_endpoint::token_endpoint;
use crate::providers::token_headers::TokenHeaders;
use crate::token_endpoint::TokenClient;

/// One of Aeropay's environments: a token endpoint, and the API that accepts its tokens.
///
/// Credentials belong to one environment. In the other one, they are rejected with `AP002`.
///
/// The names in configuration files are `sandbox` and `production`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// `https://api.sandbox-pay.aero.inc`.
    Sandbox,
    /// `https://api.aeropay.com`.
    Production,
}

named!(Environment, "environment": Sandbox = "sandbox", Production = "production");

/// The variables of [`AeropayBuilder::from_env`], without their prefix.
pub(in crate::providers) const VARIABLES: &[&str] =
    &["API_KEY", "API_SECRET", "MERCHANT_ID", "ENVIRONMENT", "BASE_URL", "API_VERSION", "MERCHANT_ID_FORM"];

impl Environment {
    /// Scheme and host.
    #[must_use]
    pub fn base_url(self) -> &'static str {
        match self {
            Self::Sandbox => "https://api.sandbox-pay.aero.inc",
            Self::Production => "https://api.aeropay.com",
        }
    }
}

impl Aeropay {
    /// A builder for version 1 of the API. An environment, the merchant's id, its API key and its API secret are
    /// required.
    pub fn builder() -> AeropayBuilder {
        AeropayBuilder::default()
    }

    /// Reads all settings from environment variables, as [`AeropayBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the variable or of the setting.
    pub fn from_env(prefix: &str) -> Result<Self, ConfigError> {
        Self::builder().from_env(prefix)?.build()
    }
}

/// The settings of an [`Aeropay`]. [`build`](Self::build) checks them.
#[must_use]
#[derive(Default)]
pub struct AeropayBuilder {
    version: ApiVersion,
    environment: Option<Environment>,
    base_url: Option<String>,
    api_key: Option<Secret>,
    api_secret: Option<Secret>,
    merchant: Option<MerchantId>,
    id_form: Option<MerchantIdForm>,
    directory: Option<Directory>,
    endpoints: Vec<(Method, String, TokenScope)>,
    token_headers: Vec<(String, Secret)>,
    default_lifetime: Option<Duration>,
    timeout: Option<Duration>,
    client: Option<TokenClient>,
}

impl AeropayBuilder {
    /// Sets the version of the API. The default is version 1.
    pub fn api_version(mut self, version: ApiVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets the environment. There is no default, because the credentials of one are wrong in the other.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets another base URL instead of an environment. The token endpoint and the API are below it.
    ///
    /// It is https, or http for loopback addresses. For version 2, the trailing `/v2` is optional.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sets the merchant's API key: a value, or a [`Secret`] that can change while the program runs.
    pub fn api_key(mut self, key: impl Into<Secret>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the merchant's API secret: a value, or a [`Secret`] that can change while the program runs.
    pub fn api_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.api_secret = Some(secret.into());
        self
    }

    /// Sets the merchant's id.
    pub fn merchant_id(mut self, id: impl Into<MerchantId>) -> Self {
        self.merchant = Some(id.into());
        self
    }

    /// Sets whether merchant ids are sent as JSON numbers or strings. The default is a string in version 1 and a number
    /// in version 2.
    pub fn merchant_id_form(mut self, form: MerchantIdForm) -> Self {
        self.id_form = Some(form);
        self
    }

    /// Adds other merchants: a request names one with a [`MerchantId`] in its extensions, and `lookup` returns the
    /// credentials.
    ///
    /// `lookup` is called for each fetch and must not block. Its error affects only the requests of that merchant. With
    /// this setting, the provider needs no merchant of its own.
    pub fn credentials_for<F>(mut self, lookup: F) -> Self
    where
        F: Fn(&MerchantId) -> Result<Credentials, Error> + Send + Sync + 'static,
    {
        self.directory = Some(Directory::new(lookup));
        self
    }

    /// Adds an endpoint to the table, or replaces the one with the same method and path.
    ///
    /// The path begins at the root of the host, or at the path of the base URL. `{name}` matches any one segment. If
    /// several endpoints match, plain text takes precedence over `{name}`, and segments on the left count more.
    ///
    /// ```
    /// # use tower_bearer_auth::{Aeropay, aeropay::{Environment, TokenScope}};
    /// # use http::Method;
    /// let builder = Aeropay::builder().endpoint(Method::PATCH, "/user", TokenScope::UserForMerchant);
    /// # drop(builder);
    /// ```
    pub fn endpoint(mut self, method: Method, path: impl Into<String>, scope: TokenScope) -> Self {
        self.endpoints.push((method, path.into(), scope));
        self
    }

    /// Adds a header to token requests, for example `X-API-Version`. It is marked sensitive and sent only to the token
    /// endpoint. A later header replaces an earlier one of the same name.
    ///
    /// [`build`](Self::build) rejects headers of the connection, the message or a proxy, for example `Connection`,
    /// `Content-Type`, `Accept-Encoding` and `Proxy-Authorization`. To add a header to API requests, set it in the
    /// requests.
    pub fn token_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.token_headers.push((name.into(), value.into()));
        self
    }

    /// Sets the lifetime of a token whose response has no `TTL`, or one that is zero, negative or unreadable. The default is 5
    /// minutes. It counts as at least 1 second and at most 24 hours.
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

    /// Reads the settings that are set in environment variables.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_API_KEY`, `PREFIX_API_SECRET`, `PREFIX_MERCHANT_ID` | as named; required if the builder does not have them, unless it has [`credentials_for`](Self::credentials_for) and none of the three is set |
    /// | `PREFIX_ENVIRONMENT` | `sandbox` or `production` |
    /// | `PREFIX_BASE_URL` | another base URL instead of the environment |
    /// | `PREFIX_API_VERSION` | `1` or `2` |
    /// | `PREFIX_MERCHANT_ID_FORM` | `number` or `string` |
    ///
    /// Each variable is `NAME`, or `NAME_FILE` with the path of a file that contains the value. One trailing newline is
    /// removed. This method reads the files, which blocks. The files of the key and the secret are read again for each
    /// fetch. A variable replaces what is set before this call, and what is set after this call replaces the variable.
    ///
    /// No other variable may begin with `PREFIX_`, except those that Kubernetes sets for a service whose name begins with
    /// the prefix, for example `PREFIX_SERVICE_HOST`. For two merchants in one process, choose prefixes of which
    /// neither begins with the other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the variable, and the path if there is one. It does not contain the value. It
    /// is returned if both `NAME` and `NAME_FILE` are set, if a value is empty, not UTF-8 or unknown, if a file cannot
    /// be read, if a required variable is missing, and if there is no setting for a variable.
    pub fn from_env(self, prefix: &str) -> Result<Self, ConfigError> {
        let variables = Variables::new(prefix, &process)?;
        variables.check_names(VARIABLES, process_names())?;
        self.read(&variables)
    }

    pub(in crate::providers) fn read(mut self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        self.api_key = variables.secret("API_KEY")?.or(self.api_key);
        self.api_secret = variables.secret("API_SECRET")?.or(self.api_secret);
        self.merchant = variables.text("MERCHANT_ID")?.map(MerchantId::from).or(self.merchant);
        let read = [
            ("API_KEY", self.api_key.is_some()),
            ("API_SECRET", self.api_secret.is_some()),
            ("MERCHANT_ID", self.merchant.is_some()),
        ];
        // With `credentials_for`, the provider needs no merchant of its own.
        let required = self.directory.is_none() || read.iter().any(|(_, is_set)| *is_set);
        if let Some((missing, _)) = read.iter().find(|(_, is_set)| required && !is_set) {
            return Err(variables.missing(missing));
        }
        self.environment = variables.parse("ENVIRONMENT")?.or(self.environment);
        self.base_url = variables.text("BASE_URL")?.or(self.base_url);
        self.version = variables.parse("API_VERSION")?.unwrap_or(self.version);
        self.id_form = variables.parse("MERCHANT_ID_FORM")?.or(self.id_form);
        Ok(self)
    }

    /// Checks the settings and builds the provider. It does no I/O and needs no runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the setting. It does not contain the value. Set either an environment or a base
    /// URL: both together are an error, and so is neither.
    pub fn build(self) -> Result<Aeropay, ConfigError> {
        let wire = self.version.wire();
        let id_form = self.id_form.unwrap_or(wire.id_form);
        let merchant = own_merchant(self.merchant, self.api_key, self.api_secret, self.directory.is_some())?;
        if let Some((id, _)) = &merchant {
            check::text("merchant_id", id.as_str())?;
            if id_form == MerchantIdForm::Number && !is_number(id) {
                return Err(not_a_number());
            }
        }
        let base_url = match (self.environment, &self.base_url) {
            (Some(environment), None) => environment.base_url(),
            (None, Some(url)) => url.trim_end_matches('/'),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("base_url", "an environment is also set").with_hint("set one of the two"));
            }
            (None, None) => return Err(check::missing("environment").with_hint("set it, or set base_url")),
        };
        let base_url = base_url.strip_suffix(wire.prefix).unwrap_or(base_url);
        if base_url.contains('?') {
            return Err(ConfigError::new("base_url", "it has a query").with_hint("remove it"));
        }
        let token_url = format!("{base_url}{}{}", wire.prefix, wire.token_path);
        check::default_lifetime(self.default_lifetime)?;
        let endpoint = token_endpoint("base_url", &token_url, self.client, self.timeout)?;
        let origins = Origins::none().allow(endpoint.origin()).map_err(|error| error.with_setting("base_url"))?;
        let base_path = base_url.parse::<Uri>().map(|url| url.path().trim_end_matches('/').to_owned());
        let mut endpoints: Vec<Endpoint> = wire.endpoints.iter().map(Endpoint::of_row).collect();
        for (method, path, scope) in self.endpoints {
            let custom = Endpoint::custom(method, path, scope)?;
            endpoints.retain(|known| !known.is_same(&custom));
            endpoints.push(custom);
        }
        Ok(Aeropay {
            version: self.version,
            environment: self.environment.map_or_else(|| endpoint.origin().to_owned(), |e| e.as_str().to_owned()),
            endpoint,
            origins,
            base_path: base_path.map_err(|_| ConfigError::new("base_url", "it is not a URL"))?,
            merchant,
            directory: self.directory,
            id_form,
            endpoints,
            token_headers: TokenHeaders::new(self.token_headers)?,
            default_lifetime: self.default_lifetime,
        })
    }
}

/// The provider's own merchant. A provider with other merchants need not have one.
fn own_merchant(
    id: Option<MerchantId>,
    api_key: Option<Secret>,
    api_secret: Option<Secret>,
    has_others: bool,
) -> Result<Option<(MerchantId, Credentials)>, ConfigError> {
    if has_others && id.is_none() && api_key.is_none() && api_secret.is_none() {
        return Ok(None);
    }
    let id = id.ok_or_else(|| check::missing("merchant_id"))?;
    let api_key = api_key.ok_or_else(|| check::missing("api_key"))?;
    let api_secret = api_secret.ok_or_else(|| check::missing("api_secret"))?;
    let credentials = Credentials { api_key, api_secret };
    credentials.check()?;
    Ok(Some((id, credentials)))
}

impl fmt::Debug for AeropayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropayBuilder")
            .field("environment", &self.environment.map(Environment::as_str))
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
