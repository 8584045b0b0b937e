//! Additional headers of token requests.

use http::HeaderName;

use super::check;
use super::secret::Secret;
#[cfg(feature = "shared")]
use super::secret_value::SecretValue;
use crate::error::{ConfigError, Error};
use crate::token_endpoint::TokenRequest;

/// The headers that a provider adds to its token requests. Their values can change while the program runs.
pub(super) struct TokenHeaders {
    /// The name of the setting in errors.
    pub(super) setting: &'static str,
    headers: Vec<(HeaderName, Secret)>,
}

impl TokenHeaders {
    /// Checks the names, and the values that are known before they are loaded.
    pub(super) fn new(headers: Vec<(String, Secret)>) -> Result<Self, ConfigError> {
        let setting = "token_header";
        let mut checked = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let name = check::header_name(setting, &name)?;
            if let Some(value) = value.peek() {
                check::header_value(setting, &value)?;
            }
            checked.push((name, value));
        }
        Ok(Self { setting, headers: checked })
    }

    #[cfg(feature = "client-credentials")]
    pub(super) fn contain(&self, wanted: &HeaderName) -> bool {
        self.headers.iter().any(|(name, _)| name == wanted)
    }

    /// Loads the values.
    #[cfg(feature = "shared")]
    pub(super) async fn load(&self) -> Result<Vec<SecretValue>, Error> {
        let mut values = Vec::with_capacity(self.headers.len());
        for (_, value) in &self.headers {
            values.push(value.load().await?);
        }
        Ok(values)
    }

    /// Loads the values and adds the headers to a request.
    pub(super) async fn add_to(&self, mut request: TokenRequest) -> Result<TokenRequest, Error> {
        for (name, value) in &self.headers {
            let value = check::header_value(self.setting, &value.load().await?)?;
            request = request.header(name.clone(), value);
        }
        Ok(request)
    }
}

#[cfg(all(test, feature = "access-psp", feature = "http-client"))]
mod tests {
    use crate::provider::{FetchContext, TokenProvider};
    use crate::providers::{AccessPsp, ClientCredentials, Secret, SecretValue};

    #[tokio::test]
    async fn an_invalid_value_that_is_loaded_for_a_fetch_is_an_error_with_the_name_of_its_setting() {
        let invalid = || Secret::from_fn(|| Ok(SecretValue::from("CANARY\n")));
        let psp = AccessPsp::builder().client_id("id").client_secret("secret").token_api_key(invalid());
        let error = psp.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert!(error.to_string().starts_with("token_api_key: it contains a control character"), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");

        let general = ClientCredentials::builder()
            .client_id("id")
            .client_secret("secret")
            .token_url("https://issuer.test/token")
            .api_origin("https://api.test")
            .token_header("x-api-key", invalid());
        let error = general.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
        assert!(error.to_string().starts_with("token_header: it contains a control character"), "{error}");
    }
}
