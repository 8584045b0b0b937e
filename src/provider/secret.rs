//! A secret that a provider sends to its issuer: a value, a function, or a file that is read again at every fetch.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use secrecy::SecretString;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, ErrorKind};

/// No secret is larger; a path that names something else is noticed before it is read whole.
const MAX_FILE_BYTES: u64 = 64 * 1024;

type Load = dyn Fn() -> Result<SecretString, Error> + Send + Sync;

/// A secret, and where it comes from. Cloning shares it. It is wiped from memory when it is no longer used.
///
/// A secret that rotates is a file or a function; after it has changed, call
/// [`rotate`](crate::TokenSource::rotate), or wait for the next token request.
#[derive(Clone)]
pub struct Secret {
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    Value(SecretString),
    Function(Arc<Load>),
    File(Arc<Watched>),
}

struct Watched {
    path: PathBuf,
    last_good: Mutex<SecretString>,
    last_error: Mutex<Option<Error>>,
}

impl Secret {
    /// A secret that stays as it is.
    pub fn new(value: impl Into<SecretString>) -> Self {
        Self { origin: Origin::Value(value.into()) }
    }

    /// A secret that `load` returns, asked anew at every fetch. `load` must not block.
    pub fn from_fn<F>(load: F) -> Self
    where
        F: Fn() -> Result<SecretString, Error> + Send + Sync + 'static,
    {
        Self { origin: Origin::Function(Arc::new(load)) }
    }

    /// A secret in a file, of at most 64 KiB, which is read now and again at every fetch.
    ///
    /// One trailing newline is removed. If a later reading fails, the secret that was read last stays in use, and
    /// [`last_error`](Self::last_error) says why.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], naming the path and never the content, if the file is unreadable, too large, empty or not
    /// UTF-8.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let last_good = Mutex::new(read(&path)?);
        Ok(Self { origin: Origin::File(Arc::new(Watched { path, last_good, last_error: Mutex::new(None) })) })
    }

    /// The secret as it is now.
    ///
    /// # Errors
    ///
    /// What the function returned. A file that cannot be read again is no error here: the secret read last is returned.
    pub async fn load(&self) -> Result<SecretString, Error> {
        match &self.origin {
            Origin::Value(value) => Ok(value.clone()),
            Origin::Function(load) => load(),
            Origin::File(file) => {
                let reading = Arc::clone(file);
                let read = match tokio::runtime::Handle::try_current() {
                    Ok(runtime) => runtime
                        .spawn_blocking(move || read(&reading.path))
                        .await
                        .unwrap_or_else(|_| Err(unreadable(&file.path, "the reading was interrupted"))),
                    // There is nobody here whom a blocking read could hold up.
                    Err(_) => read(&reading.path),
                };
                Ok(file.keep(read))
            }
        }
    }

    /// Why the file could not be read at the last fetch; `None` when it could, and for a value or a function.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        match &self.origin {
            Origin::File(file) => file.last_error.lock().clone(),
            Origin::Value(_) | Origin::Function(_) => None,
        }
    }

    /// The secret as far as it is known without asking: a value, or what the file held when it was last read.
    #[cfg(any(feature = "client-credentials", feature = "aeropay"))]
    pub(crate) fn known(&self) -> Option<SecretString> {
        match &self.origin {
            Origin::Value(value) => Some(value.clone()),
            Origin::Function(_) => None,
            Origin::File(file) => Some(file.last_good.lock().clone()),
        }
    }
}

impl Watched {
    fn keep(&self, read: Result<SecretString, Error>) -> SecretString {
        match read {
            Ok(secret) => {
                *self.last_good.lock() = secret.clone();
                *self.last_error.lock() = None;
                secret
            }
            Err(error) => {
                *self.last_error.lock() = Some(error);
                self.last_good.lock().clone()
            }
        }
    }
}

fn read(path: &Path) -> Result<SecretString, Error> {
    // Allocated once: a buffer that grows leaves unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, "it cannot be read").with_source(error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(path, "it is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(path, "it is not UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(unreadable(path, "it is empty"));
    }
    Ok(SecretString::from(text))
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("secret file {}: {why}", path.display()))
}

impl From<String> for Secret {
    fn from(mut value: String) -> Self {
        let secret = Self::new(value.as_str());
        value.zeroize();
        secret
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<SecretString> for Secret {
    fn from(value: SecretString) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Value(_) => f.write_str("Secret(value)"),
            Origin::Function(_) => f.write_str("Secret(function)"),
            Origin::File(file) => write!(f, "Secret(file {})", file.path.display()),
        }
    }
}
