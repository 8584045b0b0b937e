//! Checks of settings. Each error names the setting, and none contains its value.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::secret::Secret;
use super::secret_value::SecretValue;
use crate::error::ConfigError;
#[cfg(feature = "client-credentials")]
use crate::message::Origins;

/// Headers that HTTP, this crate or the proxy's tunnel sets, and headers that request a response this crate cannot
/// decode.
const RESERVED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn missing(setting: &str) -> ConfigError {
    ConfigError::new(setting, "it is missing")
}

pub(super) fn text(setting: &str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() {
        return Err(ConfigError::new(setting, "it is empty"));
    }
    if value.trim().is_empty() {
        return Err(ConfigError::new(setting, "it is blank: it contains only white space"));
    }
    if value.chars().any(char::is_control) {
        return Err(ConfigError::new(setting, "it contains a control character")
            .with_hint("remove it; often it is a line break at the end"));
    }
    Ok(())
}

pub(super) fn default_lifetime(lifetime: Option<Duration>) -> Result<(), ConfigError> {
    match lifetime {
        Some(Duration::ZERO) => Err(ConfigError::new("default_lifetime", "it is zero")
            .with_hint("set the lifetime that the issuer documents, or remove this setting for 5 minutes")),
        _ => Ok(()),
    }
}

/// Checks a value that was loaded.
pub(super) fn secret_value(setting: &str, value: &SecretValue) -> Result<(), ConfigError> {
    text(setting, value.expose_secret())
}

/// Checks a secret, if its value is known before it is loaded.
pub(super) fn secret(setting: &str, secret: &Secret) -> Result<(), ConfigError> {
    secret.peek().map_or(Ok(()), |value| secret_value(setting, &value))
}

/// Loads a secret for a setting that is read once.
#[cfg(feature = "client-credentials")]
pub(super) fn load_once(setting: &str, secret: &Secret) -> Result<SecretValue, ConfigError> {
    secret.load_once().map_err(|error| ConfigError::new(setting, "it could not be loaded").with_source(error))
}

pub(super) fn header_name(setting: &str, name: &str) -> Result<HeaderName, ConfigError> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new(setting, "the name is not a valid header name"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(ConfigError::new(setting, "the name is reserved for HTTP or for this crate"));
    }
    Ok(name)
}

/// As [`header_name`], for a header that accompanies the token.
#[cfg(feature = "client-credentials")]
pub(super) fn api_header_name(setting: &str, name: &str) -> Result<HeaderName, ConfigError> {
    match header_name(setting, name)? {
        http::header::AUTHORIZATION => Err(ConfigError::new(setting, "the Authorization header carries the token")),
        name => Ok(name),
    }
}

/// A header value that is marked sensitive, in a buffer that is wiped.
pub(super) fn header_value(setting: &str, value: &SecretValue) -> Result<HeaderValue, ConfigError> {
    secret_value(setting, value)?;
    let bytes = Zeroizing::new(value.expose_secret().as_bytes().to_vec());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| ConfigError::new(setting, "the value is not a valid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(feature = "client-credentials")]
pub(super) fn origins(setting: &str, texts: &[String]) -> Result<Origins, ConfigError> {
    // A provider has no setting for an origin in clear text, and needs one origin.
    const CLEAR_TEXT: &str = "use https; if the network below encrypts, set the https origin here, and the http origin \
                              with danger_allow_http of BearerAuthLayer";
    texts.iter().try_fold(Origins::none(), |origins, text| {
        origins.allow_or_hint(text.trim(), CLEAR_TEXT).map_err(|error| error.with_setting(setting))
    })
}
