use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ConfigError, Secret};

fn keycloak(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://keycloak.example/realms/demo/protocol/openid-connect/token")
        .client_id("orders-job")
        .client_secret(secret)
        .api_origin("https://orders.example")
        .http_client(client)
        .build()
}
