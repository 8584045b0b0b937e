//! The strictness of the issuer, tested with another client. Otherwise its acceptance would prove little.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{Issuer, TOKEN, key, now, seconds, unique};
use crate::plain;
use crate::suite::{Check, Suite, equal, holds};

impl Issuer<'_> {
    /// Checks that the issuer rejects invalid requests of another client.
    pub(super) async fn strictness(&self, suite: &mut Suite) {
        suite
            .case("it responses GET with 404 and text", async {
                let reply = plain::get(&self.url(TOKEN)).await?;
                equal("status", reply.status.as_u16(), 404)?;
                holds(reply.header("content-type").starts_with("text/plain"), reply.header("content-type"))
            })
            .await;
        suite
            .case("it takes an assertion once, and rejects it replayed", async {
                let assertion = self.assertion("ES256", seconds(now()) + 60, &self.facts.url).await?;
                equal("first", self.with_assertion(&assertion).await?, 200)?;
                equal("replayed", self.with_assertion(&assertion).await?, 401)
            })
            .await;
        suite
            .case("it rejects an assertion that has expired, one for somebody else, and one by somebody else", async {
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
                let reply = plain::post_form_as(&self.url(TOKEN), "orders", "wrong-7fQ2", &fields).await?;
                equal("status", reply.status.as_u16(), 401)?;
                holds(reply.header("www-authenticate").starts_with("Basic "), "no Basic challenge")?;
                let fields = [fields[0], ("client_id", "orders"), ("client_secret", "wrong-7fQ2")];
                let reply = plain::post_form(&self.url(TOKEN), &fields).await?;
                equal("challenge", reply.header("www-authenticate"), "")
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
}
