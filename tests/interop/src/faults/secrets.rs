//! A server with the HTTP Basic of RFC 7617, without an encoding.

use serde_json::json;
use tower_bearer_auth::{BasicEncoding, TokenSource};

use super::{Mock, good};
use crate::encodings::{How, judge};
use crate::plain;
use crate::report::{Encoding, Report};
use crate::suite::{Suite, equal};

impl Mock<'_> {
    /// Tries the secrets at a server with the HTTP Basic of RFC 7617, without an encoding.
    pub(super) async fn secrets(&self, suite: &mut Suite, report: &mut Report) {
        for how in How::ALL.into_iter().filter(|how| *how != How::Post) {
            for (name, secret) in self.world.unusual_secrets() {
                let mut found = String::from("?");
                let what = format!("secret with {name} as {}", how.name());
                let work = async {
                    let rejected = json!({"status": 401, "jsonBody": {"error": "invalid_client"}});
                    let endpoint = self.endpoint(&what, &[rejected]).await?;
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
                    let reply = outcome.as_ref().err().map_or((200, ""), |error| {
                        (error.status().map_or(0, |status| status.as_u16()), error.code().unwrap_or_default())
                    });
                    let wanted = match (how, name) {
                        (How::Basic(BasicEncoding::Raw), _) | (_, "plain") => Ok(()),
                        _ => Err((401, "invalid_client")),
                    };
                    judge(&mut found, outcome.is_ok(), reply, wanted)
                };
                suite.case(&what, work).await;
                report.encodings.push(Encoding::new(self.facts, name, how, found));
            }
        }
    }
}
