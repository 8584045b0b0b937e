use http::Request;
use tower::ServiceBuilder;
use tower::util::MapRequest;
use tower_bearer_auth::token_endpoint::TokenClient;
use tower_bearer_auth::{BearerAuth, ClientCredentials, ConfigError, Secret, TargetApi, TokenSource};

type Source = TokenSource<ClientCredentials<TargetApi>>;

fn auth0_apis(secret: Secret, client: impl Into<TokenClient>) -> Result<Source, ConfigError> {
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

/// The client of one API, over an HTTP client.
fn client_of<S, B>(
    source: &Source,
    target: &TargetApi,
    http: S,
) -> MapRequest<BearerAuth<S, ClientCredentials<TargetApi>>, impl Fn(Request<B>) -> Request<B> + Clone> {
    let target = target.clone();
    let set_target = move |mut request: Request<B>| {
        request.extensions_mut().insert(target.clone());
        request
    };
    ServiceBuilder::new().map_request(set_target).layer(source.layer()).service(http)
}
