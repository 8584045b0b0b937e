//! The token endpoint of a provider, from the settings that all builders have.

use std::time::Duration;

use crate::error::ConfigError;
use crate::token_endpoint::{TokenClient, TokenEndpoint, check_timeout};

/// The endpoint at `url`. `setting` is the name of the URL's setting in errors.
pub(super) fn token_endpoint(
    setting: &str,
    url: &str,
    client: Option<TokenClient>,
    timeout: Option<Duration>,
) -> Result<TokenEndpoint, ConfigError> {
    let client = client.map_or_else(default_client, Ok)?;
    let endpoint = TokenEndpoint::new(url, client).map_err(|error| error.with_setting(setting))?;
    match timeout {
        Some(timeout) => {
            check_timeout("timeout", timeout)?;
            Ok(endpoint.timeout(timeout))
        }
        None => Ok(endpoint),
    }
}

/// The HTTP client of a provider if its builder has none.
#[cfg(feature = "http-client")]
pub(super) fn default_client() -> Result<TokenClient, ConfigError> {
    crate::token_endpoint::HttpClient::new().map(TokenClient::new)
}

#[cfg(not(feature = "http-client"))]
pub(super) fn default_client() -> Result<TokenClient, ConfigError> {
    Err(ConfigError::new("http_client", "it is missing")
        .with_hint("set one, or turn on the feature `http-client`, which provides one"))
}
