//! The text of a secret.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroize as _;

/// The text of a secret, wiped from memory when it is dropped. `Debug` does not print it.
#[derive(Clone)]
pub struct SecretValue(SecretString);

impl SecretValue {
    /// The text. The caller must keep it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for SecretValue {
    fn from(mut value: String) -> Self {
        let secret = Self::from(value.as_str());
        value.zeroize();
        secret
    }
}

impl From<&str> for SecretValue {
    fn from(value: &str) -> Self {
        Self(SecretString::from(value))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}
