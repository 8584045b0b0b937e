//! What distinguishes the tokens of a provider, and the names of records.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::providers::SecretValue;

/// The version of names. Another way to compute them needs another number.
const FORMAT: &[u8] = b"tower-bearer-auth name 1";

/// A provider whose tokens may leave the process, and what distinguishes them.
///
/// [`ClientCredentials`](crate::ClientCredentials) and [`Aeropay`](crate::Aeropay) implement it, and so does `Arc<P>`. For a
/// provider from [`from_fn`](crate::from_fn), call `identified_by`.
///
/// An implementation for a provider of your own returns everything that makes a token another token: issuer, client, scope,
/// audience, the key, the credentials, and how the client authenticates if that is a setting. If two tokens that differ have the same identity, one process gets the token of
/// another tenant.
///
/// ```
/// use tower_bearer_auth::shared::{Identity, Shareable};
/// use tower_bearer_auth::{Error, ExtensionKey, FetchContext, IssuedToken, Secret, TokenProvider};
///
/// struct Tenants {
///     secret: Secret,
/// }
///
/// impl TokenProvider for Tenants {
///     type Key = ExtensionKey<u32>;
///
///     async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
///         # let _ = key;
///         // Request the token of the tenant from the issuer here.
///         IssuedToken::bearer("opaque-token")
///     }
/// }
///
/// impl Shareable for Tenants {
///     async fn identity(&self, key: &Self::Key) -> Result<Identity, Error> {
///         Ok(Identity::new("https://issuer.example/token")
///             .field("client", "orders")
///             .field("tenant", key.0.to_string())
///             .credential(self.secret.load().await?))
///     }
/// }
/// ```
///
/// [`AccessPsp`](crate::AccessPsp) does not implement it, because its documentation wants tokens in memory alone:
///
/// ```compile_fail,E0277
/// fn shareable<P: tower_bearer_auth::shared::Shareable>() {}
/// shareable::<tower_bearer_auth::AccessPsp>();
/// ```
///
/// ```
/// # fn shareable<P: tower_bearer_auth::shared::Shareable>() {}
/// shareable::<tower_bearer_auth::ClientCredentials>();
/// ```
#[diagnostic::on_unimplemented(
    message = "the tokens of `{Self}` cannot be shared with other processes",
    label = "it does not implement `Shareable`",
    note = "`AccessPsp` does not implement `Shareable`: AccessPSP's documentation says to store tokens in memory and in no \
            database, and its tokens cost nothing; use a `TokenSource` of `AccessPsp` without `Shared`",
    note = "for `from_fn`, call `identified_by`; for a provider of your own, implement `Shareable`"
)]
pub trait Shareable: TokenProvider {
    /// What distinguishes the token of `key` from all others. It is called at the start of a fetch and before its token is
    /// published. Load the credentials each time, because they can change.
    ///
    /// # Errors
    ///
    /// The credentials cannot be loaded. The fetch fails with this error.
    fn identity(&self, key: &Self::Key) -> impl Future<Output = Result<Identity, Error>> + Send;
}

impl<P: Shareable> Shareable for Arc<P> {
    fn identity(&self, key: &Self::Key) -> impl Future<Output = Result<Identity, Error>> + Send {
        P::identity(self, key)
    }
}

/// What distinguishes a token from all others: the issuer, fields with names, and the credentials.
///
/// Only a keyed hash of all this leaves the process: the name of a record. The hash depends on the order of the fields. `Debug`
/// prints only the names of the fields.
#[derive(Clone)]
pub struct Identity {
    fields: Vec<(String, SecretValue)>,
    credentials: Vec<SecretValue>,
}

impl Identity {
    /// Tokens of the issuer with this URL.
    pub fn new(issuer: impl Into<SecretValue>) -> Self {
        Self { fields: vec![(String::from("issuer"), issuer.into())], credentials: Vec::new() }
    }

    /// Adds a field, for example the client id, the scope, or a part of the key. The value of a field may contain any
    /// character.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<SecretValue>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a credential: the client's secret, or its private key. After it has changed, the records have other names.
    #[must_use]
    pub fn credential(mut self, value: impl Into<SecretValue>) -> Self {
        self.credentials.push(value.into());
        self
    }

