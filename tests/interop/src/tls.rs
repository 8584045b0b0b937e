//! oidc-provider behind TLS: trusted certificates and client certificates.

use http::Request;
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{ClientCredentials, ClientCredentialsBuilder, ConfigError, ErrorKind, TokenSource};

use crate::World;
use crate::connections;
use crate::issuer::{Since, all_noted, call, failed, impatient, permanent, post, says, stack, tokens_issued};
use crate::oidc::TOKEN;
use crate::oidc::discovery::METADATA;
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, boxed, equal, fail, holds};

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("oidc-provider over TLS")?;
    let mut suite = Suite::new(facts);
    let issuer = Tls { world, facts, api: world.server("express-oauth2-jwt-bearer over TLS")? };
    issuer.trust(&mut suite).await;
    issuer.identity(&mut suite).await;
    suite
        .wrong("an untrusted issuer issues a token", "the issuer at https://localhost", async {
            let client = HttpClient::builder().build()?;
            TokenSource::new(issuer.client(client).build()?).token().await?;
            Ok(())
        })
        .await;
    suite.counted = all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
    report.suites.push(suite);
    Ok(())
}

struct Tls<'a> {
    world: &'a World,
    facts: &'a Facts,
    api: &'a Facts,
}

impl Tls<'_> {
    fn token_url(&self) -> String {
        format!("{}{TOKEN}", self.facts.url)
    }

    fn trusting(&self) -> HttpClientBuilder {
        HttpClient::builder().roots_pem(&self.world.certificates.authority)
    }

    fn client(&self, http: HttpClient) -> ClientCredentialsBuilder {
        post(&self.token_url(), "orders", self.world.secret(), self.api).http_client(http)
    }

    async fn handshakes_failed(&self) -> Check<u64> {
        let counts = plain::get_json(&format!("{}/counts", self.facts.control)).await?;
        Ok(counts["handshakes_failed"].as_u64().unwrap_or_default())
    }

    /// The handshake fails, and no request arrives, so the secret is not sent.
    async fn unreached(&self, client: ClientCredentialsBuilder, cause: &str) -> Check {
        let issued = Since::now(self.facts, TOKEN).await?;
        let error = failed(impatient(client.build()?).build().token().await)?;
        equal("requests at the issuer", issued.count().await?, 0)?;
        connections::says_tls(error, cause)
    }

    async fn trust(&self, suite: &mut Suite) {
        suite
            .case("an authority as PEM is trusted, and a JWT over TLS gets to the API", async {
                let client = post(&self.token_url(), "orders-jwt", self.world.secret(), self.api);
                let source = TokenSource::new(client.http_client(self.trusting().build()?).build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/jwt").await?;
                let request = Request::get(format!("{}/jwt", self.api.url)).body(Default::default())?;
                let response = call(&stack(&source), request).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                let stamped = at_api.noted().await?.into_iter().next().and_then(|noted| noted.authorization);
                let token = source.token().await?;
                equal("stamped", stamped, Some(format!("Bearer {}", token.expose_secret())))?;
                equal("token requests", issued.statuses().await?, [200])
            })
            .await;
        suite
            .case("two authorities: one of them is enough", async {
                let both = HttpClient::builder()
                    .roots_pem(&self.world.certificates.other)
                    .roots_pem(&self.world.certificates.authority);
                TokenSource::new(self.client(both.build()?).build()?).token().await?;
                Ok(())
            })
            .await;
        suite
            .case("the bundled roots do not trust it, and the secret is not sent", async {
                let failed = self.handshakes_failed().await?;
                self.unreached(self.client(HttpClient::new()?), "UnknownIssuer").await?;
                equal("failed handshakes at the issuer", self.handshakes_failed().await? - failed, 1)
            })
            .await;
        suite
            .case("another authority does not trust it, and the secret is not sent", async {
                let client = HttpClient::builder().roots_pem(&self.world.certificates.other).build()?;
                self.unreached(self.client(client), "UnknownIssuer").await
            })
            .await;
        suite
            .case("a certificate for another name is rejected, and the secret is not sent", async {
                let url = self.token_url().replace("localhost", "127.0.0.1");
                let client = post(&url, "orders", self.world.secret(), self.api).http_client(self.trusting().build()?);
                self.unreached(client, "not valid for").await
            })
            .await;
        suite
            .case("clear text to the TLS port is a failure, and no request", async {
                let url = self.token_url().replace("https://localhost", "http://127.0.0.1");
                let issued = Since::now(self.facts, TOKEN).await?;
                let source = impatient(post(&url, "orders", self.world.secret(), self.api).build()?).build();
                let kind = source.token().await.err().map(|error| error.kind());
                holds(matches!(kind, Some(ErrorKind::Unavailable | ErrorKind::InvalidRequest)), format!("{kind:?}"))?;
                equal("requests at the issuer", issued.count().await?, 0)
            })
            .await;
        suite
            .case("a wrong secret is told as such over TLS", async {
                let client = self.client(self.trusting().build()?).client_secret("wrong-7fQ2");
                let error = TokenSource::new(client.build()?).token().await.err();
                let expected =
                    permanent(ErrorKind::InvalidCredentials, 401, Some("invalid_client"), "the secret or key");
                error.map_or_else(|| fail("there is a token"), |error| says(&error, expected))
            })
            .await;
    }

    /// Mutual TLS (RFC 8705 section 2): the certificate is the proof of identity, and no secret is sent.
    async fn identity(&self, suite: &mut Suite) {
        let client = |http: Result<HttpClient, ConfigError>| {
            let client = ClientCredentials::builder().client_id("mtls").mutual_tls().token_url(self.token_url());
            client.api_origin(&self.api.url).http_client(http?).build()
        };
        suite
            .case("a client certificate gets a token without a secret", async {
                let (chain, key) = &self.world.certificates.client;
                let source = TokenSource::new(client(self.trusting().identity_pem(chain, key).build())?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let token = source.token().await?;
                equal("token requests", issued.statuses().await?, [200])?;
                holds(!token.expose_secret().is_empty(), "an empty token")
            })
            .await;
        suite
            .case("discovered over TLS: the metadata has a client with a certificate as well", async {
                let (chain, key) = &self.world.certificates.client;
                let http = self.trusting().identity_pem(chain, key).build()?;
                let asked = Since::now(self.facts, METADATA).await?;
                let client = ClientCredentials::builder().http_client(http).discover(&self.facts.url).await?;
                let client = client.client_id("mtls").mutual_tls().api_origin(&self.api.url).build()?;
                TokenSource::new(client).token().await?;
                equal("requests for the metadata", asked.statuses().await?, [200])
            })
            .await;
        let rejected = permanent(ErrorKind::InvalidCredentials, 401, Some("invalid_client"), "the secret or key");
        let (chain, key) = &self.world.certificates.stranger;
        for (name, http) in [
            ("another client's certificate is rejected", self.trusting().identity_pem(chain, key).build()),
            ("no client certificate is rejected", self.trusting().build()),
        ] {
            let work = async {
                let source = TokenSource::new(client(http)?);
                let issued = Since::now(self.facts, TOKEN).await?;
                match source.token().await {
                    Ok(_) => fail("there is a token"),
                    Err(error) => says(&error, rejected),
                }?;
                equal("token requests", issued.statuses().await?, [401])
            };
            suite.case(name, work).await;
        }
    }
}
