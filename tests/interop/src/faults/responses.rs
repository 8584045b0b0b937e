//! Responses without a token.

use serde_json::json;
use tower_bearer_auth::{ErrorKind, TokenSource};

use super::{Mock, good, transient};
use crate::issuer::{Expected, failed, says};
use crate::suite::{Suite, equal, holds};

impl Mock<'_> {
    pub(super) async fn transient(&self, suite: &mut Suite) {
        use ErrorKind::{Throttled, Timeout, Unavailable};
        let fault = |fault: &str| json!({"status": 200, "fault": fault});
        let cut = transient(Unavailable, None);
        self.recovers(suite, "connection reset", fault("CONNECTION_RESET_BY_PEER"), cut).await;
        self.recovers(suite, "empty reply", fault("EMPTY_RESPONSE"), cut).await;
        self.recovers(suite, "garbage, then the connection is closed", fault("RANDOM_DATA_THEN_CLOSE"), cut).await;
        let broken = transient(Unavailable, Some(200));
        self.recovers(suite, "malformed chunk", fault("MALFORMED_RESPONSE_CHUNK"), broken).await;
        for (status, kind) in [
            (408, Timeout),
            (429, Throttled),
            (500, Unavailable),
            (502, Unavailable),
            (503, Unavailable),
            (504, Unavailable),
        ] {
            let reply = json!({"status": status, "body": "<html>no</html>"});
            self.recovers(suite, &format!("HTTP {status}"), reply, transient(kind, Some(status))).await;
        }
    }

    pub(super) async fn malformed(&self, suite: &mut Suite) {
        let malformed = transient(ErrorKind::MalformedResponse, Some(200));
        let rows = [
            ("200 with an empty body", String::new()),
            ("200 with a page of HTML", String::from("<html>welcome to the captive portal</html>")),
            ("200 with half of the JSON", String::from("{\"access_token\": \"canary-to")),
            ("200 with a JSON list", String::from("[\"canary-token\"]")),
            ("200 without a token", json!({"token_type": "Bearer"}).to_string()),
            ("200 with an empty token", json!({"access_token": "", "token_type": "Bearer"}).to_string()),
            (
                "200 with two tokens",
                String::from("{\"access_token\":\"a\",\"access_token\":\"b\",\"token_type\":\"Bearer\"}"),
            ),
            ("200 with a hundred KiB", format!("{{\"access_token\":\"{}\"}}", "a".repeat(100 * 1024))),
        ];
        for (name, body) in rows {
            self.recovers(suite, name, json!({"status": 200, "body": body}), malformed).await;
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

    pub(super) async fn permanent(&self, suite: &mut Suite) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest, UnsupportedTokenType};
        let said = |kind, status, code, hint| Expected { kind, transient: false, status: Some(status), code, hint };
        let mac = json!({"access_token": "canary-token", "token_type": "mac", "expires_in": 600});
        let rows = [
            (
                "200 with a line break in the token",
                json!({"status": 200, "jsonBody": {"access_token": "a\r\nb", "token_type": "Bearer"}}),
                said(ErrorKind::MalformedResponse, 200, None, "visible ASCII"),
            ),
            (
                "401 with a page of HTML",
                json!({"status": 401, "body": "<html>"}),
                said(InvalidCredentials, 401, None, "the secret or key"),
            ),
            (
                "403 of a gateway",
                json!({"status": 403, "body": "no"}),
                said(InvalidCredentials, 403, None, "no gateway blocks"),
            ),
            ("404", json!({"status": 404}), said(Config, 404, None, "set the token URL")),
            ("400 without a code", json!({"status": 400}), said(InvalidRequest, 400, None, "check the parameters")),
            (
                "an error inside of a 200",
                json!({"status": 200, "jsonBody": {"error": "invalid_client"}}),
                said(InvalidCredentials, 200, Some("invalid_client"), "the secret or key"),
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
        for (name, reply, expected) in rows {
            let work = async {
                let endpoint = self.endpoint(name, &[reply]).await?;
                let source = TokenSource::new(endpoint.client().build()?);
                says(&failed(source.token().await)?, expected)?;
                says(&failed(source.token().await)?, expected)?;
                equal("token requests", endpoint.count().await?, 1)?;
                equal("fetches", source.stats().fetches, 1)
            };
            suite.case(name, work).await;
        }
        for status in [301, 302, 303, 307, 308] {
            let name = format!("a redirect by {status} is not followed");
            let work = async {
                let target = self.endpoint(&format!("target of {status}"), &[good()]).await?;
                let to = format!("{}{}?code=canary-query", self.facts.url, target.path);
                let reply = json!({"status": status, "headers": {"Location": to}});
                let endpoint = self.endpoint(&name, &[reply]).await?;
                let error = failed(TokenSource::new(endpoint.client().build()?).token().await)?;
                says(&error, said(Config, status, None, "set the token URL"))?;
                holds(error.to_string().contains(&format!("redirects to {}", self.facts.url)), &error)?;
                holds(!format!("{error} {error:?}").contains("canary-query"), "the error shows the target's query")?;
                equal("token requests", (endpoint.count().await?, target.count().await?), (1, 0))
            };
            suite.case(&name, work).await;
        }
    }
}