    /// The name of the record: a keyed hash, whose key is derived from the credentials.
    pub(super) fn name(&self, namespace: &str) -> Result<String, Error> {
        let mut credentials = Fields::default();
        // The first field keeps a namespace apart from a credential with the same text.
        if self.credentials.is_empty() {
            credentials.add(b"namespace");
            credentials.add(namespace.as_bytes());
        } else {
            credentials.add(b"credentials");
            self.credentials.iter().for_each(|value| credentials.add(value.expose_secret().as_bytes()));
        }
        let derived = Hkdf::<Sha256>::new(Some(FORMAT), &credentials.0);
        let (mut key, mut fingerprint) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        let unusable = || Error::new(ErrorKind::Config, "the name of the shared token cannot be computed");
        derived.expand(b"key", &mut *key).map_err(|_| unusable())?;
        derived.expand(b"fingerprint", &mut *fingerprint).map_err(|_| unusable())?;
        let mut fields = Fields::default();
        fields.add(FORMAT);
        fields.add(namespace.as_bytes());
        for (name, value) in &self.fields {
            fields.add(name.as_bytes());
            fields.add(value.expose_secret().as_bytes());
        }
        fields.add(&*fingerprint);
        let mut mac = Hmac::<Sha256>::new_from_slice(&*key).map_err(|_| unusable())?;
        mac.update(&fields.0);
        Ok(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// Fields, each with its length before it. So no two lists of fields have the same bytes.
#[derive(Default)]
struct Fields(Zeroizing<Vec<u8>>);

impl Fields {
    fn add(&mut self, field: &[u8]) {
        // The exact capacity matters: a buffer that grows leaves copies that are not wiped.
        let mut longer = Zeroizing::new(Vec::with_capacity(self.0.len() + 8 + field.len()));
        longer.extend_from_slice(&self.0);
        longer.extend_from_slice(&(field.len() as u64).to_be_bytes());
        longer.extend_from_slice(field);
        self.0 = longer;
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Identity").field("fields", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(namespace: &str, identity: &Identity) -> String {
        identity.name(namespace).unwrap()
    }

    // R92: processes with different versions of this crate share tokens, so the name of a record must not change. A new
    // way to compute it needs another `FORMAT`. These names were computed by another implementation.
    #[test]
    fn the_name_of_a_record_is_the_same_in_every_release() {
        let identity = Identity::new("https://issuer.test/token").field("client", "orders").credential("secret");
        assert_eq!(name("production", &identity), "1jE2jXawfanFEmV-1iunEBWiqmODs6X2IC2dkf7CgOU");
        let without = Identity::new("https://issuer.test/token");
        assert_eq!(name("production", &without), "kMOmo6SkF6JjoVvnyEQMErn15yRpSCkMFsouOIq6578");
    }

    // R92, R94: openlark #168, RedisInsight #6319
    #[test]
    fn no_two_identities_have_one_name() {
        let base = || Identity::new("https://issuer.test");
        let identities = [
            base(),
            Identity::new("https://issuer.test/"),
            Identity::new(""),
            base().field("a", "b:c"),
            base().field("a:b", "c"),
            base().field("a", "b").field("c", ""),
            base().field("a", "bc"),
            base().field("ab", "c"),
            base().field("", "abc"),
            base().field("a", "b").field("a", "c"),
            base().field("a", "c").field("a", "b"),
            base().field("a", ""),
            base().field("", "").field("a", ""),
            base().credential("a"),
            base().credential("b"),
            base().credential("a").credential("b"),
            base().credential("b").credential("a"),
            base().credential("ab"),
            base().credential("a\0b"),
            base().credential("").credential("ab"),
            base().field("credential", "a"),
            base().field("a", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{1}b"),
        ];
        let mut names = BTreeSet::new();
        for namespace in ["", "a", "production"] {
            for identity in &identities {
                let name = name(namespace, identity);
                assert_eq!(name.len(), 43);
                assert!(names.insert(name), "{namespace}: {identity:?}");
            }
        }
        // The namespace is no field.
        assert!(names.insert(name("b", &base().field("a", ""))));
    }
}
