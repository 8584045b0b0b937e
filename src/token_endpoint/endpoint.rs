//! A token endpoint: its URL, checked before a secret is sent to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::token_client::TokenClient;
use crate::error::ConfigError;
use crate::message::{absolute_url, is_loopback};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A token endpoint, and the HTTP client that sends requests to it. Cloning shares the client.
///
/// `Debug` prints only the origin of the URL, because the path and the query may contain secrets.
#[derive(Clone)]
pub struct TokenEndpoint {
    pub(super) url: Uri,
    pub(super) origin: Arc<str>,
    pub(super) client: TokenClient,
    pub(super) timeout: Duration,
}

impl TokenEndpoint {
    /// An endpoint at `token_url`: an absolute https URL without a fragment (RFC 6749 section 3.2). A query is kept.
    /// http is accepted only for loopback addresses.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] about `token_url` for any other URL: another scheme, no host, a user name, a fragment, a control
    /// character, or http to an address that is not loopback. It does not contain the URL.
    pub fn new(token_url: &str, client: impl Into<TokenClient>) -> Result<Self, ConfigError> {
        let (url, origin) = parse(token_url)?;
        Ok(Self { url, origin: origin.into(), client: client.into(), timeout: DEFAULT_TIMEOUT })
    }

    /// Sets how long a call may take, from its start to the last byte of the response. The default is 10 seconds.
    ///
    /// Set it to less than the source's [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout) (12 seconds by
    /// default), so that the error names the issuer. [`call`](Self::call) fails if it is zero.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[cfg(all(feature = "shared", any(feature = "client-credentials", feature = "aeropay")))]
    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// Scheme, host and port of the token URL.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Checks a timeout.
pub(crate) fn check_timeout(setting: &str, timeout: Duration) -> Result<(), ConfigError> {
    match timeout.is_zero() {
        true => Err(ConfigError::new(setting, "it is zero").with_hint("set a timeout that is longer than zero")),
        false => Ok(()),
    }
}

fn parse(text: &str) -> Result<(Uri, String), ConfigError> {
    let (url, https) = absolute_url(text).map_err(|reason| ConfigError::new("token_url", reason))?;
    if !https && !url.host().is_some_and(is_loopback) {
        return Err(ConfigError::new("token_url", "it would send the secret in clear text")
            .with_hint("use https; http is only for loopback addresses"));
    }
    let origin = origin_of(&url).unwrap_or_default();
    Ok((url, origin))
}

/// Scheme, host and port of an absolute URL. `None` if the URL has no host, or has a user name.
pub(super) fn origin_of(url: &Uri) -> Option<String> {
    let (scheme, authority) = (url.scheme()?, url.authority()?);
    if authority.as_str().contains('@') {
        return None;
    }
    Some(format!("{scheme}://{authority}").to_ascii_lowercase())
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("origin", &self.origin)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
