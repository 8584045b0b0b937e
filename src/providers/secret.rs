//! A secret that a provider sends to its issuer: a value, a function, or a file that is read again for each fetch.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::secret_file::SecretFile;
use super::secret_value::SecretValue;
use crate::error::{ConfigError, Error, ErrorKind};

type Load = dyn Fn() -> Result<SecretValue, Error> + Send + Sync;
type AsyncLoad = dyn Fn() -> BoxFuture<'static, Result<SecretValue, Error>> + Send + Sync;

/// A secret of a provider: a value, a function, or a file. Cloning shares it. Values are wiped from memory when they
/// are dropped.
///
/// A secret from a function or a file can change while the program runs: it is loaded again for each token request.
/// After a change, call [`rotate`](crate::TokenSource::rotate), or wait for the next token request.
///
/// A provider [`load`](Self::load)s the secret in each fetch:
///
/// ```
/// use tower_bearer_auth::{Error, Secret};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let secret = Secret::from("correct horse battery staple");
/// let value = secret.load().await?;
/// assert_eq!(value.expose_secret(), "correct horse battery staple");
/// assert_eq!(format!("{secret:?} {value:?}"), "Secret(value) SecretValue(..)");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Secret {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Value(SecretValue),
    Function(Arc<Load>),
    AsyncFunction(Arc<AsyncLoad>),
    File(Arc<SecretFile>),
}

impl Secret {
    /// A secret with a fixed value.
    pub fn new(value: impl Into<SecretValue>) -> Self {
        Self { kind: Kind::Value(value.into()) }
    }

    /// A secret that `load` returns. `load` is called for each fetch and must not block. If it panics, the fetch, or the
    /// builder that calls it, fails with [`ErrorKind::Panicked`].
    pub fn from_fn<F>(load: F) -> Self
    where
        F: Fn() -> Result<SecretValue, Error> + Send + Sync + 'static,
    {
        Self { kind: Kind::Function(Arc::new(load)) }
    }

    /// As [`from_fn`](Self::from_fn), with an async function: for a secret that is requested over the network, for example
    /// from a vault, or for an assertion that another issuer signs.
    ///
    /// `load` is called in each fetch, within the source's [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout). The
    /// fetch, and with it the future, can be dropped at any `.await`. A setting that is read once, when a provider is built,
    /// cannot use an async function: for example the header of an API key.
    ///
    /// ```
    /// use tower_bearer_auth::{Error, Secret, SecretValue};
    ///
    /// # async fn request_from_vault() -> Result<String, std::io::Error> { Ok("correct horse".into()) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let secret = Secret::from_async_fn(|| async {
    ///     let secret = request_from_vault().await.map_err(Error::transient)?;
    ///     Ok(SecretValue::from(secret))
    /// });
    /// assert_eq!(secret.load().await?.expose_secret(), "correct horse");
    /// # Ok(()) }
    /// ```
    pub fn from_async_fn<F, Fut>(load: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SecretValue, Error>> + Send + 'static,
    {
        Self { kind: Kind::AsyncFunction(Arc::new(move || load().boxed())) }
    }

    /// A secret in a file of at most 64 KiB. The file is read now, and again for each fetch.
    ///
    /// One trailing newline is removed. If a later read fails, or takes longer than 2 seconds, the value of the latest
    /// successful read stays in use, and [`last_error`](Self::last_error) returns the error.
    ///
    /// At most one thread reads the file at a time, and at most one thread of a runtime's blocking pool waits for it. All
    /// fetches share the two, so a mount that hangs does not use up the pool.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the file is unreadable, too large, empty or not UTF-8. It contains the path and not the content.
    /// If neither the file nor one of its directories exists, the path is left out too: it may be a secret that was set in
    /// place of a path.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Ok(Self { kind: Kind::File(Arc::new(SecretFile::open(path.into())?)) })
    }

    /// Loads the current value.
    ///
    /// # Errors
    ///
    /// The error of the function. A file that can no longer be read is not an error: the value of its latest successful
    /// read is returned.
    pub async fn load(&self) -> Result<SecretValue, Error> {
        match &self.kind {
            Kind::Value(value) => Ok(value.clone()),
            Kind::Function(load) => call(&**load),
            Kind::AsyncFunction(load) => {
                let load = AssertUnwindSafe(async { load().await });
                load.catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
            }
            Kind::File(file) => Ok(file.load().await),
        }
    }

    /// The value, if it is known without loading it: a fixed value, or the latest content of a file. `None` for a
    /// function.
    ///
    /// A builder can check it, so that an invalid secret is an error before the first fetch.
    #[must_use]
    pub fn peek(&self) -> Option<SecretValue> {
        match &self.kind {
            Kind::Value(value) => Some(value.clone()),
            Kind::Function(_) | Kind::AsyncFunction(_) => None,
            Kind::File(file) => Some(file.latest()),
        }
    }

    /// Why the file could not be read for the latest fetch. `None` if it could, and for a value or a function.
    #[must_use]
    pub fn last_error(&self) -> Option<ConfigError> {
        match &self.kind {
            Kind::File(file) => file.last_error(),
            Kind::Value(_) | Kind::Function(_) | Kind::AsyncFunction(_) => None,
        }
    }

    /// The value, for a setting that is read once.
    #[cfg(feature = "client-credentials")]
    pub(super) fn load_once(&self) -> Result<SecretValue, Error> {
        match &self.kind {
            Kind::Function(load) => call(&**load),
            Kind::AsyncFunction(_) => Err(Error::new(ErrorKind::Config, "the function of the secret is async")
                .with_hint("this setting is read once, by a function that is not async: use Secret::from_fn")),
            Kind::Value(value) => Ok(value.clone()),
            Kind::File(file) => Ok(file.latest()),
        }
    }
}

fn call(load: &Load) -> Result<SecretValue, Error> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err(panicked()))
}

/// The message of the panic may contain the secret, so it is not part of the error.
fn panicked() -> Error {
    Error::new(ErrorKind::Panicked, "the function of the secret panicked").with_hint("the panic hook has its message")
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<SecretValue> for Secret {
    fn from(value: SecretValue) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Value(_) => f.write_str("Secret(value)"),
            Kind::Function(_) | Kind::AsyncFunction(_) => f.write_str("Secret(function)"),
            Kind::File(file) => write!(f, "Secret(file {})", file.path().display()),
        }
    }
}
