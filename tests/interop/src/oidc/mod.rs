//! npm oidc-provider: certified, strict, and with every feature for a client credentials client.

mod assertions;
pub mod discovery;
mod rejections;
mod strictness;
mod tokens;

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint};
use tower_bearer_auth::{BasicEncoding, ErrorKind, TokenSource};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Expected, introspect, permanent, post, says, tokens_issued};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal};

pub const TOKEN: &str = "/token";
const CREDENTIALS: &str = "verify the client id, the secret or key";
const PARAMETERS: &str = "check the parameters";

/// A key that the issuer made at its start.
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
    issuer.rejections(&mut suite, report).await;
    issuer.assertions(&mut suite).await;
    issuer.bad_assertions(&mut suite, report).await?;
    issuer.discovery(&mut suite).await;
    issuer.strictness(&mut suite).await;
    issuer.secrets(&mut suite, report).await;
    issuer.wrong(&mut suite).await;
    suite.counted = crate::issuer::all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
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
        let reply = plain::post_form(&self.url("/token/revocation"), &fields).await?;
        equal("revocation", reply.status.as_u16(), 200)
    }

    fn exchange(&self, path: &str) -> Check<TokenEndpoint> {
        Ok(TokenEndpoint::new(&self.url(path), TokenClient::new(HttpClient::new()?))?)
    }

    async fn secrets(&self, suite: &mut Suite, report: &mut Report) {
        // It form-decodes a Basic header, and accepts only visible ASCII (RFC 6749 appendix A.2), so a non-ASCII secret
        // cannot be registered.
        let wanted = |how, secret: &str| match (how, secret) {
            (How::Post, "non-ascii") => Err((400, "invalid_client_metadata")),
            (_, "non-ascii") => Err((400, "invalid_request")),
            (How::Basic(BasicEncoding::Raw), "percent" | "all") => Err((400, "invalid_request")),
            (How::Basic(BasicEncoding::Raw), "plus" | "escape") => Err((401, "invalid_client")),
            _ => Ok(()),
        };
        let client = |id: &str, secret: &str| post(&self.url(TOKEN), id, secret, self.api);
        encodings::table(suite, report, self.facts, TOKEN, self.world, client, wanted).await;
    }

    async fn wrong(&self, suite: &mut Suite) {
        suite
            .wrong("a wrong secret gets a token", "rejects the client's credentials", async {
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

pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[expect(clippy::disallowed_methods, reason = "assertions are judged by the issuer's clock, which is this machine's")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

fn unique() -> String {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{nanos}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
