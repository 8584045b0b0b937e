//! `Shareable` for the providers of this crate.

use std::future::Future;

use super::identity::{Identity, Shareable};
use crate::error::Error;
use crate::provider::TokenProvider;
use crate::providers::FromFn;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
use crate::providers::IdentityParts;
#[cfg(feature = "aeropay")]
use crate::providers::aeropay::{self, Aeropay};
#[cfg(feature = "client-credentials")]
use crate::providers::{ClientCredentials, TargetApi};
use crate::token::IssuedToken;

impl<F, Fut> FromFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    /// Says what distinguishes the tokens of the function, so that they can be [shared](crate::shared) with other processes.
    ///
    /// The identity is fixed. If the credentials can change while the program runs, write a provider of your own, whose
    /// [`Shareable::identity`] loads them.
    pub fn identified_by(self, identity: Identity) -> FromFn<F, Identity> {
        self.with_identity(identity)
    }
}

impl<F> Shareable for FromFn<F, Identity>
where
    Self: TokenProvider,
{
    async fn identity(&self, _: &Self::Key) -> Result<Identity, Error> {
        Ok(self.identity.clone())
    }
}

#[cfg(feature = "client-credentials")]
impl Shareable for ClientCredentials {
    async fn identity(&self, key: &()) -> Result<Identity, Error> {
        self.identity_parts(key).await.map(identity_of)
    }
}

#[cfg(feature = "client-credentials")]
impl Shareable for ClientCredentials<TargetApi> {
    async fn identity(&self, target: &TargetApi) -> Result<Identity, Error> {
        self.identity_parts(target).await.map(identity_of)
    }
}

#[cfg(feature = "aeropay")]
impl Shareable for Aeropay {
    async fn identity(&self, key: &aeropay::Identity) -> Result<Identity, Error> {
        self.identity_parts(key).await.map(identity_of)
    }
}

#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
fn identity_of(parts: IdentityParts) -> Identity {
    let identity = Identity::new(parts.issuer);
    let identity = parts.fields.into_iter().fold(identity, |identity, (name, value)| identity.field(name, value));
    parts.credentials.into_iter().fold(identity, Identity::credential)
}
