//! The providers that this crate brings.

#[cfg(feature = "access-psp")]
mod access_psp;
mod authentication;
mod check;
mod client_credentials;
mod client_credentials_builder;
mod env;

#[cfg(feature = "access-psp")]
pub use self::access_psp::{AccessPsp, AccessPspBuilder};
pub use self::client_credentials::ClientCredentials;
pub use self::client_credentials_builder::ClientCredentialsBuilder;

#[cfg(test)]
mod tests;
