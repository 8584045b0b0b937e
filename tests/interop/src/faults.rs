//! WireMock at the token endpoint: what a network, a proxy or a broken issuer sends instead of an answer.

use std::time::Duration;

use serde_json::{Value, json};
use tower_bearer_auth::{BasicEncoding, ClientCredentialsBuilder, Error, ErrorKind, TokenSource};

use crate::World;
use crate::encodings::{How, judge};
use crate::issuer::{Ahead, Expected, post, says};
use crate::plain;
use crate::report::{Encoding, Report};
use crate::suite::{Check, Facts, Suite, equal, fail, holds};

/// Longer than every pause and every Retry-After here.
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

/// What the token endpoint of one case says; each case has a path of its own.
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
        let answer = plain::post_json(&self.admin("/requests/count"), pattern).await?;
        equal("the count", answer.status.as_u16(), 200)?;
        answer.json()?["count"].as_u64().ok_or_else(|| crate::suite::Failure("no count".into()))
    }

    /// An endpoint that answers these, one after the other; the last one stays.
    async fn endpoint(&self, name: &str, answers: &[Value]) -> Check<Endpoint<'_>> {
        let path = format!("/{}/token", name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        for (at, answer) in answers.iter().enumerate() {
            let state = |at: usize| if at == 0 { String::from("Started") } else { format!("answer {at}") };
            let mut stub = json!({
                "request": {"method": "POST", "urlPath": path, "bodyPatterns": [{"contains": "grant_type=client_credentials"}]},
                "response": answer, "scenarioName": name, "requiredScenarioState": state(at),
            });
            if at + 1 < answers.len() {
                stub["newScenarioState"] = json!(state(at + 1));
            }
            let answer = plain::post_json(&self.admin("/mappings"), &stub).await?;
            equal("the stub", answer.status.as_u16(), 201)?;
        }
        Ok(Endpoint { mock: self, path })
    }

    /// A fault, then a good answer: one token request, everybody told, nobody asks during the pause, and then it heals.
    async fn heals(&self, suite: &mut Suite, name: &str, fault: Value, expected: Expected) {
        self.heals_with(suite, name, fault, expected, |builder| builder).await;
    }

    async fn heals_with(
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
            let source = TokenSource::builder(set(endpoint.client()).build()?).clock(clock.clone()).build();
            let callers = (0..20).map(|_| source.token());
            for outcome in futures_util::future::join_all(callers).await {
                says(&failed(outcome)?, expected)?;
            }
            equal("token requests", endpoint.count().await?, 1)?;
            let again = failed(source.token().await)?;
            equal("kind during the pause", again.kind(), expected.kind)?;
            holds(again.retry_after().is_some(), "it does not say when the next try is")?;
            equal("token requests during the pause", endpoint.count().await?, 1)?;
            clock.by(LATER);
            let token = source.token().await?;
            equal("token", token.expose_secret(), "canary-token")?;
            equal("token requests in the end", endpoint.count().await?, 2)?;
            let stats = source.stats();
            equal("flights", (stats.flights, stats.flights_failed, stats.flights_succeeded), (2, 1, 1))?;
            equal("turned away", stats.turned_away, 1)
        };
        suite.case(name, work).await;
    }

    async fn transient(&self, suite: &mut Suite) {
        use ErrorKind::{Throttled, Timeout, Unavailable};
        let fault = |fault: &str| json!({"status": 200, "fault": fault});
        let cut = transient(Unavailable, None);
        self.heals(suite, "connection reset", fault("CONNECTION_RESET_BY_PEER"), cut).await;
        self.heals(suite, "empty answer", fault("EMPTY_RESPONSE"), cut).await;
        self.heals(suite, "garbage, then the connection is closed", fault("RANDOM_DATA_THEN_CLOSE"), cut).await;
        let broken = transient(Unavailable, Some(200));
        self.heals(suite, "malformed chunk", fault("MALFORMED_RESPONSE_CHUNK"), broken).await;
        for (status, kind) in [
            (408, Timeout),
            (429, Throttled),
            (500, Unavailable),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
        ] {
            let answer = json!({"status": status, "body": "<html>no</html>"});
            self.heals(suite, &format!("HTTP {status}"), answer, transient(kind, Some(status))).await;
        }
    }

    async fn malformed(&self, suite: &mut Suite) {
        let malformed = transient(ErrorKind::MalformedAnswer, Some(200));
        let rows = [
            ("200 with an empty body", String::new()),
            ("200 with a page of HTML", String::from("<html>welcome to the captive portal</html>")),
            ("200 with half of the JSON", String::from("{\"access_token\": \"canary-to")),
            ("200 with a JSON list", String::from("[\"canary-token\"]")),
            ("200 without a token", json!({"token_type": "Bearer"}).to_string()),
            ("200 with an empty token", json!({"access_token": "", "token_type": "Bearer"}).to_string()),
            (
                "200 with a line break in the token",
                json!({"access_token": "a\r\nb", "token_type": "Bearer"}).to_string(),
            ),
            (
                "200 with two tokens",
                String::from("{\"access_token\":\"a\",\"access_token\":\"b\",\"token_type\":\"Bearer\"}"),
            ),
            ("200 with a hundred KiB", format!("{{\"access_token\":\"{}\"}}", "a".repeat(100 * 1024))),
        ];
        for (name, body) in rows {
            self.heals(suite, name, json!({"status": 200, "body": body}), malformed).await;
        }
        suite
            .case("expires_in as a string, an unknown field, and bearer in small letters are taken", async {
                let body =
                    json!({"access_token": "canary-token", "token_type": "bearer", "expires_in": "600", "x": [1]});
                let endpoint = self.endpoint("odd but good", &[json!({"status": 200, "jsonBody": body})]).await?;
                let token = TokenSource::new(endpoint.client().build()?).token().await?;
                equal("header", token.header_value().as_bytes(), &b"Bearer canary-token"[..])?;
                equal("token requests", endpoint.count().await?, 1)
            })
            .await;
    }

    async fn permanent(&self, suite: &mut Suite) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest, UnsupportedTokenType};
        let said = |kind, status, code, hint| Expected { kind, transient: false, status: Some(status), code, hint };
        let mac = json!({"access_token": "canary-token", "token_type": "mac", "expires_in": 600});
        let rows = [
            (
                "401 with a page of HTML",
                json!({"status": 401, "body": "<html>"}),
                said(InvalidCredentials, 401, None, "client secret"),
            ),
            (
                "403 of a gateway",
                json!({"status": 403, "body": "no"}),
                said(InvalidCredentials, 403, None, "no gateway stands"),
            ),
            ("404", json!({"status": 404}), said(Config, 404, None, "set the token URL")),
            ("400 without a code", json!({"status": 400}), said(InvalidRequest, 400, None, "check the parameters")),
            (
                "an error inside of a 200",
                json!({"status": 200, "jsonBody": {"error": "invalid_client"}}),
                said(InvalidCredentials, 200, Some("invalid_client"), "client secret"),
            ),
            (
                "a code that repeats the secret",
                json!({"status": 400, "jsonBody": {"error": format!("bad secret {}", self.world.secret())}}),
                said(InvalidRequest, 400, None, "check the parameters"),
            ),
            (
                "a MAC token",
                json!({"status": 200, "jsonBody": mac}),
                said(UnsupportedTokenType, 200, None, "bearer tokens"),
            ),
        ];
        for (name, answer, expected) in rows {
            let work = async {
                let endpoint = self.endpoint(name, &[answer]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                says(&failed(source.token().await)?, expected)?;
                says(&failed(source.token().await)?, expected)?;
                equal("token requests", endpoint.count().await?, 1)?;
                equal("flights", source.stats().flights, 1)
            };
            suite.case(name, work).await;
        }
        for status in [301, 302, 303, 307, 308] {
            let name = format!("a redirect by {status} is not followed");
            let work = async {
                let target = self.endpoint(&format!("target of {status}"), &[good()]).await?;
                let to = format!("{}{}?code=canary-query", self.facts.url, target.path);
                let answer = json!({"status": status, "headers": {"Location": to}});
                let endpoint = self.endpoint(&name, &[answer]).await?;
                let error = failed(TokenSource::new(endpoint.client().build()?).token().await)?;
                says(&error, said(Config, status, None, "set the token URL"))?;
                holds(error.to_string().contains(&format!("redirects to {},", self.facts.url)), &error)?;
                holds(!format!("{error} {error:?}").contains("canary-query"), "the error shows the target's query")?;
                equal("token requests", (endpoint.count().await?, target.count().await?), (1, 0))
            };
            suite.case(&name, work).await;
        }
    }

    async fn slow(&self, suite: &mut Suite) {
        let timeout = |status| transient(ErrorKind::Timeout, status);
        let limit = |builder: ClientCredentialsBuilder| builder.timeout(Duration::from_millis(400));
        let dribble = |millis: u32| {
            let mut answer = good();
            answer["chunkedDribbleDelay"] = json!({"numberOfChunks": 50, "totalDuration": millis});
            answer
        };
        let delayed = |millis: u32| {
            let mut answer = good();
            answer["fixedDelayMilliseconds"] = json!(millis);
            answer
        };
        self.heals_with(suite, "an answer that begins after the deadline", delayed(5_000), timeout(None), limit).await;
        self.heals_with(
            suite,
            "an answer that dribbles beyond the deadline",
            dribble(5_000),
            timeout(Some(200)),
            limit,
        )
        .await;
        for (name, answer) in
            [("an answer that dribbles in time", dribble(500)), ("an answer that is late, in time", delayed(300))]
        {
            let work = async {
                let endpoint = self.endpoint(name, &[answer]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                let callers = (0..20).map(|_| source.token());
                futures_util::future::try_join_all(callers).await?;
                equal("token requests", endpoint.count().await?, 1)
            };
            suite.case(name, work).await;
        }
        suite
            .case("a caller that gives up leaves the token to the next one", async {
                let endpoint = self.endpoint("impatient", &[delayed(500)]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                let mut gave_up = 0;
                while tokio::time::timeout(Duration::from_millis(20), source.token()).await.is_err() {
                    gave_up += 1;
                }
                holds(gave_up > 0, "nobody had to wait")?;
                equal("abandoned", source.stats().waits_abandoned, gave_up)?;
                equal("token requests", endpoint.count().await?, 1)
            })
            .await;
    }

    async fn retry_after(&self, suite: &mut Suite) {
        let rows = [
            (503, "20", ErrorKind::Unavailable, 20.0),
            (429, "30", ErrorKind::Throttled, 30.0),
            // No token is left: no longer than a minute, whatever the issuer asks for.
            (503, "3600", ErrorKind::Unavailable, 60.0),
        ];
        for (status, value, kind, least) in rows {
            let name = format!("{status} with Retry-After: {value}");
            let work = async {
                let answer = json!({"status": status, "headers": {"Retry-After": value}});
                let endpoint = self.endpoint(&name, &[answer, good()]).await?;
                let clock = Ahead::default();
                let source = TokenSource::builder(endpoint.client().build()?).clock(clock.clone()).build();
                let error = failed(source.token().await)?;
                equal("kind", (error.kind(), error.is_transient()), (kind, true))?;
                let wait = error.retry_after().unwrap_or_default().as_secs_f64();
                let within = (least - 2.0..=60.0_f64.min(least * 1.1)).contains(&wait);
                holds(within, format!("the next try is in {wait:.1} s"))?;
                // Shortly before that time, and at it.
                clock.by(Duration::from_secs_f64(least - 3.0));
                failed(source.token().await)?;
                equal("token requests before that", endpoint.count().await?, 1)?;
                clock.by(Duration::from_secs_f64(3.0 + least * 0.1));
                source.token().await?;
                equal("token requests", endpoint.count().await?, 2)?;
                equal("flights", source.stats().flights, 2)
            };
            suite.case(&name, work).await;
        }
        suite
            .case("a failed renewal goes unnoticed while the token works", async {
                let down = json!({"status": 503, "headers": {"Retry-After": "30"}});
                let mut other = good();
                other["jsonBody"]["access_token"] = json!("canary-token-2");
                let endpoint = self.endpoint("renewal", &[good(), down, other]).await?;
                let clock = Ahead::default();
                let source = TokenSource::builder(endpoint.client().build()?).clock(clock.clone()).build();
                let first = source.token().await?.generation();
                // In the window, which is the second half of ten minutes.
                clock.by(Duration::from_secs(400));
                equal("generation", source.token().await?.generation(), first)?;
                while source.stats().flights_failed == 0 {
                    tokio::task::yield_now().await;
                }
                for _ in 0..50 {
                    equal("generation", source.token().await?.generation(), first)?;
                }
                equal("token requests during the pause", endpoint.count().await?, 2)?;
                clock.by(Duration::from_secs(40));
                source.token().await?;
                while source.stats().flights_succeeded < 2 {
                    tokio::task::yield_now().await;
                }
                holds(source.token().await?.generation() > first, "the old token")?;
                equal("token requests", endpoint.count().await?, 3)
            })
            .await;
    }

    async fn connections(&self, suite: &mut Suite) {
        suite
            .case("a reset on a pooled connection is not sent again unseen", async {
                let reset = json!({"fault": "CONNECTION_RESET_BY_PEER"});
                let endpoint = self.endpoint("pooled", &[good(), reset, good()]).await?;
                let clock = Ahead::default();
                let source = TokenSource::builder(endpoint.client().build()?).clock(clock.clone()).build();
                source.token().await?;
                clock.by(LATER + LATER);
                equal("kind", failed(source.token().await)?.kind(), ErrorKind::Unavailable)?;
                equal("token requests", endpoint.count().await?, 2)?;
                clock.by(LATER);
                source.token().await?;
                equal("token requests", endpoint.count().await?, 3)?;
                equal("flights", source.stats().flights, 3)
            })
            .await;
        suite
            .case("nobody listens: unavailable, with the cause kept", async {
                let port = {
                    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                    listener.local_addr()?.port()
                };
                let url = format!("http://127.0.0.1:{port}/token");
                let source = TokenSource::new(post(&url, "orders", self.world.secret(), self.facts).build()?);
                let error = failed(source.token().await)?;
                says(&error, transient(ErrorKind::Unavailable, None))?;
                holds(std::error::Error::source(&error).is_some(), "no cause")
            })
            .await;
    }

    /// A server that takes HTTP Basic as RFC 7617 has it, without an encoding of its own.
    async fn secrets(&self, suite: &mut Suite, report: &mut Report) {
        for how in How::ALL.into_iter().filter(|how| *how != How::Post) {
            for (name, secret) in self.world.odd_secrets() {
                let mut found = String::from("?");
                let what = format!("secret with {name} as {}", how.name());
                let work = async {
                    let refused = json!({"status": 401, "jsonBody": {"error": "invalid_client"}});
                    let endpoint = self.endpoint(&what, &[refused]).await?;
                    let known = json!({
                        "priority": 1,
                        "request": {"method": "POST", "urlPath": endpoint.path,
                                    "basicAuthCredentials": {"username": "orders", "password": secret}},
                        "response": good(),
                    });
                    let stubbed = plain::post_json(&self.admin("/mappings"), &known).await?;
                    equal("the stub", stubbed.status.as_u16(), 201)?;
                    let source = TokenSource::new(how.apply(endpoint.client().client_secret(secret)).build()?);
                    let outcome = source.token().await;
                    equal("token requests", endpoint.count().await?, 1)?;
                    let answer = outcome.as_ref().err().map_or((200, ""), |error| {
                        (error.status().map_or(0, |status| status.as_u16()), error.code().unwrap_or_default())
                    });
                    let wanted = match (how, name) {
                        (How::Basic(BasicEncoding::Raw), _) | (_, "plain") => Ok(()),
                        _ => Err((401, "invalid_client")),
                    };
                    judge(&mut found, outcome.is_ok(), answer, wanted)
                };
                suite.case(&what, work).await;
                report.encodings.push(Encoding::new(self.facts, name, how, found));
            }
        }
    }

    async fn wrong(&self, suite: &mut Suite) {
        suite
            .wrong(
                "an endpoint that resets the connection hands out a token",
                "the issuer at http://127.0.0.1",
                async {
                    let reset = json!({"fault": "CONNECTION_RESET_BY_PEER"});
                    let endpoint = self.endpoint("wrong", &[reset]).await?;
                    TokenSource::new(endpoint.client().build()?).token().await?;
                    Ok(())
                },
            )
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

fn failed<T>(outcome: Result<T, Error>) -> Check<Error> {
    match outcome {
        Ok(_) => fail("there is a token"),
        Err(error) => Ok(error),
    }
}
