//! The headers that a provider adds to API requests, for example API keys.

use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;

use super::check;
use super::secret::Secret;
use crate::error::{ConfigError, Error};

/// Headers whose values can change while the program runs. Each fetch loads them.
pub(super) struct SecretHeaders {
    /// The name of the setting in errors.
    pub(super) setting: &'static str,
    headers: Vec<(HeaderName, Secret)>,
    latest: Mutex<HeaderMap>,
}

impl SecretHeaders {
    /// Checks the names and loads the values.
    pub(super) fn new(headers: Vec<(String, Secret)>) -> Result<Self, ConfigError> {
        let setting = "api_header";
        let (mut checked, mut latest) = (Vec::with_capacity(headers.len()), HeaderMap::new());
        for (name, value) in headers {
            let name = check::api_header_name(setting, &name)?;
            let loaded = check::load_once(setting, &value)?;
            latest
                .try_insert(name.clone(), check::header_value(setting, &loaded)?)
                .map_err(|_| ConfigError::new(setting, "there are too many headers"))?;
            checked.push((name, value));
        }
        Ok(Self { setting, headers: checked, latest: Mutex::new(latest) })
    }

    /// Loads the values again. If one is invalid, the earlier ones stay.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        let mut loaded = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            loaded.push((name, check::header_value(self.setting, &value.load().await?)?));
        }
        let mut latest = self.latest.lock();
        for (name, value) in loaded {
            // The map has a value of this name, so it cannot be too full.
            if let Some(earlier) = latest.get_mut(name) {
                *earlier = value;
            }
        }
        Ok(())
    }

    pub(super) fn latest(&self) -> HeaderMap {
        self.latest.lock().clone()
    }
}
