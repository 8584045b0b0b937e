//! The views that the toolkit protects.

use serde_json::json;
use tower_bearer_auth::{Audit, ReplayOutcome, TokenSource};

use super::{Forbidden, TOKEN, Toolkit};
use crate::issuer::{Since, call, stack};
use crate::plain;
use crate::suite::{Suite, boxed, equal, holds};

impl Toolkit<'_> {
    pub(super) async fn views(&self, suite: &mut Suite) {
        suite
            .case(
                "a view with a challenge: a token that was revoked is inactive, and the next request recovers",
                async {
                    let source = TokenSource::new(self.client("orders").build()?);
                    let stack = stack(&source);
                    call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                    let old = source.token().await?;
                    self.revoke(old.expose_secret()).await?;
                    equal("active", &self.introspect(old.expose_secret()).await?["active"], &json!(false))?;
                    let issued = Since::now(self.facts, TOKEN).await?;
                    let at_api = Since::now(self.facts, "/challenge/").await?;
                    let response = call(&stack, self.at("/challenge/")?).await.map_err(boxed)?;
                    equal("the API's reply", response.status().as_u16(), 200)?;
                    equal("sends", at_api.statuses().await?, [401, 200])?;
                    equal("token requests", issued.statuses().await?, [200])?;
                    let new = source.token().await?;
                    equal("active", &self.introspect(new.expose_secret()).await?["active"], &json!(true))
                },
            )
            .await;
        suite
            .case("the plain view: its 403 has no challenge, is no rejection, and is passed on", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let stack = stack(&source);
                equal("before", call(&stack, self.at("/plain/")?).await.map_err(boxed)?.status().as_u16(), 200)?;
                self.revoke(source.token().await?.expose_secret()).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/plain/").await?;
                let response = call(&stack, self.at("/plain/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 403)?;
                holds(!response.headers().contains_key("www-authenticate"), "it has a challenge")?;
                equal("replay", Audit::of(&response).map(|audit| audit.replay), Some(ReplayOutcome::NotNeeded))?;
                equal("sends", at_api.statuses().await?, [403])?;
                equal("token requests", issued.count().await?, 0)
            })
            .await;
        suite
            .case("the plain view: a provider that calls its 403 a rejection recovers it", async {
                let source = TokenSource::new(Forbidden(self.client("orders").build()?));
                let stack = stack(&source);
                equal("before", call(&stack, self.at("/plain/")?).await.map_err(boxed)?.status().as_u16(), 200)?;
                self.revoke(source.token().await?.expose_secret()).await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let at_api = Since::now(self.facts, "/plain/").await?;
                let response = call(&stack, self.at("/plain/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                equal("sends", at_api.statuses().await?, [403, 200])?;
                equal("token requests", issued.count().await?, 1)
            })
            .await;
        suite
            .case("a scope that is missing is no reason to ask for a token", async {
                let source = TokenSource::new(self.client("orders").build()?);
                let at_api = Since::now(self.facts, "/scoped/").await?;
                let issued = Since::now(self.facts, TOKEN).await?;
                let response = call(&stack(&source), self.at("/scoped/")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 403)?;
                equal("sends", at_api.statuses().await?, [403])?;
                equal("token requests", issued.count().await?, 1)
            })
            .await;
        suite
            .case("it takes a repeated field, which RFC 6749 section 3.2 forbids: a yes of it says little", async {
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
            .case("it responses GET with 405", async {
                equal("status", plain::get(&self.url(TOKEN)).await?.status.as_u16(), 405)
            })
            .await;
    }
}
