//! What a setting has to look like. Every error names the setting, and none repeats its value.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::error::ConfigError;
#[cfg(feature = "client-credentials")]
use crate::message::Origins;

/// Headers that HTTP itself, this crate or its proxy's tunnel sets, and what would have an answer that nobody decodes.
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

pub(super) fn text(field: &str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() {
        return Err(ConfigError::new(field, "it is empty"));
    }
    if value.chars().any(char::is_control) {
        return Err(ConfigError::new(field, "it has a control character"));
    }
    Ok(())
}

pub(super) fn secret(field: &str, value: &SecretString) -> Result<(), ConfigError> {
    text(field, value.expose_secret())
}

pub(super) fn header_name(field: &str, name: &str) -> Result<HeaderName, ConfigError> {
    let name =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| ConfigError::new(field, "the name is no header name"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(ConfigError::new(field, "the name is one that HTTP or this crate sets itself"));
    }
    Ok(name)
}

/// As [`header_name`], for a header that goes beside the token.
#[cfg(feature = "client-credentials")]
pub(super) fn api_header_name(field: &str, name: &str) -> Result<HeaderName, ConfigError> {
    match header_name(field, name)? {
        http::header::AUTHORIZATION => Err(ConfigError::new(field, "that header carries the token")),
        name => Ok(name),
    }
}

/// A header value marked sensitive, in a buffer that is wiped.
pub(super) fn header_value(field: &str, value: &SecretString) -> Result<HeaderValue, ConfigError> {
    secret(field, value)?;
    let bytes = Zeroizing::new(value.expose_secret().as_bytes().to_vec());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| ConfigError::new(field, "the value does not fit into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(feature = "client-credentials")]
pub(super) fn origins(field: &str, texts: &[String]) -> Result<Origins, ConfigError> {
    texts
        .iter()
        .try_fold(Origins::none(), |origins, text| origins.allow(text.trim()).map_err(|error| error.for_setting(field)))
}
