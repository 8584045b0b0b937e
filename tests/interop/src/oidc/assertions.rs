//! Client authentication with a signed assertion (RFC 7523).

use std::time::Duration;

use serde_json::json;
use tower_bearer_auth::{
    ClientCredentials, ClientCredentialsBuilder, ErrorKind, Now, PrivateKeyJwt, SigningAlgorithm, TokenSource,
};

use super::{CREDENTIALS, Issuer, TOKEN, key};
use crate::issuer::{Since, Stopped, call, fails, permanent, stack};
use crate::report::Report;
use crate::suite::{Check, Suite, boxed, equal, holds};

const ALGORITHMS: [(&str, SigningAlgorithm); 4] = [
    ("ES256", SigningAlgorithm::Es256),
    ("RS256", SigningAlgorithm::Rs256),
    ("PS256", SigningAlgorithm::Ps256),
    ("EdDSA", SigningAlgorithm::EdDsa),
];

impl Issuer<'_> {
    fn asserting(&self, client: &str, signer: PrivateKeyJwt) -> ClientCredentialsBuilder {
        let builder = ClientCredentials::builder().client_id(client).private_key_jwt(signer);
        builder.token_url(self.url(TOKEN)).api_origin(&self.api.url)
    }

    async fn signer(&self, name: &str, algorithm: SigningAlgorithm) -> Check<PrivateKeyJwt> {
        Ok(PrivateKeyJwt::new(algorithm, key(self.facts, name).await?.pem))
    }

    /// Valid assertions, each with a new `jti`.
    pub(super) async fn assertions(&self, suite: &mut Suite) {
        for (name, algorithm) in ALGORITHMS {
            let work = async {
                let signer = self.signer(name, algorithm).await?.key_id(name);
                let source = TokenSource::new(self.asserting(&format!("assert-{name}"), signer).build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                let response = call(&stack(&source), self.at_api("/opaque")?).await.map_err(boxed)?;
                equal("the API's reply", response.status().as_u16(), 200)?;
                let said = self.introspect(source.token().await?.expose_secret()).await?;
                equal("active", &said["active"], &json!(true))?;
                // The issuer rejects a `jti` that it has seen before, so a repeated one would fail.
                for _ in 0..4 {
                    source.invalidate();
                    source.token().await?;
                }
                equal("statuses at the issuer", issued.statuses().await?, [200; 5])?;
                equal("fetches", source.stats().fetches_succeeded, 5)
            };
            suite.case(&format!("an assertion signed with {name}, a fresh one for each of five requests"), work).await;
        }
        suite
            .case("an assertion for the issuer's own identifier is taken as well", async {
                let signer = self.signer("ES256", SigningAlgorithm::Es256).await?.audience(&self.facts.url);
                TokenSource::new(self.asserting("assert-ES256", signer).build()?).token().await?;
                Ok(())
            })
            .await;
        suite
            .case("it does not look at iat: an assertion out of the future is taken", async {
                let ahead = Stopped(Stopped::now().0.after(Duration::from_secs(3600)));
                let signer = self.signer("ES256", SigningAlgorithm::Es256).await?.clock(ahead);
                TokenSource::new(self.asserting("assert-ES256", signer).build()?).token().await?;
                Ok(())
            })
            .await;
        suite
            .case("twenty sources with one key at once: no jti is used twice", async {
                let signer = self.signer("ES256", SigningAlgorithm::Es256).await?;
                let mut sources = Vec::new();
                for _ in 0..20 {
                    sources.push(TokenSource::new(self.asserting("assert-ES256", signer.clone()).build()?));
                }
                let issued = Since::now(self.facts, TOKEN).await?;
                let tokens = futures_util::future::join_all(sources.iter().map(TokenSource::token)).await;
                holds(tokens.iter().all(Result::is_ok), "one was rejected")?;
                equal("statuses at the issuer", issued.statuses().await?, [200; 20])
            })
            .await;
    }

    /// Invalid assertions. The issuer returns the same error for each.
    pub(super) async fn bad_assertions(&self, suite: &mut Suite, report: &mut Report) -> Check {
        let invalid = permanent(ErrorKind::InvalidCredentials, 401, Some("invalid_client"), CREDENTIALS);
        let good = self.signer("ES256", SigningAlgorithm::Es256).await?;
        let stranger = self.signer("stranger", SigningAlgorithm::Es256).await?;
        let now = Stopped::now().0;
        let earlier = Now { wall: now.wall - Duration::from_secs(3600), ..now };
        let rows = [
            ("an assertion signed with another key", stranger),
            ("an assertion that has expired", good.clone().clock(Stopped(earlier))),
            ("an assertion for another issuer", good.audience("https://elsewhere.example")),
        ];
        for (what, signer) in rows {
            let provider = self.asserting("assert-ES256", signer).build();
            fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, provider, invalid).await;
        }
        let signer = self.signer("RS256", SigningAlgorithm::Rs256).await?;
        let provider = self.asserting("assert-ES256", signer).build();
        let what = "an assertion with an algorithm that is not allowed for the client";
        fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, provider, invalid).await;
        let signer = self.signer("ES256", SigningAlgorithm::Es256).await?;
        let provider = self.asserting("orders", signer).build();
        let what = "an assertion instead of a secret";
        fails(suite, (self.facts, TOKEN), self.api, &mut report.observed, what, provider, invalid).await;
        Ok(())
    }
}
