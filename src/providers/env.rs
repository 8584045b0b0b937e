//! Settings from environment variables: `NAME`, or `NAME_FILE` with the path of a file that contains the value.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use super::secret::Secret;
use crate::error::ConfigError;

/// The environment variables that begin with one prefix.
pub(super) struct Variables<'a> {
    prefix: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(prefix: &'a str, lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        if prefix.is_empty() || prefix.contains(['=', '\0']) {
            return Err(ConfigError::new("prefix", "no variable name can begin with it")
                .with_hint("set the part of the names before the underscore, for example ACCESS_PSP"));
        }
        Ok(Self { prefix, lookup })
    }

    /// Checks that each variable of the prefix is one of `known`: a variable with a misspelled name is an error.
    #[cfg(any(feature = "access-psp", feature = "aeropay"))]
    pub(super) fn check_names(&self, known: &[&str], set: impl Iterator<Item = OsString>) -> Result<(), ConfigError> {
        let unknown = |name: &str| {
            let suffix = name.strip_prefix(self.prefix)?.strip_prefix('_')?;
            let is_known = known.contains(&suffix.strip_suffix("_FILE").unwrap_or(suffix));
            (!is_known && !is_of_kubernetes(suffix)).then(|| name.to_owned())
        };
        // The order of the environment is arbitrary.
        match set.filter_map(|name| unknown(&name.to_string_lossy())).min() {
            None => Ok(()),
            Some(name) => Err(ConfigError::new(name, "there is no such setting").with_hint(format!(
                "the settings after {}_ are {}: correct the name, or give the variables of another program another prefix",
                self.prefix,
                known.join(", ")
            ))),
        }
    }

    /// The full name of a variable.
    pub(super) fn name(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.prefix)
    }

    /// Reads a secret. One from a file is read again for each fetch.
    pub(super) fn secret(&self, suffix: &str) -> Result<Option<Secret>, ConfigError> {
        let name = self.name(suffix);
        let name_file = format!("{name}_FILE");
        match ((self.lookup)(&name), (self.lookup)(&name_file)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(ConfigError::new(name, format!("{name_file} is also set")).with_hint("set one of the two"))
            }
            (Some(value), None) => match value.into_string() {
                Ok(value) if value.is_empty() => Err(ConfigError::new(name, "it is empty")),
                Ok(value) => Ok(Some(Secret::from(value))),
                Err(_) => Err(ConfigError::new(name, "it is not UTF-8")),
            },
            (None, Some(path)) if path.is_empty() => Err(ConfigError::new(name_file, "it is empty")),
            (None, Some(path)) => {
                Secret::from_file(PathBuf::from(path)).map(Some).map_err(|error| error.with_setting(&name_file))
            }
        }
    }

    /// Whether the variable is set, even if its value is invalid.
    #[cfg(feature = "client-credentials")]
    pub(super) fn is_set(&self, suffix: &str) -> bool {
        let name = self.name(suffix);
        (self.lookup)(&name).is_some() || (self.lookup)(&format!("{name}_FILE")).is_some()
    }

    /// Reads text. It is read once.
    pub(super) fn text(&self, suffix: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.secret(suffix)?.and_then(|value| value.peek()).map(|value| value.expose_secret().to_owned()))
    }

    /// Reads a value by its name.
    pub(super) fn parse<T: FromStr<Err = ConfigError>>(&self, suffix: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(suffix)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: ConfigError| error.with_setting(&self.name(suffix)))
    }

    /// Reads a list with commas between its items.
    #[cfg(feature = "client-credentials")]
    pub(super) fn list(&self, suffix: &str) -> Result<Vec<String>, ConfigError> {
        let Some(text) = self.text(suffix)? else {
            return Ok(Vec::new());
        };
        let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
        if items.iter().any(String::is_empty) {
            return Err(self.error(suffix, "an item of the list is empty").with_hint("remove the extra comma"));
        }
        Ok(items)
    }

    /// An error about a variable.
    #[cfg(feature = "client-credentials")]
    pub(super) fn error(&self, suffix: &str, reason: &str) -> ConfigError {
        ConfigError::new(self.name(suffix), reason)
    }

    /// An error about a variable that is required and not set.
    pub(super) fn missing(&self, suffix: &str) -> ConfigError {
        let name = self.name(suffix);
        let hint = format!("set {name} or {name}_FILE");
        ConfigError::new(name, "it is not set").with_hint(hint)
    }
}

/// Whether Kubernetes sets such a variable for a service whose name is or begins with the prefix.
///
/// See <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.
#[cfg(any(feature = "access-psp", feature = "aeropay"))]
fn is_of_kubernetes(suffix: &str) -> bool {
    let suffix = format!("_{suffix}");
    suffix.ends_with("_SERVICE_HOST") || suffix.ends_with("_PORT") || suffix.contains("_PORT_")
}

/// The names of the variables of the process.
#[cfg(any(feature = "access-psp", feature = "aeropay"))]
pub(super) fn process_names() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name)
}

/// Looks up a variable in the environment of the process.
pub(super) fn process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
