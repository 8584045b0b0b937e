use std::time::Duration;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ConfigError, Secret};

fn salesforce(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://example.my.salesforce.com/services/oauth2/token")
        .client_id("3MVG9.consumer.key")
        .client_secret(secret)
        .default_lifetime(Duration::from_secs(2 * 60 * 60)) // the session timeout of the org
        .api_origin("https://example.my.salesforce.com")
        .http_client(client)
        .build()
}
