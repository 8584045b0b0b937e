//! The rustls configuration that is in use. It changes when the files of the settings change.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::pem::Content;
use super::tls::{TlsSettings, TlsSource};
use crate::error::{BoxError, ConfigError};

/// The TLS of a client.
pub(super) struct Tls {
    /// `None` for a configuration that the user has set.
    source: Option<TlsSource>,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ClientConfig>,
    /// The PEM texts that were compared last. They need not be valid.
    seen: Vec<Content>,
    /// Why `config` was not made from these texts.
    invalid: Option<ConfigError>,
}

impl Tls {
    /// Reads the files for the first time.
    pub(super) fn new(settings: TlsSettings) -> Result<Self, ConfigError> {
        let (source, config, seen) = match settings.into_source()? {
            Ok(source) => {
                let config = source.config()?;
                let seen = contents(&source);
                (Some(source), config, seen)
            }
            Err(config) => (None, config, Vec::new()),
        };
        let current = Current { config: Arc::new(config), seen, invalid: None };
        Ok(Self { source, current: Mutex::new(current) })
    }

    /// Reads the files again. A file that cannot be read, or cannot be used, changes nothing.
    pub(super) async fn reload(&self) -> Arc<ClientConfig> {
        if let Some(source) = &self.source {
            let files = source.pems().filter_map(|pem| pem.file());
            join_all(files.map(|file| file.load())).await;
            let mut current = self.current.lock();
            // Another fetch may have read the files later than this one.
            let seen = contents(source);
            if current.seen != seen {
                match source.config() {
                    Ok(config) => {
                        current.config = Arc::new(config);
                        current.invalid = None;
                    }
                    Err(error) => current.invalid = Some(error),
                }
                current.seen = seen;
            }
        }
        Arc::clone(&self.current.lock().config)
    }

    /// Adds to the error of a request that a file could not be used.
    pub(super) fn explain(&self, error: BoxError) -> BoxError {
        let files = self.source.iter().flat_map(TlsSource::pems).filter_map(|pem| pem.file());
        let unreadable = files.filter_map(|file| file.last_error()).next();
        match unreadable.or_else(|| self.current.lock().invalid.clone()) {
            Some(problem) => Box::new(Outdated { problem, error }),
            None => error,
        }
    }
}

fn contents(source: &TlsSource) -> Vec<Content> {
    source.pems().map(|pem| pem.content()).collect()
}

/// The error of a request that used the earlier content of a file.
struct Outdated {
    problem: ConfigError,
    error: BoxError,
}

impl fmt::Display for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the earlier files were used ({})", self.problem)
    }
}

impl fmt::Debug for Outdated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outdated").field("problem", &self.problem).field("error", &self.error).finish()
    }
}

impl StdError for Outdated {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.error)
    }
}
