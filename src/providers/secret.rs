//! A secret that a provider sends to its issuer: a value, a function, or a file that is read again for each fetch.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{ConfigError, Error};

/// The size limit of a secret's file, so that a wrong path is not read completely.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How long a fetch waits for a file. A read from an unavailable network mount may never end.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

type Load = dyn Fn() -> Result<SecretValue, Error> + Send + Sync;

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
    File(Arc<SecretFile>),
}

/// The text of a secret, wiped from memory when it is dropped. `Debug` does not print it.
#[derive(Clone)]
pub struct SecretValue(SecretString);

/// A file that one thread reads for all callers.
struct SecretFile {
    path: PathBuf,
    state: Mutex<FileState>,
    read_completed: Condvar,
}

struct FileState {
    latest: SecretValue,
    last_error: Option<ConfigError>,
    /// How many reads callers have requested, and how many of these requests have completed. A request that arrives
    /// during a read completes with the next read, because the file may have changed since.
    requested: u64,
    completed: u64,
    has_reader: bool,
}

impl Secret {
    /// A secret with a fixed value.
    pub fn new(value: impl Into<SecretValue>) -> Self {
        Self { kind: Kind::Value(value.into()) }
    }

    /// A secret that `load` returns. `load` is called for each fetch and must not block.
    pub fn from_fn<F>(load: F) -> Self
    where
        F: Fn() -> Result<SecretValue, Error> + Send + Sync + 'static,
    {
        Self { kind: Kind::Function(Arc::new(load)) }
    }

    /// A secret in a file of at most 64 KiB. The file is read now, and again for each fetch.
    ///
    /// One trailing newline is removed. If a later read fails, or takes longer than 2 seconds, the value of the latest
    /// successful read stays in use, and [`last_error`](Self::last_error) returns the error. At most one thread reads
    /// the file at a time.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the file is unreadable, too large, empty or not UTF-8. It contains the path and not the
    /// content.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let path = path.into();
        let latest = read(&path)?;
        let state = FileState { latest, last_error: None, requested: 0, completed: 0, has_reader: false };
        let file = SecretFile { path, state: Mutex::new(state), read_completed: Condvar::new() };
        Ok(Self { kind: Kind::File(Arc::new(file)) })
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
            Kind::Function(load) => load(),
            Kind::File(file) => {
                let reader = Arc::clone(file);
                Ok(match tokio::runtime::Handle::try_current() {
                    Ok(runtime) => runtime
                        .spawn_blocking(move || reader.reread())
                        .await
                        .unwrap_or_else(|_| file.failed(&mut file.state.lock(), "was not read: the runtime shut down")),
                    // Outside of a runtime, blocking delays no other task.
                    Err(_) => reader.reread(),
                })
            }
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
            Kind::Function(_) => None,
            Kind::File(file) => Some(file.state.lock().latest.clone()),
        }
    }

    /// Why the file could not be read for the latest fetch. `None` if it could, and for a value or a function.
    #[must_use]
    pub fn last_error(&self) -> Option<ConfigError> {
        match &self.kind {
            Kind::File(file) => file.state.lock().last_error.clone(),
            Kind::Value(_) | Kind::Function(_) => None,
        }
    }

    /// The value, for a setting that is read once.
    #[cfg(feature = "client-credentials")]
    pub(super) fn load_once(&self) -> Result<SecretValue, Error> {
        match &self.kind {
            Kind::Function(load) => load(),
            Kind::Value(value) => Ok(value.clone()),
            Kind::File(file) => Ok(file.state.lock().latest.clone()),
        }
    }
}

impl SecretValue {
    /// The text. The caller must keep it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl SecretFile {
    /// The value from a read that starts after this call, or from the latest successful read.
    fn reread(self: Arc<Self>) -> SecretValue {
        let mut state = self.state.lock();
        state.requested += 1;
        let request = state.requested;
        if !state.has_reader {
            // A thread of its own: if the read never returns, no runtime waits for it at its shutdown.
            let file = Arc::clone(&self);
            let reader = thread::Builder::new().name(String::from("secret-file")).spawn(move || file.read_for_all());
            if reader.is_err() {
                return self.failed(&mut state, "was not read: no thread could be started");
            }
            state.has_reader = true;
        }
        self.read_completed.wait_while_for(&mut state, |state| state.completed < request, READ_TIMEOUT);
        if state.completed < request {
            return self.failed(&mut state, "could not be read within 2 seconds");
        }
        state.latest.clone()
    }

    fn read_for_all(&self) {
        let mut state = self.state.lock();
        while state.completed < state.requested {
            let requested = state.requested;
            drop(state);
            let outcome = read(&self.path);
            state = self.state.lock();
            match outcome {
                Ok(value) => {
                    state.latest = value;
                    state.last_error = None;
                }
                Err(error) => state.last_error = Some(error),
            }
            state.completed = requested;
            self.read_completed.notify_all();
        }
        state.has_reader = false;
    }

    fn failed(&self, state: &mut FileState, reason: &str) -> SecretValue {
        state.last_error = Some(unreadable(&self.path, reason));
        state.latest.clone()
    }
}

fn read(path: &Path) -> Result<SecretValue, ConfigError> {
    // Allocated once: a buffer that grows leaves copies that are not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &format!("cannot be read: {}", error.kind())).with_source(error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(path, "is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(path, "is not UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(unreadable(path, "is empty"));
    }
    Ok(SecretValue::from(text))
}

fn unreadable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::new("secret", format!("the file {} {reason}", path.display()))
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

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Value(_) => f.write_str("Secret(value)"),
            Kind::Function(_) => f.write_str("Secret(function)"),
            Kind::File(file) => write!(f, "Secret(file {})", file.path.display()),
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}
