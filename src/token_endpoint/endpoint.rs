//! Where the token request goes: a URL that was looked at before a secret is sent there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::service::TokenClient;
use crate::error::ConfigError;
use crate::message::{absolute_url, is_loopback};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A token endpoint and the HTTP service that reaches it. Cloning shares the service.
///
/// `Debug` shows the URL's origin: a path or a query may hold what is nobody's business.
#[derive(Clone)]
pub struct TokenEndpoint {
    pub(super) url: Uri,
    pub(super) origin: Arc<str>,
    pub(super) client: TokenClient,
    pub(super) timeout: Duration,
}

impl TokenEndpoint {
    /// Checks `token_url` (RFC 6749 section 3.2: absolute, TLS, no fragment; a query is kept).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] that begins with `token_url`, for what is no such URL: another scheme, no host, a user name,
    /// a fragment, a control character. [`ErrorKind::InsecureUrl`] for http to anything but loopback. Neither repeats the
    /// URL.
    pub fn new(token_url: &str, client: TokenClient) -> Result<Self, ConfigError> {
        let (url, origin) = parse(token_url)?;
        Ok(Self { url, origin: origin.into(), client, timeout: DEFAULT_TIMEOUT })
    }

    /// Sets how long a call may take, from its start until the answer's last byte. 10 seconds by default.
    ///
    /// Keep it below the source's `fetch_timeout` (12 seconds by default), so that the error names the cause.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for zero.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        if timeout.is_zero() {
            return Err(ConfigError::new("timeout", "it has to be longer than zero"));
        }
        self.timeout = timeout;
        Ok(self)
    }

    /// Scheme, host and port of the token URL.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

fn parse(text: &str) -> Result<(Uri, String), ConfigError> {
    let (url, https) = absolute_url(text).map_err(|why| ConfigError::new("token_url", why))?;
    if !https && !url.host().is_some_and(is_loopback) {
        return Err(ConfigError::new("token_url", "it would send the secret in clear text")
            .with_hint("use https; http is for loopback alone"));
    }
    let origin = origin_of(&url).unwrap_or_default();
    Ok((url, origin))
}

/// Scheme, host and port of an absolute URL; `None` where it has none, or a user name in front of it.
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
