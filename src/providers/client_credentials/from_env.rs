//! [`ClientCredentialsBuilder::from_env`]: the settings from environment variables.

#[cfg(feature = "private-key-jwt")]
use super::assertion::PrivateKeyJwt;
use super::authentication::CLIENT_ASSERTION;
use super::basic::BasicEncoding;
use super::builder::{ClientCredentialsBuilder, Method};
use crate::error::ConfigError;
use crate::providers::env::{Variables, process};
use crate::providers::names;

impl ClientCredentialsBuilder {
    /// Reads the settings that are set in environment variables.
    ///
    /// | variable | setting |
    /// | --- | --- |
    /// | `PREFIX_CLIENT_ID`, `PREFIX_CLIENT_SECRET` | as named; required if the builder does not have them (the secret only if the method sends one) |
    /// | `PREFIX_TOKEN_URL`, `PREFIX_API_ORIGINS` (separated by commas) | as named; required if the builder does not have them |
    /// | `PREFIX_SCOPE`, `PREFIX_AUDIENCE`, `PREFIX_LABEL` | as named |
    /// | `PREFIX_RESOURCES` (separated by commas) | [`resource`](Self::resource), added to those of the builder |
    /// | `PREFIX_CLIENT_AUTHENTICATION` | the method: `client_secret_post`, `client_secret_basic`, `private_key_jwt`, `client_assertion`, `tls_client_auth` or `self_signed_tls_client_auth`; the default is the builder's method |
    /// | `PREFIX_BASIC_ENCODING` | `percent`, `form` or `raw`, for `client_secret_basic` |
    /// | `PREFIX_PRIVATE_KEY`, `PREFIX_PRIVATE_KEY_ALGORITHM` (`RS256`, `PS256`, `ES256` or `EdDSA`) | the PEM key and its algorithm, for `private_key_jwt`; required if the builder does not have them |
    /// | `PREFIX_PRIVATE_KEY_ID`, `PREFIX_PRIVATE_KEY_CERTIFICATE`, `PREFIX_ASSERTION_AUDIENCE` | the key id, the certificate (PEM, for `x5t#S256`) and the audience, for `private_key_jwt`; optional |
    /// | `PREFIX_CLIENT_ASSERTION` | the ready-made assertion, for [`client_assertion`](Self::client_assertion); usually `PREFIX_CLIENT_ASSERTION_FILE`, because it expires; required if the builder does not have it |
    ///
    /// Each variable is `NAME`, or `NAME_FILE` with the path of a file that contains the value. One trailing newline is
    /// removed. This method reads the files, which blocks. The files of a secret, an assertion, a private key and a certificate
    /// are read again for each fetch. Variables with other names are ignored.
    ///
    /// A variable replaces what is set before this call. What is set after this call replaces the variable. Origins and
    /// resources are always added. A setting of the builder counts as set only if it was set before this call.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the name of the variable, and the path if there is one. It does not contain the value. It
    /// is returned if both `NAME` and `NAME_FILE` are set, if a value is empty or not UTF-8, if a file cannot be read,
    /// if a required variable is missing, and if a variable belongs to a method that is not set.
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
        self.label = variables.text("LABEL")?.or(self.label);
        self.parameters.resources.extend(variables.list("RESOURCES")?);
        self.read(variables)
    }

    /// Reads the settings that AccessPSP has too.
    pub(in crate::providers) fn read(mut self, variables: &Variables<'_>) -> Result<Self, ConfigError> {
        self.client_id = variables.text("CLIENT_ID")?.or(self.client_id);
        if self.client_id.is_none() {
            return Err(variables.missing("CLIENT_ID"));
        }
        self.client_secret = variables.secret("CLIENT_SECRET")?.or(self.client_secret);
        let sends_secret = matches!(self.method, Method::Post | Method::Basic(_));
        if sends_secret && self.client_secret.is_none() {
            return Err(variables.missing("CLIENT_SECRET"));
        }
        if let Some(url) = variables.text("TOKEN_URL")? {
            self = self.token_url(url);
        }
        self.api_origins.extend(variables.list("API_ORIGINS")?);
        self.parameters.scope = variables.text("SCOPE")?.or(self.parameters.scope);
        Ok(self)
    }
}

const AUTHENTICATION: &str = "CLIENT_AUTHENTICATION";
const ASSERTION: &str = "CLIENT_ASSERTION";
const SIGNING: [&str; 5] =
    ["PRIVATE_KEY", "PRIVATE_KEY_ALGORITHM", "PRIVATE_KEY_ID", "PRIVATE_KEY_CERTIFICATE", "ASSERTION_AUDIENCE"];

