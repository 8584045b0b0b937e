//! Client authentication (RFC 6749 section 2.3): how the client proves its identity to the issuer.

use std::fmt;

use http::HeaderValue;

#[cfg(feature = "private-key-jwt")]
use super::assertion::{ASSERTION_TYPE, PrivateKeyJwt};
use super::basic::BasicEncoding;
use crate::error::Error;
use crate::providers::check;
use crate::providers::secret::Secret;
use crate::providers::secret_value::SecretValue;

pub(super) enum Authentication {
    /// `client_secret_post`: id and secret in the form (RFC 6749 section 2.3.1).
    Post(Secret),
    /// `client_secret_basic`: id and secret in a header (RFC 6749 section 2.3.1).
    Basic(Secret, BasicEncoding),
    /// `private_key_jwt`: an assertion that the client signs (RFC 7523 section 2.2).
    #[cfg(feature = "private-key-jwt")]
    PrivateKeyJwt(PrivateKeyJwt),
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
                let secret = load(secret).await?;
                Ok(Proof { fields: vec![id(), ("client_secret", secret)], ..Proof::default() })
            }
            Self::Basic(secret, encoding) => {
                let secret = load(secret).await?;
                let header = encoding.header(client_id, secret.expose_secret())?;
                let other_encoding = encoding.alternative(client_id, secret.expose_secret());
                Ok(Proof { header: Some(header), other_encoding, ..Proof::default() })
            }
            // RFC 7521 section 4.2: the id is optional. Some issuers require it.
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(signer) => {
                let assertion = signer.assertion(client_id).await?;
                let assertion_type = SecretValue::from(ASSERTION_TYPE);
                let fields = vec![id(), ("client_assertion_type", assertion_type), ("client_assertion", assertion)];
                Ok(Proof { fields, ..Proof::default() })
            }
            // RFC 8705 section 2: the issuer uses the id to look up the client's certificate.
            Self::MutualTls => Ok(Proof { fields: vec![id()], ..Proof::default() }),
        }
    }

    /// The names in the registry of RFC 8414 section 2. Mutual TLS has two.
    pub(super) fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Post(_) => &["client_secret_post"],
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(_) => &["private_key_jwt"],
            Self::Basic(..) => &["client_secret_basic"],
            Self::MutualTls => &["tls_client_auth", "self_signed_tls_client_auth"],
        }
    }
}

async fn load(secret: &Secret) -> Result<SecretValue, Error> {
    let value = secret.load().await?;
    check::secret_value("client_secret", &value)?;
    Ok(value)
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post(secret) => f.debug_tuple("Post").field(secret).finish(),
            Self::Basic(secret, encoding) => f.debug_tuple("Basic").field(secret).field(encoding).finish(),
            #[cfg(feature = "private-key-jwt")]
            Self::PrivateKeyJwt(signer) => signer.fmt(f),
            Self::MutualTls => f.write_str("MutualTls"),
        }
    }
}
