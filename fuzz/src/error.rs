//! The error of `src/token_endpoint/no_proxy.rs`, which `no_proxy` compiles.

pub(crate) struct ConfigError;

impl ConfigError {
    pub(crate) fn new(_setting: &str, _reason: String) -> Self {
        Self
    }

    pub(crate) fn with_hint(self, _hint: &str) -> Self {
        self
    }
}

impl std::fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfigError")
    }
}
