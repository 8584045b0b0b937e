//! The settings of the client credentials grant, out of the environment.

#[cfg(feature = "private-key-jwt")]
use super::assertion::{PrivateKeyJwt, SigningAlgorithm};
use super::basic::BasicEncoding;
use super::builder::{ClientCredentialsBuilder, Method};
use crate::error::ConfigError;
use crate::providers::env::{Variables, process};

impl ClientCredentialsBuilder {
    /// Takes those settings that are in the environment.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` | as named; needed where the builder has none, the secret where the method sends one |
    /// | `PREFIX_TOKEN_URL`, `PREFIX_API_ORIGINS` (with commas between them) | as named; needed where the builder has none |
    /// | `PREFIX_SCOPE`, `PREFIX_AUDIENCE`, `PREFIX_ENVIRONMENT` | as named |
    /// | `PREFIX_RESOURCES` (with commas between them) | [`resource`](Self::resource), added to those that the builder has |
    /// | `PREFIX_CLIENT_AUTHENTICATION` | the method by its name: `client_secret_post`, `client_secret_basic`, `private_key_jwt`, `tls_client_auth`, `self_signed_tls_client_auth`; without it, the builder's |
    /// | `PREFIX_BASIC_ENCODING` | `percent`, `form` or `raw`, for `client_secret_basic` |
    /// | `PREFIX_PRIVATE_KEY`, `PREFIX_PRIVATE_KEY_ALGORITHM` (`RS256`, `PS256`, `ES256` or `EdDSA`) | the key, PEM, and what it signs by, for `private_key_jwt`; needed where the builder has none |
    /// | `PREFIX_PRIVATE_KEY_ID`, `PREFIX_ASSERTION_AUDIENCE` | its `kid`, and the assertion's `aud`; may be left out |
    ///
    /// Each may be given as `NAME`, or as `NAME_FILE`, the path of a file that holds the value; one trailing newline is
    /// removed. Files are read here, which blocks; those of a secret and of a private key are read again at every fetch.
    /// Origins are added to those that the builder has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) that names the variable, and the path where there is one, and never
    /// the content: `NAME` beside `NAME_FILE`, a value that is empty or not UTF-8, a file that cannot be read, a variable
    /// that is missing, one of a method that is not chosen.
    pub fn from_env(self, prefix: &str) -> Result<Self, ConfigError> {
        let variables = Variables::new(prefix, &process)?;
        let read = self.read_all(&variables)?;
        if read.token_url.is_none() {
            return Err(variables.missing("TOKEN_URL"));
        }
        if read.api_origins.is_empty() {
            return Err(variables.missing("API_ORIGINS"));
        }
        Ok(read)
    }

    pub(in crate::providers) fn read_all(mut self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        self.method = method(variables, std::mem::take(&mut self.method))?;
        self.parameters.audience = variables.text("AUDIENCE")?.or(self.parameters.audience);
        self.parameters.resources.extend(variables.list("RESOURCES")?);
        self.read(variables)
    }

    /// The settings that every client has.
    pub(in crate::providers) fn read(mut self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        self.client_id = variables.text("CLIENT_ID")?.or(self.client_id);
        if self.client_id.is_none() {
            return Err(variables.missing("CLIENT_ID"));
        }
        self.client_secret = variables.secret("CLIENT_SECRET")?.or(self.client_secret);
        let sends_one = matches!(self.method, Method::Post | Method::Basic(_));
        if sends_one && self.client_secret.is_none() {
            return Err(variables.missing("CLIENT_SECRET"));
        }
        if let Some(url) = variables.text("TOKEN_URL")? {
            self = self.token_url(url);
        }
        self.api_origins.extend(variables.list("API_ORIGINS")?);
        self.parameters.scope = variables.text("SCOPE")?.or(self.parameters.scope);
        self.environment = variables.text("ENVIRONMENT")?.or(self.environment);
        Ok(self)
    }
}

