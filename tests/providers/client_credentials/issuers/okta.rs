use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{BasicEncoding, ClientCredentials, ConfigError, Secret};

/// An API of your own, with a custom authorization server.
fn okta(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://example.okta.com/oauth2/default/v1/token")
        .client_id("0oar95zt9zIpYuz6A0h7")
        .client_secret(secret)
        .client_secret_basic(BasicEncoding::Percent)
        .scope("orders.read")
        .api_origin("https://orders.example")
        .http_client(client)
        .build()
}
