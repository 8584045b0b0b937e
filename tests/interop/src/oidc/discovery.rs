//! The token URL from the issuer's metadata (RFC 8414).

use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, ClientCredentialsBuilder, Error, ErrorKind, PrivateKeyJwt, SigningAlgorithm,
    TokenSource,
};

use super::{Issuer, TOKEN, key};
use crate::issuer::Since;
use crate::suite::{Check, Suite, equal, fail, holds};

pub const METADATA: &str = "/.well-known/oauth-authorization-server";

impl Issuer<'_> {
    pub(super) async fn discovery(&self, suite: &mut Suite) {
        type Proves = fn(ClientCredentialsBuilder, &str, String) -> ClientCredentialsBuilder;
        let methods: [(&str, Proves); 3] = [
            ("a secret in the form", |client, secret, _| client.client_id("orders").client_secret(secret)),
            ("a secret by HTTP Basic", |client, secret, _| {
                let client = client.client_id("orders").client_secret(secret);
                client.client_secret_basic(BasicEncoding::Percent)
            }),
            ("an assertion", |client, _, pem| {
                client.client_id("assert-ES256").private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, pem))
            }),
        ];
        for (what, proves) in methods {
            let work = async {
                let asked = Since::now(self.facts, METADATA).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let client = ClientCredentials::builder().discover(&self.facts.url).await?.api_origin(&self.api.url);
                let client = proves(client, self.world.secret(), key(self.facts, "ES256").await?.pem);
                let source = TokenSource::new(client.build()?);
                source.token().await?;
                source.invalidate();
                source.token().await?;
                equal("requests for the metadata", asked.statuses().await?, [200])?;
                equal("token requests", issued.statuses().await?, [200, 200])
            };
            suite.case(&format!("discovered, with {what}: the metadata is asked for once"), work).await;
        }
        suite
            .case(
                "discovered: a way to prove oneself that the metadata does not list is rejected before any I/O",
                async {
                    let client =
                        ClientCredentials::builder().discover(&self.facts.url).await?.api_origin(&self.api.url);
                    let issued = Since::now(self.facts, TOKEN).await?;
                    let http = tower_bearer_auth::token_endpoint::HttpClient::new()?;
                    let error = rejected(client.client_id("mtls").mutual_tls().http_client(http).build().map(drop))?;
                    equal("kind", error.kind(), ErrorKind::Config)?;
                    let hint = error.hint().unwrap_or_default();
                    holds(hint.contains("client_secret_post") && hint.contains("private_key_jwt"), hint)?;
                    equal("token requests", issued.count().await?, 0)
                },
            )
            .await;
        suite
            .case("an issuer is called as it calls itself: a slash too many, another name for loopback", async {
                let slash = format!("{}/", self.facts.url);
                let error = rejected(ClientCredentials::builder().discover(slash).await.map(drop))?;
                equal("kind", error.kind(), ErrorKind::Config)?;
                holds(error.hint().unwrap_or_default().contains("slash"), &error)?;
                let other = self.facts.url.replace("127.0.0.1", "localhost");
                let error = rejected(ClientCredentials::builder().discover(other).await.map(drop))?;
                // oidc-provider takes its issuer name from its settings.
                equal("kind", error.kind(), ErrorKind::Config)
            })
            .await;
        suite
            .case("a server without metadata is asked at both places, and told as such", async {
                let asked = Since::now(self.api, METADATA).await?;
                let asked_too = Since::now(self.api, "/.well-known/openid-configuration").await?;
                let error = rejected(ClientCredentials::builder().discover(&self.api.url).await.map(drop))?;
                equal("kind", (error.kind(), error.is_transient()), (ErrorKind::Config, false))?;
                equal("requests", (asked.count().await?, asked_too.count().await?), (1, 1))
            })
            .await;
    }
}

pub fn rejected(outcome: Result<(), impl Into<Error>>) -> Check<Error> {
    outcome.map_or_else(|error| Ok(error.into()), |()| fail("it was accepted"))
}