/// The method that the variables name, or the one that the builder has.
fn method(variables: &Variables<'_>, given: Method) -> Result<Method, ConfigError> {
    let encoding = variables.one_of(
        "BASIC_ENCODING",
        &[("percent", BasicEncoding::Percent), ("form", BasicEncoding::Form), ("raw", BasicEncoding::Raw)],
    )?;
    let named = variables.one_of(
        "CLIENT_AUTHENTICATION",
        &[
            ("client_secret_post", Named::Post),
            ("client_secret_basic", Named::Basic),
            ("private_key_jwt", Named::PrivateKeyJwt),
            ("tls_client_auth", Named::MutualTls),
            ("self_signed_tls_client_auth", Named::MutualTls),
        ],
    )?;
    let method = match (named, given) {
        #[cfg(feature = "private-key-jwt")]
        (None, given @ Method::PrivateKeyJwt(_)) => private_key_jwt(variables, given)?,
        (None, given) => given,
        (Some(Named::Post), _) => Method::Post,
        (Some(Named::Basic), Method::Basic(given)) => Method::Basic(given),
        (Some(Named::Basic), _) => Method::Basic(BasicEncoding::default()),
        (Some(Named::PrivateKeyJwt), given) => private_key_jwt(variables, given)?,
        (Some(Named::MutualTls), _) => Method::MutualTls,
    };
    if !method.signs() {
        // Whoever set one means to sign; a weaker proof would go out in its place.
        for what in ["PRIVATE_KEY", "PRIVATE_KEY_ALGORITHM", "PRIVATE_KEY_ID", "ASSERTION_AUDIENCE"] {
            if variables.is_set(what) {
                return Err(variables.refused(what, "it is for private_key_jwt, which is not chosen"));
            }
        }
    }
    match (method, encoding) {
        (Method::Basic(_), Some(encoding)) => Ok(Method::Basic(encoding)),
        (_, Some(_)) => Err(variables.refused("BASIC_ENCODING", "it is for client_secret_basic, which is not chosen")),
        (method, None) => Ok(method),
    }
}

/// The key that the variables name, or the one that the builder has.
#[cfg(feature = "private-key-jwt")]
fn private_key_jwt(variables: &Variables<'_>, given: Method) -> Result<Method, ConfigError> {
    let algorithm = variables.one_of(
        "PRIVATE_KEY_ALGORITHM",
        &[
            ("RS256", SigningAlgorithm::Rs256),
            ("PS256", SigningAlgorithm::Ps256),
            ("ES256", SigningAlgorithm::Es256),
            ("EdDSA", SigningAlgorithm::EdDsa),
        ],
    )?;
    let mut signer = match (variables.secret("PRIVATE_KEY")?, algorithm, given) {
        (Some(key), Some(algorithm), Method::PrivateKeyJwt(signer)) => signer.with_key(algorithm, key),
        (Some(key), Some(algorithm), _) => PrivateKeyJwt::new(algorithm, key),
        (None, None, Method::PrivateKeyJwt(signer)) => signer,
        (None, ..) => return Err(variables.missing("PRIVATE_KEY")),
        (Some(_), None, _) => return Err(variables.missing("PRIVATE_KEY_ALGORITHM")),
    };
    if let Some(id) = variables.text("PRIVATE_KEY_ID")? {
        signer = signer.key_id(id);
    }
    if let Some(audience) = variables.text("ASSERTION_AUDIENCE")? {
        signer = signer.audience(audience);
    }
    Ok(Method::PrivateKeyJwt(signer))
}

#[cfg(not(feature = "private-key-jwt"))]
fn private_key_jwt(variables: &Variables<'_>, _: Method) -> Result<Method, ConfigError> {
    Err(variables.refused("CLIENT_AUTHENTICATION", "the feature `private-key-jwt`, which signs, is off"))
}

#[derive(Clone, Copy)]
enum Named {
    Post,
    Basic,
    PrivateKeyJwt,
    MutualTls,
}
