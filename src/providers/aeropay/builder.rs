//! The settings of an [`Aeropay`].

use std::fmt;
use std::time::Duration;

use http::{Method, Uri};

use super::Aeropay;
use super::credentials::{Credentials, Directory};
use super::endpoint::Endpoint;
use super::key::{MerchantId, TokenScope};
use super::token::is_number;
use super::version::{ApiVersion, MerchantIdForm};
use crate::error::{ConfigError, Error};
use crate::message::Origins;
use crate::providers::Secret;
use crate::providers::check;
use crate::providers::env::{Variables, process};
use crate::token_endpoint::{TokenClient, TokenEndpoint};

/// One of Aeropay's own environments: a token endpoint, and the API that its tokens are for.
///
/// Credentials belong to one of them; in the other they are `AP002`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// `https://api.sandbox-pay.aero.inc`.
    Sandbox,
    /// `https://api.aeropay.com`.
    Production,
}

impl Environment {
    /// The name, as `Debug` output and events show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Production => "production",
        }
    }

    /// Scheme and host.
    #[must_use]
    pub fn base_url(self) -> &'static str {
        match self {
            Self::Sandbox => "https://api.sandbox-pay.aero.inc",
            Self::Production => "https://api.aeropay.com",
        }
    }
}

/// Settings of an [`Aeropay`]. They are checked in [`build`](Self::build).
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
    timeout: Option<Duration>,
    client: Option<TokenClient>,
}

