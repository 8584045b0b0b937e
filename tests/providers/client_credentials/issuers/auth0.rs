use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ConfigError, Secret};

fn auth0(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://example.eu.auth0.com/oauth/token")
        .client_id("SSpuX3Gl0WuMRLCgP6HWYZ5jHWCHhPcu")
        .client_secret(secret)
        .audience("https://orders.example/api")
        .api_origin("https://orders.example")
        .http_client(client)
        .build()
}
