//! The client credentials grant (RFC 6749 section 4.4): a client that acts for itself.
//!
//! | file | contents |
//! | --- | --- |
//! | `provider` | [`ClientCredentials`] |
//! | `builder`, `from_env`, `discover` | [`ClientCredentialsBuilder`]: its settings, from environment variables, from metadata |
//! | `authentication`, `basic`, `assertion`, `certificate` | how the client proves its identity |
//! | `parameters`, `target_api` | the scope, and other parameters of a token request: those of the provider, and those of a request |
//! | `token_url` | which token URL of the issuer's metadata is used |

#[cfg(feature = "private-key-jwt")]
mod assertion;
mod authentication;
mod basic;
mod builder;
#[cfg(feature = "private-key-jwt")]
mod certificate;
mod discover;
mod from_env;
#[cfg(feature = "shared")]
mod identity;
mod parameters;
mod provider;
mod target_api;
mod token_url;

#[cfg(feature = "private-key-jwt")]
pub use self::assertion::{PrivateKeyJwt, SigningAlgorithm};
pub use self::basic::BasicEncoding;
pub use self::builder::ClientCredentialsBuilder;
pub use self::provider::ClientCredentials;
pub use self::target_api::TargetApi;

#[cfg(all(test, feature = "http-client"))]
mod tests;
