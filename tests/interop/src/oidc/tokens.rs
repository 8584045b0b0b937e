//! Valid tokens and their use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower_bearer_auth::{BasicEncoding, ErrorKind, Secret, TokenSource, TokenState};

use super::{Issuer, TOKEN, now, seconds};
use crate::issuer::{Since, call, stack};
use crate::plain;
use crate::suite::{Suite, boxed, equal, fail, holds};

impl Issuer<'_> {
    pub(super) async fn tokens(&self, suite: &mut Suite) {
        suite
            .case("the token that was stamped is active at the issuer, and lives as long as both say", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let response = call(&stack(&source), self.at_api("/opaque")?).await.map_err(boxed)?;
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
                equal("fetches", source.stats().fetches, 1)
            })
            .await;
        suite
            .case("a JWT is taken by a resource server that asks nobody", async {
                let source = TokenSource::new(self.client("orders-jwt").build()?);
                let response = call(&stack(&source), self.at_api("/jwt")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
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
                equal("the API's reply", response.status().as_u16(), 200)?;
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
                let reply = plain::post_form(&self.url("/token/introspection"), &fields).await?;
                equal("status", reply.status.as_u16(), 400)
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
            .case("a token that was revoked is inactive, and the next request recovers", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                let old = source.token().await?;
                self.revoke("orders", old.expose_secret()).await?;
                equal("active", &self.introspect(old.expose_secret()).await?["active"], &json!(false))?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let response = call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                equal("sends", at_api.statuses().await?, [401, 200])?;
                equal("token requests", issued.statuses().await?, [200])?;
                let new = source.token().await?;
                holds(new.expose_secret() != old.expose_secret(), "the same token again")?;
                equal("active", &self.introspect(new.expose_secret()).await?["active"], &json!(true))?;
                let stats = source.stats();
                equal("fetches, rejections, replays", (stats.fetches, stats.rejections, stats.replays), (2, 1, 1))
            })
            .await;
        suite
            .case("twenty concurrent requests after a revocation need one token request", async {
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
                    equal("the API's reply", response.map_err(boxed)?.status().as_u16(), 200)?;
                }
                equal("token requests", issued.count().await?, 1)?;
                equal("fetches", source.stats().fetches, 2)
            })
            .await;
        suite
            .case("a secret that was changed is asked for again after rotate()", async {
                let changed = Arc::new(AtomicBool::new(false));
                let seen = Arc::clone(&changed);
                let good = self.world.secret().to_owned();
                let secret = Secret::from_fn(move || {
                    Ok((if seen.load(Ordering::SeqCst) { good.as_str() } else { "old-7fQ2" }).into())
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

    pub(super) async fn lifetimes(&self, suite: &mut Suite) {
        suite
            .case("tokens of six seconds are renewed before they end, and none is rejected", async {
                let source = TokenSource::new(self.client("renewed").build()?);
                let stack = stack(&source);
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.api, "/opaque").await?;
                let begun = now();
                let mut sent = 0;
                // Until the issuer has counted the first token and two refreshes.
                while issued.count().await? < 3 {
                    let response = call(&stack, self.at_api("/opaque")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 200)?;
                    sent += 1;
                }
                let lasted = now().duration_since(begun)?.as_secs_f64();
                let statuses = at_api.statuses().await?;
                equal("sends", statuses.len(), sent)?;
                holds(statuses.iter().all(|status| *status == 200), "an expired token was sent")?;
                // At most 1 + T / (lifetime - window) token requests, and the window is half of the lifetime.
                holds(lasted >= 6.0, format!("two refreshes within {lasted:.1} s"))?;
                holds(source.stats().fetches_failed == 0, "a refresh failed")
            })
            .await;
        suite
            .case("an expired token is inactive at the issuer, and not sent", async {
                let source = TokenSource::new(self.client("short").build()?);
                let first = source.token().await?;
                while self.introspect(first.expose_secret()).await?["active"] == json!(true) {}
                holds(source.peek().is_none(), "it is still held to be usable")?;
                equal("state", source.status().state, TokenState::Missing)?;
                let second = source.token().await?;
                equal("active", &self.introspect(second.expose_secret()).await?["active"], &json!(true))
            })
            .await;
    }
}
