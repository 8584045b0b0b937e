//! Aeropay's token endpoint without sockets, and the settings for it.

use http::StatusCode;
use tower_bearer_auth::aeropay::{ApiVersion, Environment};
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{Aeropay, AeropayBuilder};

use crate::support::api::Api;
use crate::support::responses::response_with;

pub(crate) const SECRET: &str = "S3cret-CANARY \"quoted\" \\ \u{fc}";

/// A token endpoint that sends the same response to every token request.
pub(crate) fn token_endpoint(status: u16, body: impl Into<bytes::Bytes>) -> Api {
    let (status, body) = (StatusCode::from_u16(status).unwrap(), body.into());
    Api::new(move |_| response_with(status, body.clone()))
}

/// A token endpoint for tests that send no token request.
pub(crate) fn unused() -> Api {
    token_endpoint(500, "")
}

/// The bodies of all token requests.
pub(crate) fn bodies(endpoint: &Api) -> Vec<String> {
    endpoint.sends().iter().map(|request| String::from_utf8(request.body().to_vec()).unwrap()).collect()
}

/// The settings for a merchant in the sandbox environment.
pub(crate) fn settings(version: ApiVersion, client: impl Into<TokenClient>) -> AeropayBuilder {
    Aeropay::builder()
        .api_version(version)
        .environment(Environment::Sandbox)
        .api_key("the-key")
        .api_secret(SECRET)
        .merchant_id(1057)
        .http_client(client)
}

pub(crate) fn provider(version: ApiVersion) -> Aeropay {
    settings(version, unused()).build().unwrap()
}