/// The method in the variables, or else the builder's.
fn method(variables: &Variables<'_>, current: Method) -> Result<Method, ConfigError> {
    let encoding = variables.parse::<BasicEncoding>("BASIC_ENCODING")?;
    let name = variables.text(AUTHENTICATION)?;
    let named = name.map(|name| MethodName::find(&variables.name(AUTHENTICATION), &name)).transpose()?;
    let method = match (named, current) {
        #[cfg(feature = "private-key-jwt")]
        (None, current @ Method::PrivateKeyJwt(_)) => private_key_jwt(variables, current)?,
        (None, current @ Method::ClientAssertion(_)) => client_assertion(variables, current)?,
        (None, current) => current,
        (Some(MethodName::Post), _) => Method::Post,
        (Some(MethodName::Basic), Method::Basic(current)) => Method::Basic(current),
        (Some(MethodName::Basic), _) => Method::Basic(BasicEncoding::default()),
        (Some(MethodName::PrivateKeyJwt), current) => private_key_jwt(variables, current)?,
        (Some(MethodName::ClientAssertion), current) => client_assertion(variables, current)?,
        (Some(MethodName::MutualTls), _) => Method::MutualTls,
    };
    if !method.signs() {
        // A key that is set and not used is an error. Otherwise a weaker method would be used without notice.
        for suffix in SIGNING {
            if variables.is_set(suffix) {
                return Err(needs_method(variables, suffix, "private_key_jwt"));
            }
        }
    }
    if !matches!(method, Method::ClientAssertion(_)) && variables.is_set(ASSERTION) {
        return Err(needs_method(variables, ASSERTION, CLIENT_ASSERTION));
    }
    match (method, encoding) {
        (Method::Basic(_), Some(encoding)) => Ok(Method::Basic(encoding)),
        (_, Some(_)) => Err(needs_method(variables, "BASIC_ENCODING", "client_secret_basic")),
        (method, None) => Ok(method),
    }
}

/// The error for a variable of a method that is not set.
fn needs_method(variables: &Variables<'_>, suffix: &str, method: &str) -> ConfigError {
    variables
        .error(suffix, &format!("it requires the method {method}, which is not set"))
        .with_hint(format!("set {} to {method}, or remove this variable", variables.name(AUTHENTICATION)))
}

/// The ready-made assertion in the variables, or else the builder's.
fn client_assertion(variables: &Variables<'_>, current: Method) -> Result<Method, ConfigError> {
    match (variables.secret(ASSERTION)?, current) {
        (Some(assertion), _) => Ok(Method::ClientAssertion(assertion)),
        (None, current @ Method::ClientAssertion(_)) => Ok(current),
        (None, _) => Err(variables.missing(ASSERTION)),
    }
}

/// The private key in the variables, or else the builder's.
#[cfg(feature = "private-key-jwt")]
fn private_key_jwt(variables: &Variables<'_>, current: Method) -> Result<Method, ConfigError> {
    let algorithm = variables.parse("PRIVATE_KEY_ALGORITHM")?;
    let mut signer = match (variables.secret("PRIVATE_KEY")?, algorithm, current) {
        (Some(key), Some(algorithm), Method::PrivateKeyJwt(signer)) => signer.with_key(algorithm, key),
        (Some(key), Some(algorithm), _) => PrivateKeyJwt::new(algorithm, key),
        (None, None, Method::PrivateKeyJwt(signer)) => signer,
        (None, ..) => return Err(variables.missing("PRIVATE_KEY")),
        (Some(_), None, _) => return Err(variables.missing("PRIVATE_KEY_ALGORITHM")),
    };
    if let Some(id) = variables.text("PRIVATE_KEY_ID")? {
        signer = signer.key_id(id);
    }
    if let Some(certificate) = variables.secret("PRIVATE_KEY_CERTIFICATE")? {
        signer = signer.certificate(certificate);
    }
    if let Some(audience) = variables.text("ASSERTION_AUDIENCE")? {
        signer = signer.audience(audience);
    }
    Ok(Method::PrivateKeyJwt(signer))
}

#[cfg(not(feature = "private-key-jwt"))]
fn private_key_jwt(variables: &Variables<'_>, _: Method) -> Result<Method, ConfigError> {
    Err(variables
        .error(AUTHENTICATION, "the feature `private-key-jwt` is off")
        .with_hint("turn it on, or use another method"))
}

/// The methods in the registry of RFC 8414 section 2, and one for an assertion that somebody else signs.
#[derive(Clone, Copy)]
enum MethodName {
    Post,
    Basic,
    PrivateKeyJwt,
    ClientAssertion,
    MutualTls,
}

impl MethodName {
    fn find(setting: &str, name: &str) -> Result<Self, ConfigError> {
        names::find(
            setting,
            name,
            &[
                ("client_secret_post", Self::Post),
                ("client_secret_basic", Self::Basic),
                ("private_key_jwt", Self::PrivateKeyJwt),
                (CLIENT_ASSERTION, Self::ClientAssertion),
                ("tls_client_auth", Self::MutualTls),
                ("self_signed_tls_client_auth", Self::MutualTls),
            ],
        )
    }
}
