use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{BasicEncoding, ClientCredentials, ConfigError, Secret};

fn apigee(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://api.example/oauth/token")
        .client_id("xNnREu1DNGfiwzQZ5HUN8IAUwZSW1GZW")
        .client_secret(secret)
        .client_secret_basic(BasicEncoding::Raw)
        .accept_token_type("BearerToken")
        .api_origin("https://api.example")
        .http_client(client)
        .build()
}
