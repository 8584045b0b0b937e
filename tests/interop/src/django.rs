//! PyPI django-oauth-toolkit, and the views that it protects.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tower_bearer_auth::exchange::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{
    Audit, BasicEncoding, ClientCredentials, Error, ErrorKind, IssuedToken, Origins, Refusal, Replay, ResponseHead,
    TokenProvider, TokenSource, from_fn,
};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Makes, Own, Since, all_noted, call, fails, introspect, permanent, post, stack};
use crate::oidc::{boxed, seconds};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Failure, Suite, equal, fail, holds};

const TOKEN: &str = "/o/token/";
const CREDENTIALS: &str = "verify the client id and the client secret";

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("django-oauth-toolkit")?;
    let mut suite = Suite::new(facts);
    let issuer = Toolkit { world, facts };
    issuer.tokens(&mut suite).await;
    issuer.views(&mut suite).await;
    issuer.refusals(&mut suite, report).await;
    // It decodes a Basic header as a form, and leaves alone what is no escape.
    let wanted = |how, secret: &str| match (how, secret) {
        (How::Basic(BasicEncoding::Raw), "plus" | "escape" | "all") => Err((401, "invalid_client")),
        _ => Ok(()),
    };
    encodings::table(&mut suite, report, facts, (&issuer.url(TOKEN), TOKEN), facts, world, wanted).await;
    suite
        .wrong("a wrong secret gets a token", "does not accept the client's credentials", async {
            TokenSource::new(issuer.client("orders").client_secret("wrong-7fQ2").build()?).token().await?;
            Ok(())
        })
        .await;
    suite.counted = all_noted(facts).await?.len();
    report.suites.push(suite);
    Ok(())
}

/// The toolkit's own view answers every bad token with a bare 403: its user says so, in a provider of their own.
struct Forbidden(ClientCredentials);

impl TokenProvider for Forbidden {
    type Key = ();

    async fn fetch(&self, key: &()) -> Result<IssuedToken, Error> {
        self.0.fetch(key).await
    }

    fn origins(&self) -> Origins {
        self.0.origins()
    }

    fn api_headers(&self) -> HeaderMap {
        self.0.api_headers()
    }

