//! How a client proves to the issuer who it is (RFC 6749 section 2.3).

use std::fmt;

use secrecy::SecretString;

use super::check;
use crate::error::Error;
use crate::provider::Secret;

pub(super) enum Authentication {
    /// `client_secret_post`: both in the form (RFC 6749 section 2.3.1).
    Post(Secret),
}

impl Authentication {
    /// What the token request's form says beside the grant. Asked anew at every fetch, since secrets rotate.
    pub(super) async fn fields(&self, client_id: &str) -> Result<Vec<(&'static str, SecretString)>, Error> {
        match self {
            Self::Post(secret) => {
                let secret = secret.load().await?;
                check::secret("client_secret", &secret)?;
                Ok(vec![("client_id", SecretString::from(client_id)), ("client_secret", secret)])
            }
        }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post(secret) => f.debug_tuple("Post").field(secret).finish(),
        }
    }
}
