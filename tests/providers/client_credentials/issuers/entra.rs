use std::path::Path;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ClientCredentialsBuilder, ConfigError, Secret, TargetApi};

fn graph(client: impl Into<TokenClient>) -> ClientCredentialsBuilder {
    ClientCredentials::builder()
        .token_url("https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token")
        .client_id("97e0a5b7-d745-40b6-94fe-5f77d35c6e05")
        .scope("https://graph.microsoft.com/.default")
        .api_origin("https://graph.microsoft.com")
        .http_client(client)
}

fn by_secret(secret: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    graph(client).client_secret(secret).build()
}

/// `token_file` is the path in the environment variable `AZURE_FEDERATED_TOKEN_FILE`.
fn by_workload_identity(token_file: &Path, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    graph(client).client_assertion(Secret::from_file(token_file)?).build()
}

/// Each request has a `TargetApi` in its extensions.
fn for_many_apis(
    secret: Secret,
    client: impl Into<TokenClient>,
) -> Result<(ClientCredentials<TargetApi>, TargetApi), ConfigError> {
    let vault = TargetApi::new().scope("https://vault.azure.net/.default");
    let provider = graph(client).client_secret(secret).api_origin("https://orders.vault.azure.net").build_keyed()?;
    Ok((provider, vault))
}
