//! npm oidc-provider: certified, strict, and with every feature that a client credentials client can meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_bearer_auth::exchange::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};
use tower_bearer_auth::{BasicEncoding, ErrorKind, Secret, State, TokenSource, from_fn};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Expected, Makes, Own, Since, call, fails, introspect, permanent, post, says, stack};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Failure, Suite, equal, fail, holds};

pub const TOKEN: &str = "/token";
const CREDENTIALS: &str = "verify the client id and the client secret";
const PARAMETERS: &str = "check the parameters";

/// A key that the issuer's side made at its start.
#[derive(Deserialize)]
pub struct Key {
    pub pem: String,
    pub jwk: Value,
}

pub async fn key(facts: &Facts, name: &str) -> Check<Key> {
    let keys = plain::get_json(&format!("{}/keys", facts.control)).await?;
    Ok(serde_json::from_value(keys.get(name).cloned().unwrap_or_default())?)
}

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("oidc-provider")?;
    let mut suite = Suite::new(facts);
    let issuer = Issuer { world, facts, api: world.server("express-oauth2-jwt-bearer")? };
    issuer.tokens(&mut suite).await;
    issuer.lifetimes(&mut suite).await;
    issuer.refusals(&mut suite, report).await;
    issuer.strictness(&mut suite).await;
    issuer.secrets(&mut suite, report).await;
    issuer.wrong(&mut suite).await;
    suite.counted = crate::issuer::all_noted(facts).await?.len();
    report.suites.push(suite);
    Ok(())
}

struct Issuer<'a> {
    world: &'a World,
    facts: &'a Facts,
    api: &'a Facts,
}

