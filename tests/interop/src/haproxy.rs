//! haproxy, the Debian package: a short keep-alive, faults in TLS, and an issuer that is down.

use std::time::Duration;

use futures_util::future::try_join_all;
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{ClientCredentialsBuilder, ErrorKind};

use crate::World;
use crate::connections::{at_the_edge, none_failed, says_tls};
use crate::issuer::{Expected, Since, counted, failed, impatient, post, says};
use crate::oidc::TOKEN;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal};

/// What is wrong with the handshake at a port, and a part of the error's chain.
const FAULTS: [(&str, &str, &str); 6] = [
    ("untrusted", "a certificate of another authority", "UnknownIssuer"),
    ("expired", "a certificate that has expired", "expired"),
    ("not-yet", "a certificate that is not valid yet", "not valid yet"),
    ("wrong-name", "a certificate for another name", "not valid for"),
    ("old", "TLS 1.0 and 1.1 only", "ProtocolVersion"),
    ("cipher", "no cipher in common", "HandshakeFailure"),
];

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("haproxy")?;
    let mut suite = Suite::new(facts);
    let front = Front { world, facts, issuer: world.server("oidc-provider")? };
    front.connections(&mut suite).await;
    front.tls(&mut suite).await;
    front.client_certificates(&mut suite).await;
    front.down(&mut suite).await;
    suite
        .wrong("a front with an untrusted certificate issues a token", "the issuer at https://localhost", async {
            front.fetch("untrusted", front.trusting()).await
        })
        .await;
    suite.counted = usize::try_from(counted(facts, "requests").await?)?;
    report.suites.push(suite);
    Ok(())
}

struct Front<'a> {
    world: &'a World,
    facts: &'a Facts,
    issuer: &'a Facts,
}

impl Front<'_> {
    fn trusting(&self) -> HttpClientBuilder {
        HttpClient::builder().roots_pem(&self.world.certificates.authority)
    }

    fn client(&self, place: &str, http: HttpClientBuilder) -> Check<ClientCredentialsBuilder> {
        let url = format!("{}{TOKEN}", self.facts.place(place)?);
        Ok(post(&url, "orders", self.world.secret(), self.issuer).http_client(http.build()?))
    }

    async fn fetch(&self, place: &str, http: HttpClientBuilder) -> Check {
        impatient(self.client(place, http)?.build()?).build().token().await?;
        Ok(())
    }

    /// The handshake fails with a TLS error, and no request arrives, so the secret is not sent.
    async fn rejects(&self, place: &str, http: HttpClientBuilder, cause: &str) -> Check {
        let issued = Since::now(self.issuer, TOKEN).await?;
        let error = failed(impatient(self.client(place, http)?.build()?).build().token().await)?;
        equal("requests at the issuer", issued.count().await?, 0)?;
        says_tls(error, cause)
    }

    async fn connections(&self, suite: &mut Suite) {
        let url = format!("{}{TOKEN}", self.facts.url);
        suite
            .case("idle connections are kept: four calls, one connection", async {
                let before = counted(self.facts, "connections").await?;
                let issued = Since::now(self.issuer, TOKEN).await?;
                let failures = at_the_edge(&url, self.world.secret(), Duration::from_millis(10), 4).await?;
                none_failed(&failures, 4, issued.count().await?)?;
                equal("token requests", issued.statuses().await?, [200; 4])?;
                equal("connections", counted(self.facts, "connections").await? - before, 1)
            })
            .await;
        suite
            .case("keep-alive of 1 s and a call 999 ms after the last one: 40 of 40 calls succeed, five times", async {
                let issued = Since::now(self.issuer, TOKEN).await?;
                let idle = Duration::from_millis(999);
                let clients = (0..5).map(|_| at_the_edge(&url, self.world.secret(), idle, 40));
                let failures: Vec<_> = try_join_all(clients).await?.into_iter().flatten().collect();
                none_failed(&failures, 200, issued.count().await?)?;
                equal("token requests", issued.statuses().await?, [200; 200])
            })
            .await;
    }

    async fn tls(&self, suite: &mut Suite) {
        suite
            .case("the right certificate: a token", async {
                let issued = Since::now(self.issuer, TOKEN).await?;
                self.fetch("good", self.trusting()).await?;
                equal("token requests", issued.statuses().await?, [200])
            })
            .await;
        for (place, what, cause) in FAULTS {
            suite.case(&format!("TLS: {what}"), self.rejects(place, self.trusting(), cause)).await;
        }
        suite
            .case("TLS: an authority that the bundled roots do not have", async {
                self.rejects("good", HttpClient::builder(), "UnknownIssuer").await
            })
            .await;
    }

    async fn client_certificates(&self, suite: &mut Suite) {
        let certificates = &self.world.certificates;
        for (place, version) in [("client", "TLS 1.3"), ("client-1.2", "TLS 1.2")] {
            let name = format!("{version}: the client certificate that is required: a token");
            let (chain, key) = &certificates.client;
            suite.case(&name, self.fetch(place, self.trusting().identity_pem(chain, key))).await;
            // In TLS 1.3 the alert arrives after the handshake, with the first read.
            let name = format!("{version}: no client certificate, and one is required");
            let alert = if place == "client" { "CertificateRequired" } else { "HandshakeFailure" };
            suite.case(&name, self.rejects(place, self.trusting(), alert)).await;
            let name = format!("{version}: a client certificate of another authority");
            let (chain, key) = &certificates.foreign;
            suite.case(&name, self.rejects(place, self.trusting().identity_pem(chain, key), "UnknownCA")).await;
        }
    }

    async fn down(&self, suite: &mut Suite) {
        suite
            .case("an issuer that is down behind haproxy: its 503 is transient", async {
                let url = format!("{}{TOKEN}", self.facts.place("down")?);
                let source = impatient(post(&url, "orders", self.world.secret(), self.issuer).build()?).build();
                let expected =
                    Expected { kind: ErrorKind::Unavailable, transient: true, status: Some(503), code: None, hint: "" };
                says(&failed(source.token().await)?, expected)
            })
            .await;
    }
}
