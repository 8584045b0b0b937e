//! A token that is known in advance.

use std::time::Duration;

use crate::error::{ConfigError, Error};
use crate::provider::{FetchContext, TokenProvider};
use crate::token::IssuedToken;

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A token that is known in advance, for development and for tests of your own service.
///
/// It counts as valid for 24 hours and is then returned again.
///
/// If an API rejects it, there is no new token. Requests are still stamped with it, and every caller gets the 401.
#[derive(Clone, Debug)]
#[doc(alias = "static")]
pub struct FixedToken {
    token: IssuedToken,
}

impl FixedToken {
    /// A provider that always returns `token`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the token is empty or has a character other than visible ASCII, as for [`IssuedToken::bearer`].
    pub fn new(token: impl AsRef<str>) -> Result<Self, ConfigError> {
        let token = IssuedToken::bearer(token).map_err(|_| {
            ConfigError::new("token", "it is empty or has a character other than visible ASCII")
                .with_hint("pass the token without `Bearer`")
        })?;
        Ok(Self { token: token.expires_in(LIFETIME) })
    }
}

impl TokenProvider for FixedToken {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        Ok(self.token.clone())
    }
}