    fn refusal(&self, response: &ResponseHead<'_>) -> Refusal {
        match response.status().as_u16() {
            403 => Refusal::Explicit,
            _ => Refusal::standard(response),
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

    /// Issuer and API are one server here.
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
        let answer = plain::post_form(&self.url("/o/revoke_token/"), &fields).await?;
        equal("revocation", answer.status.as_u16(), 200)
    }

    async fn tokens(&self, suite: &mut Suite) {
        suite
            .case("the token that was stamped is active at the issuer, and lives as long as both say", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/challenge/").await?;
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
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
                equal("flights", source.stats().flights, 1)
            })
            .await;
        suite
            .case("the issuer's own count of tokens is that of the flights", async {
                let own = |facts: &Facts| {
                    let url = format!("{}/events", facts.control);
                    async move { Ok::<_, Failure>(plain::get_json(&url).await?.as_array().map_or(0, Vec::len) as u64) }
                };
                let before = own(self.facts).await?;
                let source = TokenSource::new(self.client("orders").build()?);
                let callers = (0..50).map(|_| source.token());
                futures_util::future::try_join_all(callers).await?;
                source.invalidate();
                source.token().await?;
                equal("tokens", own(self.facts).await? - before, 2)?;
                equal("flights", source.stats().flights_succeeded, 2)
            })
            .await;
        suite
            .case("a JWT is stamped like any other token", async {
                let source = TokenSource::new(self.client("orders-jwt").build()?);
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
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
        suite
            .case("resource= is what the token is for, at the issuer and at the API", async {
                let source = TokenSource::new(self.client("orders").resource(&self.facts.url).build()?);
                let response = call(&stack(&source), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("audience", &said["aud"], &json!([self.facts.url]))?;
                let elsewhere = self.client("orders").resource("https://elsewhere.example").build()?;
                let response =
                    call(&stack(&TokenSource::new(elsewhere)), self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's answer to another", response.status().as_u16(), 401)
            })
            .await;
        suite
            .case("tokens of two seconds are renewed before they end, and none is refused", async {
                let source = TokenSource::new(self.client("short").build()?);
                let stack = stack(&source);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/challenge/").await?;
                while issued.count().await? < 4 {
                    let response = call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                    equal("the API's answer", response.status().as_u16(), 200)?;
                }
                holds(at_api.statuses().await?.iter().all(|status| *status == 200), "an ended token was sent")?;
                holds(source.stats().flights_failed == 0, "a renewal failed")
            })
            .await;
        suite
            .case("an ended token is inactive at the issuer, and not sent", async {
                let source = TokenSource::new(self.client("short").build()?);
                let first = source.token().await?;
                while self.introspect(first.expose_secret()).await?["active"] == json!(true) {}
                holds(source.peek().is_none(), "it is still held to be usable")?;
                let second = source.token().await?;
                equal("active", &self.introspect(second.expose_secret()).await?["active"], &json!(true))
            })
            .await;
    }

    async fn views(&self, suite: &mut Suite) {
        suite
            .case("a view with a challenge: a token that was revoked is inactive, and the next request heals", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                let old = source.token().await?;
                self.revoke(old.expose_secret()).await?;
                equal("active", &self.introspect(old.expose_secret()).await?["active"], &json!(false))?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/challenge/").await?;
                let response = call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                equal("sendings", at_api.statuses().await?, [401, 200])?;
                equal("token requests", issued.statuses().await?, [200])?;
                let new = source.token().await?;
                equal("active", &self.introspect(new.expose_secret()).await?["active"], &json!(true))
            })
            .await;
        suite
            .case("the plain view: its 403 has no challenge, is no refusal, and is handed on", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                equal("before", call(&stack, self.at("/plain/")?).await.map_err(boxed)?.status().as_u16(), 200)?;
                self.revoke(source.token().await?.expose_secret()).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/plain/").await?;
                let response = call(&stack, self.at("/plain/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 403)?;
                holds(!response.headers().contains_key("www-authenticate"), "it has a challenge")?;
                equal(
                    "replay",
                    response.extensions().get::<Audit>().map(|audit| audit.replay),
                    Some(Replay::NotNeeded),
                )?;
                equal("sendings", at_api.statuses().await?, [403])?;
                equal("token requests", issued.count().await?, 0)
            })
            .await;
        suite
            .case("the plain view: a provider that calls its 403 a refusal heals it", async {
                let source = TokenSource::new(Forbidden(self.client("orders").build()?));
                let stack = stack(&source);
                equal("before", call(&stack, self.at("/plain/")?).await.map_err(boxed)?.status().as_u16(), 200)?;
                self.revoke(source.token().await?.expose_secret()).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/plain/").await?;
                let response = call(&stack, self.at("/plain/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                equal("sendings", at_api.statuses().await?, [403, 200])?;
                equal("token requests", issued.count().await?, 1)
            })
            .await;
        suite
            .case("a scope that is missing is no reason to ask for a token", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let at_api = Since::now(self.facts, "/scoped/").await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let response = call(&stack(&source), self.at("/scoped/")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 403)?;
                equal("sendings", at_api.statuses().await?, [403])?;
                equal("token requests", issued.count().await?, 1)
            })
            .await;
        suite
            .case("it takes a field twice, which RFC 6749 section 3.2 forbids: a yes of it says little", async {
                let fields = [
                    ("grant_type", "client_credentials"),
                    ("grant_type", "client_credentials"),
                    ("client_id", "orders"),
                    ("client_secret", self.world.secret()),
                ];
                equal("status", plain::post_form(&self.url(TOKEN), &fields).await?.status.as_u16(), 200)
            })
            .await;
        suite
            .case("it answers GET with 405", async {
                equal("status", plain::get(&self.url(TOKEN)).await?.status.as_u16(), 405)
            })
            .await;
    }

    async fn refusals(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest};
        let invalid_client = permanent(InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS);
        let unauthorized = permanent(InvalidRequest, 400, Some("unauthorized_client"), "have the grant type enabled");
        let scope = permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope");
        let rows = [
            ("a wrong secret", self.client("orders").client_secret("wrong-7fQ2"), invalid_client),
            ("an unknown client", self.client("nobody"), invalid_client),
            (
                "a wrong secret by HTTP Basic",
                self.client("orders").client_secret("wrong-7fQ2").client_secret_basic(BasicEncoding::Percent),
                invalid_client,
            ),
            ("a grant that the client may not use", self.client("web"), unauthorized),
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
