//! npm express-oauth2-jwt-bearer: a resource server that verifies the JWTs of oidc-provider.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tower_bearer_auth::{Audit, ClientCredentials, ClientCredentialsBuilder, ReplayOutcome, TokenSource};

use crate::World;
use crate::issuer::{Since, Stopped, all_noted, call, post, stack};
use crate::oidc::{TOKEN, key, now, seconds};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, boxed, equal, fail, holds};

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("express-oauth2-jwt-bearer")?;
    let mut suite = Suite::new(facts);
    let api = Api { world, facts, issuer: world.server("oidc-provider")? };
    api.challenges(&mut suite).await;
    api.replays(&mut suite).await;
    suite
        .wrong("a request without a token is let in", "found 401, wanted 200", async {
            let reply = plain::get(&api.url("/jwt")).await?;
            equal("status", reply.status.as_u16(), 200)
        })
        .await;
    suite.counted = all_noted(facts).await?.len();
    report.suites.push(suite);
    Ok(())
}

struct Api<'a> {
    world: &'a World,
    facts: &'a Facts,
    issuer: &'a Facts,
}

impl Api<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.facts.url)
    }

    fn client(&self, id: &str) -> ClientCredentialsBuilder {
        post(&format!("{}{TOKEN}", self.issuer.url), id, self.world.secret(), self.facts)
    }

    fn request(&self, method: Method, path: &str, body: &'static str) -> Check<Request<Full<Bytes>>> {
        let request = Request::builder().method(method).uri(self.url(path)).header("content-type", "text/plain");
        Ok(request.body(Full::from(body))?)
    }

    /// A source with a token that it considers fresh and that the resource server rejects.
    async fn outlived(&self) -> Check<TokenSource<ClientCredentials>> {
        let source = TokenSource::builder(self.client("short-jwt").build()?).clock(Stopped::now()).build();
        let token = source.token().await?;
        while plain::get_with(&self.url("/jwt"), token.expose_secret()).await?.status == StatusCode::OK {}
        equal("still the current one", source.peek().map(|now| now.generation()), Some(token.generation()))?;
        Ok(source)
    }

    async fn challenges(&self, suite: &mut Suite) {
        suite
            .case("its challenges: two in one field, and an error for a bad token alone", async {
                let none = plain::get(&self.url("/jwt")).await?;
                equal("without a token", none.status.as_u16(), 401)?;
                let fields = none.headers.get_all("www-authenticate").iter().count();
                equal("fields", fields, 1)?;
                let challenge = none.header("www-authenticate");
                holds(challenge.starts_with("Bearer realm=\"api\", DPoP "), challenge)?;
                let bad = plain::get_with(&self.url("/jwt"), "x.y.z").await?;
                equal("with a bad one", bad.status.as_u16(), 401)?;
                let challenge = bad.header("www-authenticate");
                holds(challenge.contains("error=\"invalid_token\"") && challenge.contains(", DPoP "), challenge)
            })
            .await;
        suite
            .case("what it rejects: another key's signature, and none at all", async {
                let claims = json!({"iss": self.issuer.url, "aud": "urn:interop:api", "sub": "orders",
                                    "iat": seconds(now()), "exp": seconds(now()) + 60});
                let stranger = EncodingKey::from_ec_pem(key(self.issuer, "stranger").await?.pem.as_bytes())?;
                let header =
                    Header { kid: Some("ES256".into()), typ: Some("at+jwt".into()), ..Header::new(Algorithm::ES256) };
                let forged = jsonwebtoken::encode(&header, &claims, &stranger)?;
                equal("another key", plain::get_with(&self.url("/jwt"), &forged).await?.status.as_u16(), 401)?;
                let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
                let unsigned = format!("{}.{}.", part(&json!({"alg": "none", "typ": "at+jwt"})), part(&claims));
                equal("no signature", plain::get_with(&self.url("/jwt"), &unsigned).await?.status.as_u16(), 401)
            })
            .await;
        suite
            .case("insufficient_scope is passed on, and no token is asked for", async {
                let source = TokenSource::new(self.client("orders-jwt").build()?);
                let issued = Since::now(self.issuer, TOKEN).await?;
                let at_api = Since::now(self.facts, "/jwt/scoped").await?;
                let stack = stack(&source);
                for _ in 0..5 {
                    let response = call(&stack, self.request(Method::GET, "/jwt/scoped", "")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 403)?;
                    let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
                    holds(challenge.unwrap_or_default().contains("insufficient_scope"), format!("{challenge:?}"))?;
                }
                equal("sends", at_api.statuses().await?, [403; 5])?;
                equal("token requests", issued.count().await?, 1)?;
                equal("rejections", source.stats().rejections, 0)
            })
            .await;
        suite
            .case("a token for another audience: two sends at most, and a bounded number of token requests", async {
                let source = TokenSource::new(self.client("elsewhere-jwt").build()?);
                let issued = Since::now(self.issuer, TOKEN).await?;
                let at_api = Since::now(self.facts, "/jwt").await?;
                let stack = stack(&source);
                for _ in 0..20 {
                    let response = call(&stack, self.request(Method::GET, "/jwt", "")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 401)?;
                }
                // The first request is replayed with a new token. A token that was never accepted is not refreshed
                // again.
                equal("token requests", issued.count().await?, 2)?;
                equal("sends", at_api.count().await?, 21)?;
                equal("declined", source.stats().budget_exhausted, 19)
            })
            .await;
    }

    async fn replays(&self, suite: &mut Suite) {
        suite
            .case("a JWT that has expired is rejected, and replayed by one token request", async {
                let source = self.outlived().await?;
                let issued = Since::now(self.issuer, TOKEN).await?;
                let at_api = Since::now(self.facts, "/jwt").await?;
                let response = call(&stack(&source), self.request(Method::GET, "/jwt", "")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                equal("replay", Audit::of(&response).map(|audit| audit.replay), Some(ReplayOutcome::Replayed))?;
                let noted = at_api.noted().await?;
                let [first, second] = &noted[..] else {
                    return fail(format!("{} sends", noted.len()));
                };
                equal("statuses", (first.status, second.status), (Some(401), Some(200)))?;
                holds(first.authorization != second.authorization, "the old token again")?;
                equal("token requests", issued.statuses().await?, [200])
            })
            .await;
        suite
            .case("a POST is replayed as well, since the rejection is explicit, and applied once", async {
                let source = self.outlived().await?;
                let applied = || plain::get_json_list(&self.facts.control, "/applied");
                let before = applied().await?.len();
                let at_api = Since::now(self.facts, "/jwt/transfers").await?;
                let request = self.request(Method::POST, "/jwt/transfers", "transfer 17")?;
                let response = call(&stack(&source), request).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 201)?;
                equal("sends", at_api.statuses().await?, [401, 201])?;
                equal("applied", &applied().await?[before..], &[json!("transfer 17")][..])
            })
            .await;
        suite
            .case("thirty concurrent requests with an expired token need one token request", async {
                let source = self.outlived().await?;
                let issued = Since::now(self.issuer, TOKEN).await?;
                let stack = stack(&source);
                let mut callers = Vec::new();
                for _ in 0..30 {
                    callers.push(call(&stack, self.request(Method::GET, "/jwt", "")?));
                }
                for response in futures_util::future::join_all(callers).await {
                    equal("the API's reply", response.map_err(boxed)?.status().as_u16(), 200)?;
                }
                equal("token requests", issued.count().await?, 1)?;
                equal("fetches", source.stats().fetches, 2)
            })
            .await;
        suite
            .case("tokens of six seconds are renewed before this server rejects one", async {
                let source = TokenSource::new(self.client("renewed-jwt").build()?);
                let issued = Since::now(self.issuer, TOKEN).await?;
                let at_api = Since::now(self.facts, "/jwt").await?;
                let stack = stack(&source);
                while issued.count().await? < 3 {
                    let response = call(&stack, self.request(Method::GET, "/jwt", "")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 200)?;
                }
                holds(at_api.statuses().await?.iter().all(|status| *status == 200), "an expired token was sent")
            })
            .await;
    }
}
