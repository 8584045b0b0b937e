//! The settings of the store.

use std::env;
use std::ffi::OsString;
use std::fmt;

use tower_bearer_auth::{ConfigError, Secret};

use crate::connection::Connections;
use crate::store::RedisStore;
use crate::target;

impl RedisStore {
    /// A store at this URL: `redis://user:password@host:6379`, `rediss://` for TLS, or `unix://` with a path.
    ///
    /// The URL contains a password, so it is a [`Secret`]: a value, a function, or a file. It is loaded again for each new
    /// connection. For a file, pass [`Secret::from_file`].
    pub fn builder(url: impl Into<Secret>) -> RedisStoreBuilder {
        RedisStoreBuilder { url: url.into(), setting: "url".to_owned(), is_cluster: false }
    }

    /// A store whose URL is in the environment: in the variable `<prefix>_URL`, or in the file that `<prefix>_URL_FILE` names.
    ///
    /// ```no_run
    /// use tower_bearer_auth_redis::RedisStore;
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::ConfigError> {
    /// let store = RedisStore::from_env("REDIS")?.build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if neither variable is set, or both are; if the value is empty or not UTF-8; or if the file cannot be read.
    pub fn from_env(prefix: &str) -> Result<RedisStoreBuilder, ConfigError> {
        from_variables(prefix, |name| env::var_os(name))
    }
}

fn from_variables(prefix: &str, lookup: impl Fn(&str) -> Option<OsString>) -> Result<RedisStoreBuilder, ConfigError> {
    if prefix.is_empty() || prefix.contains(['=', '\0']) {
        return Err(ConfigError::new("prefix", "no variable name can begin with it")
            .with_hint("set the part of the name before the underscore, for example REDIS"));
    }
    let name = format!("{prefix}_URL");
    let name_file = format!("{name}_FILE");
    let (setting, url) = match (lookup(&name), lookup(&name_file)) {
        (None, None) => {
            let hint = format!("set {name} or {name_file}");
            return Err(ConfigError::new(name, "it is not set").with_hint(hint));
        }
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(name, format!("{name_file} is also set")).with_hint("set one of the two"));
        }
        (Some(url), None) => match url.into_string() {
            Ok(url) if url.is_empty() => return Err(ConfigError::new(name, "it is empty")),
            Ok(url) => (name, Secret::from(url)),
            Err(_) => return Err(ConfigError::new(name, "it is not UTF-8")),
        },
        (None, Some(path)) if path.is_empty() => return Err(ConfigError::new(name_file, "it is empty")),
        (None, Some(path)) => {
            let url = Secret::from_file(path).map_err(|error| error.with_setting(&name_file))?;
            (name_file, url)
        }
    };
    Ok(RedisStoreBuilder { url, setting, is_cluster: false })
}

/// Builds a [`RedisStore`]. It makes no I/O.
#[must_use]
pub struct RedisStoreBuilder {
    url: Secret,
    /// The name of the URL, for errors.
    setting: String,
    is_cluster: bool,
}

impl RedisStoreBuilder {
    /// The server is a node of a Redis Cluster. Then the URL may have several nodes, with commas between them. One that responds
    /// is enough: the store asks it for the others.
    ///
    /// The nodes have one user, one password, and TLS or not.
    pub fn cluster(mut self) -> Self {
        self.is_cluster = true;
        self
    }

    /// Builds the store. It connects in the first fetch, and needs no runtime before.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the URL is invalid, or if it asks for TLS and the process has no default
    /// [`CryptoProvider`](rustls::crypto::CryptoProvider). If the URL comes from a function, both are errors of the first fetch.
    pub fn build(self) -> Result<RedisStore, ConfigError> {
        let Self { url, setting, is_cluster } = self;
        if let Some(known) = url.peek() {
            target::parse(&setting, known.expose_secret(), is_cluster)?;
        }
        Ok(RedisStore::new(Connections::new(url, is_cluster)))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, setting, is_cluster } = self;
        f.debug_struct("RedisStoreBuilder")
            .field("url", url)
            .field("setting", setting)
            .field("is_cluster", is_cluster)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(variables: &[(&str, &str)]) -> Result<RedisStore, ConfigError> {
        let lookup = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into());
        from_variables("REDIS", lookup)?.build()
    }

    #[test]
    fn a_variable_that_is_missing_or_invalid_is_an_error_that_names_it() {
        for (variables, expected) in [
            (&[][..], "REDIS_URL: it is not set: set REDIS_URL or REDIS_URL_FILE"),
            (&[("REDIS_URL", "")], "REDIS_URL: it is empty"),
            (&[("REDIS_URL_FILE", "")], "REDIS_URL_FILE: it is empty"),
            (
                &[("REDIS_URL", "a"), ("REDIS_URL_FILE", "b")],
                "REDIS_URL: REDIS_URL_FILE is also set: set one of the two",
            ),
        ] {
            assert_eq!(build(variables).unwrap_err().to_string(), expected);
        }
        let error = build(&[("REDIS_URL", "canary")]).unwrap_err().to_string();
        assert!(error.starts_with("REDIS_URL: ") && !error.contains("canary"), "{error}");
        let error = build(&[("REDIS_URL_FILE", "src/lib.rs")]).unwrap_err().to_string();
        assert!(error.starts_with("REDIS_URL_FILE: it is not a URL"), "{error}");
        assert!(from_variables("", |_| None).is_err());
        assert!(build(&[("REDIS_URL", "redis://host")]).is_ok());
    }

    // R96
    #[test]
    fn debug_prints_no_part_of_the_url() {
        let builder = RedisStore::builder("redis://user:canary@canary.test").cluster();
        let printed = format!("{builder:?}");
        assert!(printed.contains("is_cluster: true") && !printed.contains("canary"), "{printed}");
        let printed = format!("{:?}", builder.build().unwrap());
        assert!(!printed.contains("canary"), "{printed}");
    }
}
