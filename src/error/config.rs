//! Errors about settings.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::{BoxError, Error, ErrorKind, one_line};

/// A setting is missing or invalid. Builders return this error.
///
/// `Display` prints the name of the setting, what is wrong with it, and what to do. It never contains the value.
///
/// `?` converts it to a permanent [`Error`] of the kind [`ErrorKind::Config`].
#[derive(Clone)]
pub struct ConfigError {
    setting: Box<str>,
    reason: Box<str>,
    hint: Option<Box<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl ConfigError {
    /// An error about `setting`, for example the name of a builder method or of an environment variable.
    ///
    /// `reason` says what is wrong. Do not put the value into it.
    pub fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { setting: setting.into().into(), reason: reason.into().into(), hint: None, source: None }
    }

    /// Replaces the name of the setting. Use it in a builder that passes one of its settings on under another name.
    #[must_use]
    pub fn with_setting(mut self, setting: &str) -> Self {
        self.setting = setting.into();
        self
    }

    /// Sets a hint: what to do about the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into());
        self
    }

    /// Sets the cause. Do not pass one that contains a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The name of the setting.
    #[must_use]
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// What to do about the error, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(f, &self.setting)?;
        f.write_str(": ")?;
        one_line(f, &self.reason)?;
        if let Some(hint) = &self.hint {
            f.write_str(": ")?;
            one_line(f, hint)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ConfigError");
        out.field("setting", &self.setting).field("reason", &self.reason);
        if let Some(hint) = &self.hint {
            out.field("hint", hint);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for ConfigError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let ConfigError { setting, reason, hint, source } = error;
        let mut error = Self::new(ErrorKind::Config, format!("{setting}: {reason}"));
        let inner = Arc::make_mut(&mut error.inner);
        inner.hint = hint.map(|hint| String::from(hint).into());
        inner.source = source;
        error
    }
}
