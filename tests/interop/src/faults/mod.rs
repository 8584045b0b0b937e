//! WireMock as the token endpoint: what a network, a proxy or a broken issuer sends instead of a token.

mod responses;
mod secrets;
mod timing;

use std::time::Duration;

use serde_json::{Value, json};
use tower_bearer_auth::{ClientCredentialsBuilder, ErrorKind, TokenSource};

use crate::World;
use crate::issuer::{Ahead, Expected, failed, impatient, post, says};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal, holds};

/// Longer than every backoff and every `Retry-After` in the cases.
const LATER: Duration = Duration::from_secs(400);

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("wiremock")?;
    let mut suite = Suite::new(facts);
    let mock = Mock { world, facts };
    mock.transient(&mut suite).await;
    mock.malformed(&mut suite).await;
    mock.permanent(&mut suite).await;
    mock.slow(&mut suite).await;
    mock.retry_after(&mut suite).await;
    mock.connections(&mut suite).await;
    mock.secrets(&mut suite, report).await;
    mock.wrong(&mut suite).await;
    suite.counted = usize::try_from(mock.count(&json!({})).await?)?;
    report.suites.push(suite);
    Ok(())
}

struct Mock<'a> {
    world: &'a World,
    facts: &'a Facts,
}

/// The token endpoint of one case. Each case has its own path.
struct Endpoint<'a> {
    mock: &'a Mock<'a>,
    path: String,
}

fn good() -> Value {
    json!({"status": 200, "headers": {"Content-Type": "application/json"},
           "jsonBody": {"access_token": "canary-token", "token_type": "Bearer", "expires_in": 600}})
}

const fn transient(kind: ErrorKind, status: Option<u16>) -> Expected {
    Expected { kind, transient: true, status, code: None, hint: "" }
}

impl Mock<'_> {
    fn admin(&self, path: &str) -> String {
        format!("{}/__admin{path}", self.facts.url)
    }

    /// How many requests of this pattern WireMock has counted.
    async fn count(&self, pattern: &Value) -> Check<u64> {
        let reply = plain::post_json(&self.admin("/requests/count"), pattern).await?;
        equal("the count", reply.status.as_u16(), 200)?;
        reply.json()?["count"].as_u64().ok_or_else(|| crate::suite::Failure("no count".into()))
    }

    /// An endpoint that responses these, one after the other; the last one stays.
    async fn endpoint(&self, name: &str, responses: &[Value]) -> Check<Endpoint<'_>> {
        let path = format!("/{}/token", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        for (at, reply) in responses.iter().enumerate() {
            let state = |at: usize| if at == 0 { String::from("Started") } else { format!("reply {at}") };
            let mut stub = json!({
                "request": {"method": "POST", "urlPath": path, "bodyPatterns": [{"contains": "grant_type=client_credentials"}]},
                "response": reply, "scenarioName": name, "requiredScenarioState": state(at),
            });
            if at + 1 < responses.len() {
                stub["newScenarioState"] = json!(state(at + 1));
            }
            let reply = plain::post_json(&self.admin("/mappings"), &stub).await?;
            equal("the stub", reply.status.as_u16(), 201)?;
        }
        Ok(Endpoint { mock: self, path })
    }

    /// A fault and then a token: one token request, the same error for every waiter, no fetch during the backoff, and
    /// then a token.
    async fn recovers(&self, suite: &mut Suite, name: &str, fault: Value, expected: Expected) {
        self.recovers_with(suite, name, fault, expected, |builder| builder).await;
    }

    async fn recovers_with(
        &self,
        suite: &mut Suite,
        name: &str,
        fault: Value,
        expected: Expected,
        set: impl Fn(ClientCredentialsBuilder) -> ClientCredentialsBuilder,
    ) {
        let work = async {
            let endpoint = self.endpoint(name, &[fault, good()]).await?;
            let clock = Ahead::default();
            let source = impatient(set(endpoint.client()).build()?).clock(clock.clone()).build();
            let callers = (0..20).map(|_| source.token());
            for outcome in futures_util::future::join_all(callers).await {
                says(&failed(outcome)?, expected)?;
            }
            equal("token requests", endpoint.count().await?, 1)?;
            let again = failed(source.token().await)?;
            equal("kind during the backoff", again.kind(), expected.kind)?;
            holds(again.retry_after().is_some(), "the error has no retry_after")?;
            equal("token requests during the backoff", endpoint.count().await?, 1)?;
            clock.by(LATER);
            let token = source.token().await?;
            equal("token", token.expose_secret(), "canary-token")?;
            equal("token requests in the end", endpoint.count().await?, 2)?;
            let stats = source.stats();
            equal("fetches", (stats.fetches, stats.fetches_failed, stats.fetches_succeeded), (2, 1, 1))?;
            equal("failed fast", stats.failed_fast, 1)
        };
        suite.case(name, work).await;
    }

    async fn wrong(&self, suite: &mut Suite) {
        suite
            .wrong("an endpoint that resets the connection issues a token", "the issuer at http://127.0.0.1", async {
                let reset = json!({"fault": "CONNECTION_RESET_BY_PEER"});
                let endpoint = self.endpoint("wrong", &[reset]).await?;
                TokenSource::new(endpoint.client().build()?).token().await?;
                Ok(())
            })
            .await;
        suite
            .wrong("one token request is counted as two", "found 1, wanted 2", async {
                let endpoint = self.endpoint("counted", &[good()]).await?;
                TokenSource::new(endpoint.client().build()?).token().await?;
                equal("token requests", endpoint.count().await?, 2)
            })
            .await;
    }
}

impl Endpoint<'_> {
    fn client(&self) -> ClientCredentialsBuilder {
        post(&format!("{}{}", self.mock.facts.url, self.path), "orders", self.mock.world.secret(), self.mock.facts)
    }

    async fn count(&self) -> Check<u64> {
        self.mock.count(&json!({"method": "POST", "urlPath": self.path})).await
    }
}
