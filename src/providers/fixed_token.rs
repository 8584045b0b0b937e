//! A token that is known in advance.

use std::time::Duration;

use crate::error::Error;
use crate::provider::{FetchContext, TokenProvider};
use crate::token::IssuedToken;

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A token that is known in advance, for development and for tests of your own service.
///
/// It counts as valid for 24 hours and is then returned again.
///
/// If an API rejects it, there is no new token:
///
/// - After a 401 with `invalid_token`, the first caller gets the 401. During the backoff, requests fail with
///   [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and are not sent. After it, the token is used again.
/// - After a 401 that does not name a reason, the token is used again, and every caller gets the 401.
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
    /// As [`IssuedToken::bearer`].
    pub fn new(token: impl AsRef<str>) -> Result<Self, Error> {
        let token = IssuedToken::bearer(token)?.expires_in(LIFETIME);
        Ok(Self { token })
    }
}

impl TokenProvider for FixedToken {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        Ok(self.token.clone())
    }
}
