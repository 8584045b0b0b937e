//! A secret that a provider sends to its issuer: a value, a function, or a file that is read again at every fetch.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use secrecy::SecretString;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{ConfigError, Error};

/// No secret is larger; a path that names something else is noticed before it is read whole.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A file on a mount that is gone may never be read to its end.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// A file that one thread reads, for all who ask.
struct Watched {
    path: PathBuf,
    readings: Mutex<Readings>,
    answered: Condvar,
}

struct Readings {
    last_good: SecretString,
    last_error: Option<ConfigError>,
    /// How often a reading was asked for, and up to which of these it was answered. What is asked for while a reading is
    /// under way is answered by the next one: the file may have changed since.
    asked: u64,
    answered: u64,
    reader: bool,
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
    /// One trailing newline is removed. If a later reading fails, or takes longer than 2 seconds, the secret that was read
    /// last stays in use, and [`last_error`](Self::last_error) says why. At most one thread reads it at a time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the path and never the content, if the file is unreadable,
    /// too large, empty or not UTF-8.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let path = path.into();
        let last_good = read(&path)?;
        let readings = Readings { last_good, last_error: None, asked: 0, answered: 0, reader: false };
        let file = Watched { path, readings: Mutex::new(readings), answered: Condvar::new() };
        Ok(Self { origin: Origin::File(Arc::new(file)) })
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
                Ok(match tokio::runtime::Handle::try_current() {
                    Ok(runtime) => runtime
                        .spawn_blocking(move || reading.reread())
                        .await
                        .unwrap_or_else(|_| file.failed(&mut file.readings.lock(), "the reading was interrupted")),
                    // There is nobody here whom a wait could hold up.
                    Err(_) => reading.reread(),
                })
            }
        }
    }

    /// Why the file could not be read at the last fetch; `None` when it could, and for a value or a function.
    #[must_use]
    pub fn last_error(&self) -> Option<ConfigError> {
        match &self.origin {
            Origin::File(file) => file.readings.lock().last_error.clone(),
            Origin::Value(_) | Origin::Function(_) => None,
        }
    }

    /// The secret as far as it is known without asking: a value, or what the file held when it was last read.
    #[cfg(any(feature = "client-credentials", feature = "aeropay"))]
    pub(crate) fn known(&self) -> Option<SecretString> {
        match &self.origin {
            Origin::Value(value) => Some(value.clone()),
            Origin::Function(_) => None,
            Origin::File(file) => Some(file.readings.lock().last_good.clone()),
        }
    }
}

impl Watched {
    /// The secret by a reading that begins after this was called, or the one read last.
    fn reread(self: Arc<Self>) -> SecretString {
        let mut readings = self.readings.lock();
        readings.asked += 1;
        let mine = readings.asked;
        if !readings.reader {
            // A thread of its own: where it never comes back, no runtime waits for it to end.
            let file = Arc::clone(&self);
            let reader = thread::Builder::new().name(String::from("secret-file")).spawn(move || file.read_for_all());
            if reader.is_err() {
                return self.failed(&mut readings, "there is no thread to read it in");
            }
            readings.reader = true;
        }
        self.answered.wait_while_for(&mut readings, |readings| readings.answered < mine, PATIENCE);
        if readings.answered < mine {
            return self.failed(&mut readings, "the reading takes longer than 2 seconds");
        }
        readings.last_good.clone()
    }

    fn read_for_all(&self) {
        let mut readings = self.readings.lock();
        while readings.answered < readings.asked {
            let asked = readings.asked;
            drop(readings);
            let outcome = read(&self.path);
            readings = self.readings.lock();
            match outcome {
                Ok(secret) => {
                    readings.last_good = secret;
                    readings.last_error = None;
                }
                Err(error) => readings.last_error = Some(error),
            }
            readings.answered = asked;
            self.answered.notify_all();
        }
        readings.reader = false;
    }

    fn failed(&self, readings: &mut Readings, why: &str) -> SecretString {
        readings.last_error = Some(unreadable(&self.path, why));
        readings.last_good.clone()
    }
}

fn read(path: &Path) -> Result<SecretString, ConfigError> {
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

fn unreadable(path: &Path, why: &str) -> ConfigError {
    ConfigError::new(&format!("secret file {}", path.display()), why)
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
