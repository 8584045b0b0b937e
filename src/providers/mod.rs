//! The providers of this crate.

#[cfg(feature = "access-psp")]
mod access_psp;
#[cfg(feature = "aeropay")]
pub mod aeropay;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod check;
#[cfg(feature = "client-credentials")]
mod client_credentials;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod env;
mod fixed_token;
mod from_fn;
mod secret;

#[cfg(feature = "access-psp")]
pub use self::access_psp::{AccessPsp, AccessPspBuilder};
#[cfg(feature = "client-credentials")]
pub use self::client_credentials::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder};
#[cfg(feature = "private-key-jwt")]
pub use self::client_credentials::{PrivateKeyJwt, SigningAlgorithm};
pub use self::fixed_token::FixedToken;
pub use self::from_fn::{FromFn, from_fn};
pub use self::secret::Secret;

#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
use crate::error::ConfigError;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
use crate::token_endpoint::TokenClient;

/// The client of a provider whose builder was given none.
#[cfg(all(any(feature = "client-credentials", feature = "aeropay"), feature = "http-client"))]
fn default_client() -> Result<TokenClient, ConfigError> {
    crate::token_endpoint::HttpClient::new().map(TokenClient::new)
}

#[cfg(all(any(feature = "client-credentials", feature = "aeropay"), not(feature = "http-client")))]
fn default_client() -> Result<TokenClient, ConfigError> {
    Err(ConfigError::new("http_client", "it is missing, and the feature `http-client`, which provides one, is off"))
}

#[cfg(all(feature = "private-key-jwt", feature = "http-client"))]
#[cfg(test)]
mod tests;
