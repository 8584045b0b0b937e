//! The settings of `Shared`.

use std::fmt;
use std::sync::Arc;

use super::client::{Client, OnStoreFailure};
use super::identity::Shareable;
use super::key::SealingKey;
use super::provider::Shared;
use super::record::Sealer;
use super::store::TokenStore;
use crate::error::ConfigError;

impl<P: Shareable, S: TokenStore> Shared<P, S> {
    /// Shares the tokens of `provider` through `store`.
    pub fn builder(provider: P, store: S) -> SharedBuilder<P, S> {
        SharedBuilder {
            provider,
            store,
            namespace: String::new(),
            key: None,
            accepted: Vec::new(),
            on_failure: OnStoreFailure::FetchAlone,
        }
    }
}

/// Builds a [`Shared`]. It makes no I/O.
#[must_use]
pub struct SharedBuilder<P, S> {
    provider: P,
    store: S,
    namespace: String,
    key: Option<SealingKey>,
    accepted: Vec<SealingKey>,
    on_failure: OnStoreFailure,
}

impl<P: Shareable, S: TokenStore> SharedBuilder<P, S> {
    /// Sets the namespace, for example the name of an environment. The default is empty. Processes with different namespaces
    /// share nothing.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the key that seals records and opens them. It is required.
    pub fn sealing_key(mut self, key: SealingKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Also opens records that were sealed with `key`. Call this once for each old key. Use it while a key is replaced: first
    /// every process accepts the new key, and then every process seals with it.
    pub fn also_accept(mut self, key: SealingKey) -> Self {
        self.accepted.push(key);
        self
    }

    /// Sets what a fetch does if the store fails. The default is [`OnStoreFailure::FetchAlone`].
    pub fn on_store_failure(mut self, action: OnStoreFailure) -> Self {
        self.on_failure = action;
        self
    }

    /// Builds the provider.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is no sealing key.
    pub fn build(self) -> Result<Shared<P, S>, ConfigError> {
        let Self { provider, store, namespace, key, accepted, on_failure } = self;
        let key = key.ok_or_else(|| {
            ConfigError::new("sealing_key", "it is missing")
                .with_hint("set a key: tokens are never written to a store in clear text")
        })?;
        let client = Arc::new(Client::new(store, Sealer { key, accepted }, on_failure));
        Ok(Shared { provider, client, namespace })
    }
}

impl<P: Shareable, S> fmt::Debug for SharedBuilder<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuilder")
            .field("provider", &self.provider.label())
            .field("namespace", &self.namespace)
            .field("sealing_key", &self.key)
            .field("on_store_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}
