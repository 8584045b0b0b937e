//! What distinguishes the tokens of a provider, for the feature `shared`.

use super::secret_value::SecretValue;

/// The parts of an identity. Their order matters.
pub(crate) struct IdentityParts {
    pub(crate) issuer: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) credentials: Vec<SecretValue>,
}
