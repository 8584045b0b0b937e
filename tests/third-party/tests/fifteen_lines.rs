//! A complete provider of a user takes 15 lines or fewer.

use tower_bearer_auth::token_endpoint::{HttpClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{Error, FetchContext, IssuedToken, TokenProvider, TokenSource};
use tower_bearer_auth_sandbox::AccessPspSandbox;

// The provider begins here.
struct Issuer {
    endpoint: TokenEndpoint,
    id: String,
    secret: String,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, _: &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let fields = [("grant_type", "client_credentials"), ("client_id", &self.id), ("client_secret", &self.secret)];
        self.endpoint.call(TokenRequest::form(&fields)).await?.bearer_token()
    }
}
// The provider ends here.

#[test]
fn the_provider_above_takes_15_lines_or_fewer() {
    let text = include_str!("fifteen_lines.rs");
    let (_, rest) = text.split_once("// The provider begins here.\n").unwrap();
    let (provider, _) = rest.split_once("// The provider ends here.\n").unwrap();
    let lines = provider.lines().count();
    println!("{lines} lines");
    assert!((5..=15).contains(&lines), "{lines} lines");
    assert!(provider.contains("impl TokenProvider for") && provider.lines().all(|line| line.len() <= 120));
}

#[tokio::test]
async fn the_provider_above_fetches_a_token() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
    let endpoint = TokenEndpoint::new(&sandbox.token_url(), client).unwrap();
    let id = sandbox.client_id().to_owned();
    let source = TokenSource::new(Issuer { endpoint, id, secret: sandbox.client_secret().to_owned() });
    let tokens = [source.token().await.unwrap(), source.token().await.unwrap()];
    assert_eq!(tokens[0].expose_secret(), tokens[1].expose_secret());
    assert_eq!(sandbox.token_request_count(), 1);
}
