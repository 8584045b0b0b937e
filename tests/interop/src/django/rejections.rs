//! The failures that the toolkit documents.

use serde_json::json;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{BasicEncoding, ErrorKind, from_fn};

use super::{CREDENTIALS, TOKEN, Toolkit};
use crate::issuer::{Makes, Own, fails, permanent, post};
use crate::report::Report;
use crate::suite::Suite;

impl Toolkit<'_> {
    pub(super) async fn rejections(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest};
        let invalid_client = permanent(InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS);
        let unauthorized = permanent(InvalidRequest, 400, Some("unauthorized_client"), "enable the grant type");
        let scope = permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope");
        let rows = [
            ("a wrong secret", self.client("orders").client_secret("wrong-7fQ2"), invalid_client),
            ("an unknown client", self.client("nobody"), invalid_client),
            (
                "a wrong secret by HTTP Basic",
                self.client("orders").client_secret("wrong-7fQ2").client_secret_basic(BasicEncoding::Percent),
                invalid_client,
            ),
            ("a grant that is not allowed for the client", self.client("web"), unauthorized),
            ("an unknown scope", self.client("orders").scope("nonsense"), scope),
        ];
        for (what, builder, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.facts, &mut report.observed, what, builder.build(), expected).await;
        }
        let rows = [
            ("a token URL without its trailing slash", "/o/token", permanent(Config, 301, None, "set the token URL")),
            ("a wrong path", "/oauth/token/", permanent(Config, 404, None, "set the token URL")),
        ];
        for (what, path, expected) in rows {
            let provider = post(&self.url(path), "orders", self.world.secret(), self.facts).build();
            fails(suite, (self.facts, path), self.facts, &mut report.observed, what, provider, expected).await;
        }
        let own = |request: Makes| {
            let client = HttpClient::new().map(TokenClient::new);
            let endpoint = client.and_then(|client| TokenEndpoint::new(&self.url(TOKEN), client));
            let secret = self.world.secret().to_owned();
            endpoint.map(|endpoint| {
                from_fn(move || {
                    let (endpoint, request) = (endpoint.clone(), request(&secret));
                    async move { endpoint.call(request).await?.bearer_token() }
                })
            })
        };
        let unsupported =
            permanent(InvalidRequest, 400, Some("unsupported_grant_type"), "the grant types that the issuer documents");
        let rows: [Own; 3] = [
            (
                "a JSON body",
                |secret| {
                    let body =
                        json!({"grant_type": "client_credentials", "client_id": "orders", "client_secret": secret});
                    TokenRequest::json(body.to_string().into_bytes())
                },
                unsupported,
            ),
            (
                "no grant_type",
                |secret| TokenRequest::form(&[("client_id", "orders"), ("client_secret", secret)]),
                unsupported,
            ),
            ("no client", |_| TokenRequest::form(&[("grant_type", "client_credentials")]), invalid_client),
        ];
        for (what, request, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.facts, &mut report.observed, what, own(request), expected).await;
        }
    }
}