impl Issuer<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.facts.url)
    }

    fn client(&self, id: &str) -> tower_bearer_auth::ClientCredentialsBuilder {
        post(&self.url(TOKEN), id, self.world.secret(), self.api)
    }

    fn at_api(&self, path: &str) -> Check<Request<Full<Bytes>>> {
        Ok(Request::get(format!("{}{path}", self.api.url)).body(Full::default())?)
    }

    async fn introspect(&self, token: &str) -> Check<Value> {
        introspect(&self.url("/token/introspection"), self.world.secret(), token).await
    }

    async fn revoke(&self, client: &str, token: &str) -> Check {
        let fields = [("token", token), ("client_id", client), ("client_secret", self.world.secret())];
        let answer = plain::post_form(&self.url("/token/revocation"), &fields).await?;
        equal("revocation", answer.status.as_u16(), 200)
    }

    fn exchange(&self, path: &str) -> Check<TokenEndpoint> {
        Ok(TokenEndpoint::new(&self.url(path), TokenClient::new(HttpClient::new()?))?)
    }

    async fn tokens(&self, suite: &mut Suite) {
        suite
            .case("the token that was stamped is active at the issuer, and lives as long as both say", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let response = call(&stack(&source), self.at_api("/opaque")?).await.map_err(boxed)?;
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
            .case("a hundred callers make one token request", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let callers = (0..100).map(|_| source.token());
                let tokens = futures_util::future::try_join_all(callers).await?;
                holds(
                    tokens.windows(2).all(|two| two[0].generation() == two[1].generation()),
                    "not one token for all",
                )?;
                equal("token requests", issued.count().await?, 1)?;
                equal("flights", source.stats().flights, 1)
            })
            .await;
        suite
            .case("a JWT is taken by a resource server that asks nobody", async {
                let source = TokenSource::new(self.client("orders-jwt").build()?);
                let response = call(&stack(&source), self.at_api("/jwt")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                let body: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
                equal("client", &body["client"], &json!("orders-jwt"))?;
                let token = source.token().await?;
                equal("parts of the token", token.expose_secret().split('.').count(), 3)
            })
            .await;
        suite
            .case("resource= makes it a JWT for that resource, and none makes it opaque", async {
                let source = TokenSource::new(self.client("orders").resource("urn:interop:api").build()?);
                let response = call(&stack(&source), self.at_api("/jwt")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                let opaque = TokenSource::new(self.client("orders").build()?).token().await?;
                equal("parts of the other", opaque.expose_secret().split('.').count(), 1)
            })
            .await;
        suite
            .case("audience and a parameter that it does not know do no harm", async {
                let client = self.client("orders").audience("https://api.example").parameter("tenant", "7");
                let source = TokenSource::new(client.client_secret_basic(BasicEncoding::Percent).build()?);
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("active", &said["active"], &json!(true))
            })
            .await;
        suite
            .case("a JWT cannot be introspected here", async {
                let token = TokenSource::new(self.client("orders-jwt").build()?).token().await?;
                let fields = [
                    ("token", token.expose_secret()),
                    ("client_id", "introspector"),
                    ("client_secret", self.world.secret()),
                ];
                let answer = plain::post_form(&self.url("/token/introspection"), &fields).await?;
                equal("status", answer.status.as_u16(), 400)
            })
            .await;
        suite
            .case("a scope is granted, and an unknown one is dropped in silence", async {
                let source = TokenSource::new(self.client("orders").scope("read nonsense").build()?);
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("active", &said["active"], &json!(true))?;
                holds(
                    said["scope"].as_str().unwrap_or_default().contains("read"),
                    format!("granted: {}", said["scope"]),
                )
            })
            .await;
        suite
            .case("a token that was revoked is inactive, and the next request heals", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                let old = source.token().await?;
                self.revoke("orders", old.expose_secret()).await?;
                equal("active", &self.introspect(old.expose_secret()).await?["active"], &json!(false))?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let response = call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                equal("the API's answer", response.status().as_u16(), 200)?;
                equal("sendings", at_api.statuses().await?, [401, 200])?;
                equal("token requests", issued.statuses().await?, [200])?;
                let new = source.token().await?;
                holds(new.expose_secret() != old.expose_secret(), "the same token again")?;
                equal("active", &self.introspect(new.expose_secret()).await?["active"], &json!(true))?;
                let stats = source.stats();
                equal("flights, refusals, replays", (stats.flights, stats.refusals, stats.replays), (2, 1, 1))
            })
            .await;
        suite
            .case("twenty in flight at a revocation all heal by one token request", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                self.revoke("orders", source.token().await?.expose_secret()).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let mut callers = Vec::new();
                for _ in 0..20 {
                    callers.push(call(&stack, self.at_api("/opaque")?));
                }
                for response in futures_util::future::join_all(callers).await {
                    equal("the API's answer", response.map_err(boxed)?.status().as_u16(), 200)?;
                }
                equal("token requests", issued.count().await?, 1)?;
                equal("flights", source.stats().flights, 2)
            })
            .await;
        suite
            .case("a secret that was changed is asked for again after rotate()", async {
                let changed = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&changed);
                let good = self.world.secret().to_owned();
                let secret = Secret::from_fn(move || {
                    Ok(SecretString::from(if seen.load(Ordering::SeqCst) { good.as_str() } else { "old-7fQ2" }))
                });
                let source = TokenSource::new(self.client("orders").client_secret(secret).build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                equal(
                    "kind",
                    source.token().await.err().map(|error| error.kind()),
                    Some(ErrorKind::InvalidCredentials),
                )?;
                changed.store(true, Ordering::SeqCst);
                source.rotate();
                source.token().await?;
                equal("statuses at the issuer", issued.statuses().await?, [401, 200])
            })
            .await;
    }

    async fn lifetimes(&self, suite: &mut Suite) {
        suite
            .case("tokens of four seconds are renewed before they end, and none is refused", async {
                let source = TokenSource::new(self.client("short").build()?);
                let stack = stack(&source);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let begun = now();
                let mut sent = 0;
                // Until the issuer has counted a first token and three renewals.
                while issued.count().await? < 4 {
                    let response = call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                    equal("the API's answer", response.status().as_u16(), 200)?;
                    sent += 1;
                }
                let lasted = now().duration_since(begun)?.as_secs_f64();
                let statuses = at_api.statuses().await?;
                equal("sendings", statuses.len(), sent)?;
                holds(statuses.iter().all(|status| *status == 200), "an ended token was sent")?;
                // At most 1 + T / (lifetime - window) token requests, and the window is half of the lifetime.
                holds(lasted >= 6.0, format!("three renewals within {lasted:.1} s"))?;
                holds(source.stats().flights_failed == 0, "a renewal failed")
            })
            .await;
        suite
            .case("an ended token is inactive at the issuer, and not sent", async {
                let source = TokenSource::new(self.client("short").build()?);
                let first = source.token().await?;
                while self.introspect(first.expose_secret()).await?["active"] == json!(true) {}
                holds(source.peek().is_none(), "it is still held to be usable")?;
                equal("state", source.status().state, State::Missing)?;
                let second = source.token().await?;
                equal("active", &self.introspect(second.expose_secret()).await?["active"], &json!(true))
            })
            .await;
    }

    async fn refusals(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest, UnsupportedTokenType};
        let invalid_client = permanent(InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS);
        let invalid_request = permanent(InvalidRequest, 400, Some("invalid_request"), PARAMETERS);
        let scope = permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope");
        let target = permanent(InvalidRequest, 400, Some("invalid_target"), "check the resource and the audience");
        let rows = [
            ("a wrong secret", self.client("orders").client_secret("wrong-7fQ2"), invalid_client),
            ("an unknown client", self.client("nobody"), invalid_client),
            (
                "a wrong secret by HTTP Basic",
                self.client("orders").client_secret("wrong-7fQ2").client_secret_basic(BasicEncoding::Percent),
                invalid_client,
            ),
            ("a secret that has expired", self.client("outdated"), Expected { status: Some(400), ..invalid_client }),
            ("a secret where an assertion is due", self.client("assert-ES256"), invalid_client),
            ("a grant that the client may not use", self.client("web"), invalid_request),
            ("a scope that the client may not have", self.client("scoped").scope("write"), scope),
            ("a scope with a character that is none of its", self.client("orders").scope("read \"write"), scope),
            ("an unknown resource", self.client("orders").resource("urn:interop:nowhere"), target),
            (
                "two resources",
                self.client("orders").resource("urn:interop:api").resource("urn:interop:elsewhere"),
                target,
            ),
            (
                "a DPoP client without a proof",
                self.client("dpop"),
                permanent(InvalidRequest, 400, Some("invalid_grant"), "for this grant type"),
            ),
            (
                "a non-ASCII secret, which cannot be registered",
                self.client("secret-non-ascii"),
                permanent(InvalidRequest, 400, None, PARAMETERS),
            ),
            (
                "an error inside of the issuer",
                self.client("broken"),
                Expected { kind: ErrorKind::Unavailable, transient: true, status: Some(500), code: None, hint: "" },
            ),
        ];
        for (what, builder, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, builder.build(), expected).await;
        }
        let elsewhere = post(&self.url("/oauth/token"), "orders", self.world.secret(), self.api).build();
        let no_endpoint = permanent(Config, 404, None, "set the token URL");
        let at = (self.facts, "/oauth/token");
        fails(suite, at, self.api, &mut report.observed, "a wrong path", elsewhere, no_endpoint).await;

        // What ClientCredentials never sends, by a provider of the user's own.
        let own = |request: Makes| {
            let (endpoint, secret) = (
                self.exchange(TOKEN).map_err(|Failure(why)| tower_bearer_auth::Error::permanent(why)),
                self.world.secret().to_owned(),
            );
            endpoint.map(|endpoint| {
                from_fn(move || {
                    let (endpoint, request) = (endpoint.clone(), request(&secret));
                    async move { endpoint.call(request).await?.bearer_token() }
                })
            })
        };
        let rows: [Own; 5] = [
            (
                "a JSON body",
                |secret| {
                    let body =
                        json!({"grant_type": "client_credentials", "client_id": "orders", "client_secret": secret});
                    TokenRequest::json(body.to_string().into_bytes())
                },
                invalid_request,
            ),
            (
                "no grant_type",
                |secret| TokenRequest::form(&[("client_id", "orders"), ("client_secret", secret)]),
                invalid_request,
            ),
            ("no client", |_| TokenRequest::form(&[("grant_type", "client_credentials")]), invalid_request),
            (
                "a field twice",
                |secret| {
                    TokenRequest::form(&[
                        ("grant_type", "client_credentials"),
                        ("client_id", "orders"),
                        ("client_secret", secret),
                        ("client_secret", secret),
                    ])
                },
                invalid_request,
            ),
            (
                "a grant that the issuer does not offer",
                |secret| {
                    TokenRequest::form(&[
                        ("grant_type", "password"),
                        ("client_id", "orders"),
                        ("client_secret", secret),
                    ])
                },
                permanent(
                    InvalidRequest,
                    400,
                    Some("unsupported_grant_type"),
                    "the grant types that the issuer documents",
                ),
            ),
        ];
        for (what, request, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, own(request), expected).await;
        }
        let dpop = key(self.facts, "stranger").await.and_then(|key| self.with_proof(key));
        let dpop = dpop.map_err(|Failure(why)| tower_bearer_auth::Error::permanent(why));
        let expected = permanent(UnsupportedTokenType, 200, None, "bearer tokens");
        let what = "a DPoP client with a proof gets a DPoP token";
        fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, dpop, expected).await;
    }

    /// A provider that makes a DPoP proof (RFC 9449) for each token request.
    fn with_proof(&self, key: Key) -> Check<tower_bearer_auth::ClientCredentials> {
        let jwk: Jwk = serde_json::from_value(key.jwk)?;
        let signing = EncodingKey::from_ec_pem(key.pem.as_bytes())?;
        let url = self.url(TOKEN);
        let proof = Secret::from_fn(move || {
            let header =
                Header { typ: Some("dpop+jwt".into()), jwk: Some(jwk.clone()), ..Header::new(Algorithm::ES256) };
            let claims = json!({"jti": unique(), "htm": "POST", "htu": url, "iat": seconds(now())});
            let proof =
                jsonwebtoken::encode(&header, &claims, &signing).map_err(tower_bearer_auth::Error::permanent)?;
            Ok(SecretString::from(proof))
        });
        Ok(self.client("dpop").token_header("DPoP", proof).build()?)
    }

    /// What the issuer does not forgive, asked with a client that is not this crate's: else its yes would be worth little.
    async fn strictness(&self, suite: &mut Suite) {
        suite
            .case("it answers GET with 404 and text", async {
                let answer = plain::get(&self.url(TOKEN)).await?;
                equal("status", answer.status.as_u16(), 404)?;
                holds(answer.header("content-type").starts_with("text/plain"), answer.header("content-type"))
            })
            .await;
        suite
            .case("it takes an assertion once, and refuses it replayed", async {
                let assertion = self.assertion("ES256", seconds(now()) + 60, &self.facts.url).await?;
                equal("first", self.with_assertion(&assertion).await?, 200)?;
                equal("replayed", self.with_assertion(&assertion).await?, 401)
            })
            .await;
        suite
            .case("it refuses an assertion that has expired, one for somebody else, and one by somebody else", async {
                let now = seconds(now());
                let expired = self.assertion("ES256", now - 60, &self.facts.url).await?;
                equal("expired", self.with_assertion(&expired).await?, 401)?;
                let elsewhere = self.assertion("ES256", now + 60, "https://elsewhere.example").await?;
                equal("for somebody else", self.with_assertion(&elsewhere).await?, 401)?;
                let stranger = self.assertion("stranger", now + 60, &self.facts.url).await?;
                equal("by somebody else", self.with_assertion(&stranger).await?, 401)
            })
            .await;
        suite
            .case("it names Basic in the challenge to a Basic client alone", async {
                let fields = [("grant_type", "client_credentials")];
                let answer = plain::post_form_as(&self.url(TOKEN), "orders", "wrong-7fQ2", &fields).await?;
                equal("status", answer.status.as_u16(), 401)?;
                holds(answer.header("www-authenticate").starts_with("Basic "), "no Basic challenge")?;
                let fields = [fields[0], ("client_id", "orders"), ("client_secret", "wrong-7fQ2")];
                let answer = plain::post_form(&self.url(TOKEN), &fields).await?;
                equal("challenge", answer.header("www-authenticate"), "")
            })
            .await;
    }

    async fn assertion(&self, name: &str, exp: u64, audience: &str) -> Check<String> {
        let key = EncodingKey::from_ec_pem(key(self.facts, name).await?.pem.as_bytes())?;
        let header = Header { kid: Some("ES256".into()), ..Header::new(Algorithm::ES256) };
        let claims = json!({"iss": "assert-ES256", "sub": "assert-ES256", "aud": audience, "jti": unique(), "exp": exp, "iat": exp - 60});
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }

    async fn with_assertion(&self, assertion: &str) -> Check<u16> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        Ok(plain::post_form(&self.url(TOKEN), &fields).await?.status.as_u16())
    }

    async fn secrets(&self, suite: &mut Suite, report: &mut Report) {
        // It decodes a Basic header as a form, and takes visible ASCII alone (RFC 6749 appendix A.2): such a secret cannot
        // even be registered.
        let wanted = |how, secret: &str| match (how, secret) {
            (How::Post, "non-ascii") => Err((400, "invalid_client_metadata")),
            (_, "non-ascii") => Err((400, "invalid_request")),
            (How::Basic(BasicEncoding::Raw), "percent" | "all") => Err((400, "invalid_request")),
            (How::Basic(BasicEncoding::Raw), "plus" | "escape") => Err((401, "invalid_client")),
            _ => Ok(()),
        };
        let at = (&*self.url(TOKEN), TOKEN);
        encodings::table(suite, report, self.facts, at, self.api, self.world, wanted).await;
    }

    async fn wrong(&self, suite: &mut Suite) {
        suite
            .wrong("a wrong secret gets a token", "does not accept the client's credentials", async {
                TokenSource::new(self.client("orders").client_secret("wrong-7fQ2").build()?).token().await?;
                Ok(())
            })
            .await;
        suite
            .wrong("a wrong secret is transient", "transient: found false, wanted true", async {
                match TokenSource::new(self.client("orders").client_secret("wrong-7fQ2").build()?).token().await {
                    Ok(_) => Ok(()),
                    Err(error) => says(
                        &error,
                        Expected {
                            transient: true,
                            ..permanent(ErrorKind::InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS)
                        },
                    ),
                }
            })
            .await;
    }
}

pub fn boxed(error: tower_bearer_auth::BoxError) -> Failure {
    Failure(error.to_string())
}

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[expect(clippy::disallowed_methods, reason = "assertions are judged by the issuer's clock, which is this machine's")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn unique() -> String {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{nanos}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
