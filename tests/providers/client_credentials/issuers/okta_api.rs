use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ConfigError, PrivateKeyJwt, Secret, SigningAlgorithm};

/// Okta's own APIs, with the org authorization server.
fn okta_api(key: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://example.okta.com/oauth2/v1/token")
        .client_id("0oar95zt9zIpYuz6A0h7")
        .private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Rs256, key).key_id("jwks1"))
        .scope("okta.users.read")
        .api_origin("https://example.okta.com")
        .http_client(client)
        .build()
}
