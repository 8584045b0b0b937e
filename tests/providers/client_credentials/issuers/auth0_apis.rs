use http::Request;
use tower::Layer as _;
use tower::util::MapRequest;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{BearerAuth, ClientCredentials, ConfigError, Secret, TargetApi, TokenSource};

type Provider = ClientCredentials<TargetApi>;

fn auth0_apis(secret: Secret, client: impl Into<TokenClient>) -> Result<TokenSource<Provider>, ConfigError> {
    let provider = ClientCredentials::builder()
        .token_url("https://example.eu.auth0.com/oauth/token")
        .client_id("SSpuX3Gl0WuMRLCgP6HWYZ5jHWCHhPcu")
        .client_secret(secret)
        .api_origin("https://orders.example")
        .api_origin("https://stock.example")
        .api_origin("https://billing.example")
        .http_client(client)
        .build_keyed()?;
    Ok(TokenSource::new(provider))
}

/// Sets the target of each request.
fn with_target<B>(target: &TargetApi) -> impl Fn(Request<B>) -> Request<B> + Clone {
    let target = target.clone();
    move |mut request| {
        request.extensions_mut().insert(target.clone());
        request
    }
}

/// The client of one API, over an HTTP client. `with_target` is that of the API.
fn client_of<S, F>(source: &TokenSource<Provider>, with_target: F, http: S) -> MapRequest<BearerAuth<S, Provider>, F> {
    MapRequest::new(source.layer().layer(http), with_target)
}
