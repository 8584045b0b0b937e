//! The credentials of a merchant.

use std::fmt;
use std::sync::Arc;

use super::key::MerchantId;
use crate::error::{ConfigError, Error};
use crate::providers::check;
use crate::providers::secret::Secret;

/// A merchant's API key and secret. Each is a value, a function or a file, and is loaded for each fetch.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) api_key: Secret,
    pub(super) api_secret: Secret,
}

impl Credentials {
    /// The API key and secret of one merchant.
    pub fn new(api_key: impl Into<Secret>, api_secret: impl Into<Secret>) -> Self {
        Self { api_key: api_key.into(), api_secret: api_secret.into() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::secret("api_key", &self.api_key)?;
        check::secret("api_secret", &self.api_secret)
    }
}

type Lookup = dyn Fn(&MerchantId) -> Result<Credentials, Error> + Send + Sync;

/// The function that finds the credentials of other merchants.
#[derive(Clone)]
pub(super) struct Directory(Arc<Lookup>);

impl Directory {
    pub(super) fn new<F>(lookup: F) -> Self
    where
        F: Fn(&MerchantId) -> Result<Credentials, Error> + Send + Sync + 'static,
    {
        Self(Arc::new(lookup))
    }

    pub(super) fn find(&self, merchant: &MerchantId) -> Result<Credentials, Error> {
        let found = (self.0)(merchant)?;
        found.check()?;
        Ok(found)
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Directory(function)")
    }
}
