//! PyPI django-oauth-toolkit and the views that it protects.

mod rejections;
mod views;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, Error, ErrorKind, FetchContext, IssuedToken, Origins, PrivateKeyJwt, Rejection,
    ResponseHead, SigningAlgorithm, TokenProvider, TokenSource,
};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Since, all_noted, call, introspect, post, stack, tokens_issued};
use crate::oidc::discovery::{METADATA, rejected};
use crate::oidc::seconds;
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, boxed, equal, fail, holds};

const TOKEN: &str = "/o/token/";
const CREDENTIALS: &str = "verify the client id, the secret or key";

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("django-oauth-toolkit")?;
    let mut suite = Suite::new(facts);
    let issuer = Toolkit { world, facts };
    issuer.tokens(&mut suite).await;
    issuer.views(&mut suite).await;
    issuer.rejections(&mut suite, report).await;
    // It form-decodes a Basic header, and keeps invalid escapes.
    let wanted = |how, secret: &str| match (how, secret) {
        (How::Basic(BasicEncoding::Raw), "plus" | "escape" | "all") => Err((401, "invalid_client")),
        _ => Ok(()),
    };
    let client = |id: &str, secret: &str| post(&issuer.url(TOKEN), id, secret, facts);
    encodings::table(&mut suite, report, facts, TOKEN, world, client, wanted).await;
    suite
        .wrong("a wrong secret gets a token", "rejects the client's credentials", async {
            TokenSource::new(issuer.client("orders").client_secret("wrong-7fQ2").build()?).token().await?;
            Ok(())
        })
        .await;
    suite.counted = all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
    report.suites.push(suite);
    Ok(())
}

/// The toolkit's own view responses every bad token with a bare 403: its user says so, in a provider of their own.
struct Forbidden(ClientCredentials);

impl TokenProvider for Forbidden {
    type Key = ();

    async fn fetch(&self, key: &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        self.0.fetch(key, cx).await
    }

    fn origins(&self) -> Origins {
        self.0.origins()
    }

    fn api_headers(&self) -> HeaderMap {
        self.0.api_headers()
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        match response.status().as_u16() {
            403 => Some(Rejection::InvalidToken),
            _ => Rejection::standard(response),
        }
    }
}

struct Toolkit<'a> {
    world: &'a World,
    facts: &'a Facts,
}

