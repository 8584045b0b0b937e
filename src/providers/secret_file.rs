//! A secret in a file that is read again for each fetch.

use std::path::PathBuf;

use super::secret_value::SecretValue;
use crate::error::ConfigError;
use crate::file::{Format, ReloadedFile};

pub(super) type SecretFile = ReloadedFile<SecretValue>;

impl SecretFile {
    /// Reads the file for the first time.
    pub(super) fn open(path: PathBuf) -> Result<Self, ConfigError> {
        Self::read(path, Format { setting: "secret", max_kib: 64, parse: secret })
    }
}

fn secret(content: &[u8]) -> Result<SecretValue, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8")?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err("is empty") } else { Ok(SecretValue::from(text)) }
}
