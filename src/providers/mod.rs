//! The providers of this crate, and the secrets that they use.
//!
//! | file | contents |
//! | --- | --- |
//! | `access_psp`, `aeropay`, `client_credentials` | the providers for token endpoints |
//! | `fixed_token`, `from_fn` | a token that is known in advance, and a provider made from a function |
//! | `secret`, `secret_file`, `secret_value` | a secret that may change while the program runs |
//! | `token_endpoint`, `token_headers`, `secret_headers` | what providers for token endpoints have |
//! | `identity_parts` | what distinguishes the tokens of a provider |
//! | `check`, `env`, `names` | helpers of the builders: checks, environment variables, names of enum values |

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
#[cfg(all(feature = "shared", any(feature = "client-credentials", feature = "aeropay")))]
mod identity_parts;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod names;
mod secret;
mod secret_file;
#[cfg(feature = "client-credentials")]
mod secret_headers;
mod secret_value;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod token_endpoint;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod token_headers;

#[cfg(feature = "access-psp")]
pub use self::access_psp::{AccessPsp, AccessPspBuilder};
#[cfg(feature = "client-credentials")]
pub use self::client_credentials::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder, TargetApi};
#[cfg(feature = "private-key-jwt")]
pub use self::client_credentials::{PrivateKeyJwt, SigningAlgorithm};
pub use self::fixed_token::FixedToken;
pub use self::from_fn::{FromFn, from_fn};
#[cfg(all(feature = "shared", any(feature = "client-credentials", feature = "aeropay")))]
pub(crate) use self::identity_parts::IdentityParts;
pub use self::secret::Secret;
pub use self::secret_value::SecretValue;

#[cfg(all(feature = "private-key-jwt", feature = "http-client"))]
#[cfg(test)]
mod tests;