impl Toolkit<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.facts.url)
    }

    /// The issuer and the API are the same server.
    fn client(&self, id: &str) -> tower_bearer_auth::ClientCredentialsBuilder {
        post(&self.url(TOKEN), id, self.world.secret(), self.facts)
    }

    fn at(&self, path: &str) -> Check<Request<Full<Bytes>>> {
        Ok(Request::get(self.url(path)).body(Full::default())?)
    }

    async fn introspect(&self, token: &str) -> Check<Value> {
        introspect(&self.url("/o/introspect/"), self.world.secret(), token).await
    }

    async fn revoke(&self, token: &str) -> Check {
        let fields = [("token", token), ("client_id", "orders"), ("client_secret", self.world.secret())];
        let reply = plain::post_form(&self.url("/o/revoke_token/"), &fields).await?;
        equal("revocation", reply.status.as_u16(), 200)
    }

    async fn tokens(&self, suite: &mut Suite) {
        suite
            .case("the token that was stamped is active at the issuer, and lives as long as both say", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/challenge/").await?;
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                let stamped = at_api.noted().await?.pop().and_then(|noted| noted.authorization).unwrap_or_default();
                let Some(token) = stamped.strip_prefix("Bearer ") else {
                    return fail("no bearer token was stamped");
                };
                let said = self.introspect(token).await?;
                equal("active", &said["active"], &json!(true))?;
                equal("client", &said["client_id"], &json!("orders"))?;
                let ours = source.peek().map(|token| token.expires_at()).map(seconds).unwrap_or_default();
                let theirs = said["exp"].as_u64().unwrap_or_default();
                holds(ours.abs_diff(theirs) <= 2, format!("it ends at {theirs} for the issuer, and at {ours} here"))?;
                equal("token requests", issued.statuses().await?, [200])?;
                equal("fetches", source.stats().fetches, 1)
            })
            .await;
        suite
            .case("the issuer counts as many tokens as there are fetches", async {
                let before = tokens_issued(self.facts).await?;
                let source = TokenSource::new(self.client("orders").build()?);
                let callers = (0..50).map(|_| source.token());
                futures_util::future::try_join_all(callers).await?;
                source.invalidate();
                source.token().await?;
                equal("tokens", tokens_issued(self.facts).await? - before, 2)?;
                equal("fetches", source.stats().fetches_succeeded, 2)
            })
            .await;
        suite
            .case("a JWT is stamped like any other token", async {
                let source = TokenSource::new(self.client("orders-jwt").build()?);
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                let token = source.token().await?;
                equal("parts of the token", token.expose_secret().split('.').count(), 3)?;
                equal("active", &self.introspect(token.expose_secret()).await?["active"], &json!(true))
            })
            .await;
        suite
            .case("a scope is granted as it was asked for", async {
                let source = TokenSource::new(self.client("orders").scope("read write").build()?);
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("scope", &said["scope"], &json!("read write"))
            })
            .await;
        for (what, path) in [("at its root", ""), ("with a path, which goes behind the well-known part", "/o")] {
            let work = async {
                let asked = Since::now_at(self.facts, format!("{METADATA}{path}")).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let client = ClientCredentials::builder().discover(self.url(path)).await?.api_origin(&self.facts.url);
                let client = client.client_id("orders").client_secret(self.world.secret());
                TokenSource::new(client.build()?).token().await?;
                equal("requests for the metadata", asked.statuses().await?, [200])?;
                equal("token requests", issued.statuses().await?, [200])
            };
            suite.case(&format!("discovered: an issuer {what}"), work).await;
        }
        suite
            .case(
                "discovered: an assertion is rejected before any I/O, since the metadata lists secrets alone",
                async {
                    let client =
                        ClientCredentials::builder().discover(&self.facts.url).await?.api_origin(&self.facts.url);
                    let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, "no key is looked at");
                    let error = rejected(client.client_id("orders").private_key_jwt(signer).build().map(drop))?;
                    equal("kind", error.kind(), ErrorKind::Config)
                },
            )
            .await;
        suite
            .case("resource= is what the token is for, at the issuer and at the API", async {
                let source = TokenSource::new(self.client("orders").resource(&self.facts.url).build()?);
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("audience", &said["aud"], &json!([self.facts.url]))?;
                let elsewhere = self.client("orders").resource("https://elsewhere.example").build()?;
                let response =
                    call(&stack(&TokenSource::new(elsewhere)), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's reply to another", response.status().as_u16(), 401)
            })
            .await;
        suite
            .case("tokens of six seconds are renewed before they end, and none is rejected", async {
                let source = TokenSource::new(self.client("renewed").build()?);
                let stack = stack(&source);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/challenge/").await?;
                while issued.count().await? < 3 {
                    let response = call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 200)?;
                }
                holds(at_api.statuses().await?.iter().all(|status| *status == 200), "an expired token was sent")?;
                holds(source.stats().fetches_failed == 0, "a refresh failed")
            })
            .await;
        suite
            .case("an expired token is inactive at the issuer, and not sent", async {
                let source = TokenSource::new(self.client("short").build()?);
                let first = source.token().await?;
                while self.introspect(first.expose_secret()).await?["active"] == json!(true) {}
                holds(source.peek().is_none(), "it is still held to be usable")?;
                let second = source.token().await?;
                equal("active", &self.introspect(second.expose_secret()).await?["active"], &json!(true))
            })
            .await;
    }
}
