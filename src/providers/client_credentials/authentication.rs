//! Client authentication (RFC 6749 section 2.3): how the client proves its identity to the issuer.

use std::fmt;

use http::HeaderValue;

#[cfg(feature = "private-key-jwt")]
use super::assertion::PrivateKeyJwt;
use super::basic::BasicEncoding;
use crate::error::{ConfigError, Error};
use crate::providers::check;
use crate::providers::secret::Secret;
use crate::providers::secret_value::SecretValue;

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) const CLIENT_ASSERTION: &str = "client_assertion";

pub(super) enum Authentication {
    /// `client_secret_post`: id and secret in the form (RFC 6749 section 2.3.1).
    Post(Secret),
    /// `client_secret_basic`: id and secret in a header (RFC 6749 section 2.3.1).
    Basic(Secret, BasicEncoding),
    /// `private_key_jwt`: an assertion that the client signs (RFC 7523 section 2.2).
    #[cfg(feature = "private-key-jwt")]
    PrivateKeyJwt(PrivateKeyJwt),
    /// An assertion that somebody else signs (RFC 7521 section 4.2, RFC 7523 section 2.2).
    ClientAssertion(Secret),
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 section 2): a client certificate.
    MutualTls,
}

/// What one token request carries. A client uses one method for each request (RFC 6749 section 2.3), so there is a
/// header or there are fields.
#[derive(Default)]
pub(super) struct Proof {
    pub(super) header: Option<HeaderValue>,
    pub(super) fields: Vec<(&'static str, SecretValue)>,
    /// The encoding to try if the issuer rejects the credentials.
    pub(super) other_encoding: Option<BasicEncoding>,
}

impl Proof {
    /// RFC 7521 section 4.2: the id is optional. Some issuers require it.
    fn assertion(id: (&'static str, SecretValue), assertion: SecretValue) -> Self {
        let assertion_type = SecretValue::from(ASSERTION_TYPE);
        let fields = vec![id, ("client_assertion_type", assertion_type), (CLIENT_ASSERTION, assertion)];
        Self { fields, ..Self::default() }
    }
}

impl Authentication {
    /// Sets the token URL. An assertion names it as its audience.
    #[cfg(feature = "private-key-jwt")]
    pub(super) fn addressed_to(self, token_url: &str) -> Self {
        match self {
            Self::PrivateKeyJwt(signer) => Self::PrivateKeyJwt(signer.addressed_to(token_url)),
            other => other,
        }
    }

    #[cfg(not(feature = "private-key-jwt"))]
    pub(super) fn addressed_to(self, _: &str) -> Self {
        self
    }

    /// The proof for one request. Secrets are loaded again each time, because they can change.
    pub(super) async fn proof(&self, client_id: &str) -> Result<Proof, Error> {
        let id = || ("client_id", SecretValue::from(client_id));
        match self {
            Self::Post(secret) => {
                let secret = load("client_secret", secret).await?;
                Ok(Proof { fields: vec![id(), ("client_secret", secret)], ..Proof::default() })
            }
            Self::Basic(secret, encoding) => {
                let secret = load("client_secret", secret).await?;
                let header = encoding.header(client_id, secret.expose_secret())?;
                let other_encoding = encoding.alternative(client_id, secret.expose_secret());
                Ok(Proof { header: Some(header), other_encoding, ..Proof::default() })
            }
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(signer) => Ok(Proof::assertion(id(), signer.assertion(client_id).await?)),
            Self::ClientAssertion(assertion) => Ok(Proof::assertion(id(), load(CLIENT_ASSERTION, assertion).await?)),
            // RFC 8705 section 2: the issuer uses the id to look up the client's certificate.
            Self::MutualTls => Ok(Proof { fields: vec![id()], ..Proof::default() }),
        }
    }

    /// Why the file of the secret or of the assertion could not be read for the latest request.
    pub(super) fn file_error(&self) -> Option<ConfigError> {
        match self {
            Self::Post(secret) | Self::Basic(secret, _) | Self::ClientAssertion(secret) => secret.last_error(),
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(signer) => signer.file_error(),
            Self::MutualTls => None,
        }
    }

    /// The name in the identity of a shared token.
    #[cfg(feature = "shared")]
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::ClientAssertion(_) => CLIENT_ASSERTION,
            _ => self.names()[0],
        }
    }

    /// Whether each process has a proof of its own, so that the issuer may reject that of one process alone: an assertion
    /// from a file, or the client certificate of an HTTP client.
    pub(super) fn is_of_one_process(&self) -> bool {
        matches!(self, Self::ClientAssertion(_) | Self::MutualTls)
    }

    /// The names in the registry of RFC 8414 section 2. Mutual TLS has two.
    pub(super) fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Post(_) => &["client_secret_post"],
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(_) => &["private_key_jwt"],
            Self::Basic(..) => &["client_secret_basic"],
            // The issuer's names for both kinds of signature.
            Self::ClientAssertion(_) => &["private_key_jwt", "client_secret_jwt"],
            Self::MutualTls => &["tls_client_auth", "self_signed_tls_client_auth"],
        }
    }
}

async fn load(setting: &str, secret: &Secret) -> Result<SecretValue, Error> {
    let value = secret.load().await?;
    check::secret_value(setting, &value)?;
    Ok(value)
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post(secret) => f.debug_tuple("Post").field(secret).finish(),
            Self::Basic(secret, encoding) => f.debug_tuple("Basic").field(secret).field(encoding).finish(),
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(signer) => signer.fmt(f),
            Self::ClientAssertion(assertion) => f.debug_tuple("ClientAssertion").field(assertion).finish(),
            Self::MutualTls => f.write_str("MutualTls"),
        }
    }
}
