//! Which token URL of the issuer's metadata (RFC 8414) a client uses.

use super::authentication::Authentication;
use crate::error::ConfigError;
use crate::token_endpoint::Metadata;

/// The methods in the registry of RFC 8414 section 2. An error repeats no other name from an issuer's list.
const REGISTERED_METHODS: [&str; 7] = [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "none",
];

/// The token URL for an authentication method.
///
/// # Errors
///
/// [`ConfigError`] if the issuer does not list the method, or has no usable URL for it.
pub(super) fn token_url(metadata: Metadata, authentication: &Authentication) -> Result<String, ConfigError> {
    let names = authentication.names();
    if let Some(methods) = &metadata.methods
        && !methods.iter().any(|method| names.contains(&method.as_str()))
    {
        let listed: Vec<&str> = REGISTERED_METHODS
            .into_iter()
            .filter(|registered| methods.iter().any(|method| method == registered))
            .collect();
        let reason = format!("the issuer's metadata does not list {}", names.join(" or "));
        let hint = match listed.is_empty() {
            true => String::from("it lists no registered method"),
            false => format!("use a method that it lists: {}", listed.join(", ")),
        };
        return Err(ConfigError::new("client_authentication", reason).with_hint(hint));
    }
    match (authentication, metadata.mutual_tls_token_url) {
        (Authentication::MutualTls, Some(url)) => url.map_err(|error| {
            ConfigError::new("mutual_tls", "the issuer's metadata has no usable token endpoint for mutual TLS")
                .with_source(error)
        }),
        _ => Ok(metadata.token_url),
    }
}