impl AeropayBuilder {
    /// Sets the version of the API; 1 by default.
    pub fn api_version(mut self, version: ApiVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets the environment. It has no default: credentials of one are wrong in the other.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets a base URL of your own in place of an environment: the token endpoint and the API lie below it.
    ///
    /// https, or http to loopback. For version 2 it may end with `/v2`, or not.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Sets the merchant's API key.
    pub fn api_key(mut self, key: impl Into<Secret>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets the merchant's API secret: a value, or a [`Secret`] that rotates.
    pub fn api_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.api_secret = Some(secret.into());
        self
    }

    /// Sets the merchant's id.
    pub fn merchant_id(mut self, id: impl Into<MerchantId>) -> Self {
        self.merchant = Some(id.into());
        self
    }

    /// Sets whether merchants' ids are sent as JSON numbers or strings. By default strings in version 1, numbers in 2.
    pub fn merchant_id_form(mut self, form: MerchantIdForm) -> Self {
        self.id_form = Some(form);
        self
    }

    /// Serves other merchants as well: each request may name one with a [`MerchantId`] in its extensions, and `lookup`
    /// knows its credentials.
    ///
    /// It is asked at every fetch, and must not block. Its error is that of this merchant's requests alone. With it, the
    /// provider needs no merchant of its own.
    pub fn credentials_for<F>(mut self, lookup: F) -> Self
    where
        F: Fn(&MerchantId) -> Result<Credentials, Error> + Send + Sync + 'static,
    {
        self.directory = Some(Directory::new(lookup));
        self
    }

    /// Adds an endpoint to the table, or replaces the one of the same method and path.
    ///
    /// The path begins at the host's root, below the path of an own base URL; `{name}` stands for any one segment. Where
    /// several fit, plain text beats `{name}`, from the left.
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

    /// Adds a header to the token call, marked sensitive: `X-API-Version`, for instance. Those of API calls are the
    /// caller's to set.
    pub fn token_header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.token_headers.push((name.into(), value.into()));
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

    /// Takes those settings that are in the environment.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_API_KEY`, `PREFIX_API_SECRET`, `PREFIX_MERCHANT_ID` | as named; needed where the builder has none |
    /// | `PREFIX_ENVIRONMENT` | `sandbox` or `production` |
    /// | `PREFIX_BASE_URL` | a base URL of one's own, in place of the environment |
    /// | `PREFIX_API_VERSION` | `1` or `2` |
    /// | `PREFIX_MERCHANT_ID_FORM` | `number` or `string` |
    ///
    /// Each may be given as `NAME`, or as `NAME_FILE`, the path of a file that holds the value; one trailing newline is
    /// removed. Files are read here, which blocks; those of the key and the secret are read again at every fetch.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) that names the variable, and the path where there is one, and never
    /// the content: `NAME` beside `NAME_FILE`, a value that is empty, not UTF-8 or not one of those above, a file that
    /// cannot be read, a variable that is missing.
    pub fn from_env(self, prefix: &str) -> Result<Self, ConfigError> {
        self.read(&Variables::new(prefix, &process)?)
    }

    pub(super) fn read(mut self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        self.api_key = variables.secret("API_KEY")?.or(self.api_key);
        self.api_secret = variables.secret("API_SECRET")?.or(self.api_secret);
        self.merchant = variables.text("MERCHANT_ID")?.map(MerchantId::from).or(self.merchant);
        let read = [
            ("API_KEY", self.api_key.is_some()),
            ("API_SECRET", self.api_secret.is_some()),
            ("MERCHANT_ID", self.merchant.is_some()),
        ];
        // A platform has its credentials elsewhere.
        let own = self.directory.is_none() || read.iter().any(|(_, is_set)| *is_set);
        if let Some((missing, _)) = read.iter().find(|(_, is_set)| own && !is_set) {
            return Err(variables.missing(missing));
        }
        let one_of =
            |what: &str, choices: &str| ConfigError::new(&variables.name(what), &format!("it is neither {choices}"));
        if let Some(name) = variables.text("ENVIRONMENT")? {
            let known = [Environment::Sandbox, Environment::Production].into_iter().find(|e| e.as_str() == name);
            self.environment = Some(known.ok_or_else(|| one_of("ENVIRONMENT", "sandbox nor production"))?);
        }
        if let Some(url) = variables.text("BASE_URL")? {
            self.base_url = Some(url);
        }
        self.version = match variables.text("API_VERSION")?.as_deref() {
            None => self.version,
            Some("1") => ApiVersion::V1,
            Some("2") => ApiVersion::V2,
            Some(_) => return Err(one_of("API_VERSION", "1 nor 2")),
        };
        self.id_form = match variables.text("MERCHANT_ID_FORM")?.as_deref() {
            None => self.id_form,
            Some("number") => Some(MerchantIdForm::Number),
            Some("string") => Some(MerchantIdForm::String),
            Some(_) => return Err(one_of("MERCHANT_ID_FORM", "number nor string")),
        };
        Ok(self)
    }

    /// Checks the settings and makes the provider. No I/O happens, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), or [`ErrorKind::InsecureUrl`](crate::ErrorKind::InsecureUrl) for
    /// http to anything but loopback. The message begins with the setting's name and does not repeat its value. An
    /// environment beside a base URL is an error, and so is neither.
    pub fn build(self) -> Result<Aeropay, ConfigError> {
        let wire = self.version.wire();
        let id_form = self.id_form.unwrap_or(wire.id_form);
        let merchant = own_merchant(self.merchant, self.api_key, self.api_secret, self.directory.is_some())?;
        if let Some((id, _)) = &merchant {
            check::text("merchant_id", id.as_str())?;
            if id_form == MerchantIdForm::Number && !is_number(id) {
                return Err(ConfigError::new("merchant_id", "it cannot be sent as a JSON number")
                    .with_hint("set merchant_id_form to MerchantIdForm::String"));
            }
        }
        let base_url = match (self.environment, &self.base_url) {
            (Some(environment), None) => environment.base_url(),
            (None, Some(url)) => url.trim_end_matches('/'),
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("base_url", "an environment is set as well; set one of them"));
            }
            (None, None) => return Err(ConfigError::new("environment", "it is missing, and so is a base_url")),
        };
        let base_url = base_url.strip_suffix(wire.prefix).unwrap_or(base_url);
        if base_url.contains('?') {
            return Err(ConfigError::new("base_url", "it has a query"));
        }
        let client = self.client.map_or_else(crate::providers::default_client, Ok)?;
        let mut endpoint = TokenEndpoint::new(&format!("{base_url}{}{}", wire.prefix, wire.token_path), client)
            .map_err(|error| error.for_setting("base_url"))?;
        if let Some(timeout) = self.timeout {
            endpoint = endpoint.timeout(timeout)?;
        }
        let origins = Origins::none().allow(endpoint.origin()).map_err(|error| error.for_setting("base_url"))?;
        let base_path = base_url.parse::<Uri>().map(|url| url.path().trim_end_matches('/').to_owned());
        let mut endpoints: Vec<Endpoint> = wire.endpoints.iter().map(Endpoint::of_row).collect();
        for (method, path, scope) in self.endpoints {
            let own = Endpoint::own(method, path, scope)?;
            endpoints.retain(|known| !known.is_same(&own));
            endpoints.push(own);
        }
        let mut token_headers = Vec::with_capacity(self.token_headers.len());
        for (name, value) in self.token_headers {
            let name = check::header_name("token_header", &name)?;
            if let Some(known) = value.known() {
                check::header_value("token_header", &known)?;
            }
            token_headers.push((name, value));
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
            token_headers,
        })
    }
}

fn own_merchant(
    id: Option<MerchantId>,
    api_key: Option<Secret>,
    api_secret: Option<Secret>,
    others: bool,
) -> Result<Option<(MerchantId, Credentials)>, ConfigError> {
    if others && id.is_none() && api_key.is_none() && api_secret.is_none() {
        return Ok(None);
    }
    let missing = |field| ConfigError::new(field, "it is missing");
    let id = id.ok_or_else(|| missing("merchant_id"))?;
    let api_key = api_key.ok_or_else(|| missing("api_key"))?;
    let api_secret = api_secret.ok_or_else(|| missing("api_secret"))?;
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
