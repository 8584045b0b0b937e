use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{ClientCredentials, ConfigError, PrivateKeyJwt, Secret, SigningAlgorithm};

/// `pem` has the private key and the certificate.
fn by_certificate(pem: Secret, client: impl Into<TokenClient>) -> Result<ClientCredentials, ConfigError> {
    ClientCredentials::builder()
        .token_url("https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token")
        .client_id("97e0a5b7-d745-40b6-94fe-5f77d35c6e05")
        .private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Ps256, pem.clone()).certificate(pem))
        .scope("https://graph.microsoft.com/.default")
        .api_origin("https://graph.microsoft.com")
        .http_client(client)
        .build()
}
