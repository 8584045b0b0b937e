//! Settings out of the environment: `NAME`, or `NAME_FILE` for a file that holds the value.

use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use crate::error::ConfigError;
use crate::providers::Secret;

/// The variables that begin with one prefix, and where to look them up.
pub(super) struct Variables<'a> {
    prefix: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(prefix: &'a str, lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        if prefix.is_empty() || prefix.contains(['=', '\0']) {
            return Err(ConfigError::new("prefix", "no variable's name begins like this"));
        }
        Ok(Self { prefix, lookup })
    }

    /// The full name of a variable.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{}_{what}", self.prefix)
    }

    /// A secret; one in a file is read again at every fetch.
    pub(super) fn secret(&self, what: &str) -> Result<Option<Secret>, ConfigError> {
        let name = self.name(what);
        let name_file = format!("{name}_FILE");
        match ((self.lookup)(&name), (self.lookup)(&name_file)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(ConfigError::new(&name, &format!("{name_file} is set as well; set one of them"))),
            (Some(value), None) => match value.into_string() {
                Ok(value) if value.is_empty() => Err(ConfigError::new(&name, "it is empty")),
                Ok(value) => Ok(Some(Secret::from(value))),
                Err(_) => Err(ConfigError::new(&name, "it is not UTF-8")),
            },
            (None, Some(path)) if path.is_empty() => Err(ConfigError::new(&name_file, "it is empty")),
            (None, Some(path)) => {
                Secret::file(PathBuf::from(path)).map(Some).map_err(|error| error.for_setting(&name_file))
            }
        }
    }

    /// Whether it is there at all, usable or not.
    #[cfg(feature = "client-credentials")]
    pub(super) fn is_set(&self, what: &str) -> bool {
        let name = self.name(what);
        (self.lookup)(&name).is_some() || (self.lookup)(&format!("{name}_FILE")).is_some()
    }

    /// What is no secret, and is read once.
    pub(super) fn text(&self, what: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.secret(what)?.and_then(|value| value.known()).map(|value| value.expose_secret().to_owned()))
    }

    /// Several values, with commas between them.
    #[cfg(feature = "client-credentials")]
    pub(super) fn list(&self, what: &str) -> Result<Vec<String>, ConfigError> {
        let Some(text) = self.text(what)? else {
            return Ok(Vec::new());
        };
        let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
        if items.iter().any(String::is_empty) {
            return Err(self.refused(what, "an item in it is empty"));
        }
        Ok(items)
    }

    /// A choice, by one of its names.
    #[cfg(feature = "client-credentials")]
    pub(super) fn one_of<T: Copy>(&self, what: &str, choices: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(what)? else {
            return Ok(None);
        };
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        found.map(Some).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.refused(what, &format!("it is none of {}", names.join(", ")))
        })
    }

    #[cfg(feature = "client-credentials")]
    pub(super) fn refused(&self, what: &str, why: &str) -> ConfigError {
        ConfigError::new(&self.name(what), why)
    }

    pub(super) fn missing(&self, what: &str) -> ConfigError {
        let name = self.name(what);
        ConfigError::new(&name, &format!("neither it nor {name}_FILE is set"))
    }
}

/// The process's own environment.
pub(super) fn process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
