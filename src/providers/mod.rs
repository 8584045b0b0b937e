//! The providers that this crate brings.

#[cfg(feature = "access-psp")]
mod access_psp;
#[cfg(feature = "aeropay")]
pub mod aeropay;
mod check;
#[cfg(feature = "client-credentials")]
mod client_credentials;
mod env;

#[cfg(feature = "access-psp")]
pub use self::access_psp::{AccessPsp, AccessPspBuilder};
#[cfg(feature = "client-credentials")]
pub use self::client_credentials::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder};
#[cfg(feature = "private-key-jwt")]
pub use self::client_credentials::{PrivateKeyJwt, SigningAlgorithm};

use crate::error::Error;
use crate::exchange::TokenClient;

/// The client of a provider that was given none.
#[cfg(feature = "client")]
fn own_client() -> Result<TokenClient, Error> {
    crate::exchange::HttpClient::new().map(TokenClient::new)
}

#[cfg(not(feature = "client"))]
fn own_client() -> Result<TokenClient, Error> {
    Err(crate::error::refused("http_client", "it is missing, and the feature `client`, which has one, is off"))
}

#[cfg(all(feature = "private-key-jwt", feature = "sandbox"))]
#[cfg(test)]
mod tests;
