//! Apache, the Debian package: compression that nobody requested, a keep-alive of 5 s, and mod_auth_openidc.

use std::time::Duration;

use futures_util::future::try_join_all;
use http::header::WWW_AUTHENTICATE;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower_bearer_auth::{ClientCredentialsBuilder, ErrorKind, TokenSource};

use crate::World;
use crate::connections::{at_the_edge, none_failed};
use crate::issuer::{Expected, Since, call, counted, failed, impatient, permanent, post, says, stack};
use crate::oidc::TOKEN;
use crate::protected::Protected;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, boxed, equal, holds};

const CLIENTS: usize = 10;
const CALLS: usize = 5;

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("apache")?;
    let mut suite = Suite::new(facts);
    let front = Front { world, facts, issuer: world.server("oidc-provider")? };
    front.compression(&mut suite).await;
    front.connections(&mut suite).await;
    front.api(&mut suite).await?;
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
    /// A client whose token requests pass through `place`.
    fn client(&self, place: &str) -> ClientCredentialsBuilder {
        let url = format!("{}/{place}{TOKEN}", self.facts.url);
        post(&url, "orders", self.world.secret(), self.issuer)
    }

    async fn compression(&self, suite: &mut Suite) {
        for (place, what) in [
            ("plain", "in front of an issuer: a token"),
            ("filter", "compression on request: it is not requested, and there is a token"),
        ] {
            let work = async {
                let issued = Since::now(self.issuer, TOKEN).await?;
                TokenSource::new(self.client(place).build()?).token().await?;
                equal("token requests", issued.statuses().await?, [200])
            };
            suite.case(what, work).await;
        }
        suite
            .case("force-gzip: the error names the Content-Encoding", async {
                let issued = Since::now(self.issuer, TOKEN).await?;
                let error = failed(impatient(self.client("forced").build()?).build().token().await)?;
                equal("token requests", issued.statuses().await?, [200])?;
                holds(error.to_string().contains("Content-Encoding gzip"), &error)?;
                let expected = Expected {
                    kind: ErrorKind::MalformedResponse,
                    transient: true,
                    status: Some(200),
                    code: None,
                    hint: "turn off compression",
                };
                says(&error, expected)
            })
            .await;
        suite
            .case("force-gzip: the status of an error is enough, although its code cannot be read", async {
                let client = self.client("forced").client_secret("wrong-7fQ2");
                let error = failed(impatient(client.build()?).build().token().await)?;
                says(&error, permanent(ErrorKind::InvalidCredentials, 401, None, "the secret or key"))
            })
            .await;
    }

    async fn connections(&self, suite: &mut Suite) {
        suite
            .case("keep-alive of 5 s and calls 4.999 s after the last one: 50 of 50 calls succeed", async {
                let issued = Since::now(self.issuer, TOKEN).await?;
                let url = format!("{}/plain{TOKEN}", self.facts.url);
                let idle = Duration::from_millis(4_999);
                let clients = (0..CLIENTS).map(|_| at_the_edge(&url, self.world.secret(), idle, CALLS));
                let failures: Vec<_> = try_join_all(clients).await?.into_iter().flatten().collect();
                none_failed(&failures, CLIENTS * CALLS, issued.count().await?)?;
                equal("token requests", issued.statuses().await?, [200; CLIENTS * CALLS])
            })
            .await;
    }

    /// mod_auth_openidc asks the issuer about each token (RFC 7662), through haproxy, because it requires TLS.
    async fn api(&self, suite: &mut Suite) -> Check {
        let api = Facts { url: self.facts.place("api")?.to_owned(), ..self.facts.clone() };
        let url = format!("{}{TOKEN}", self.issuer.url);
        let protected = Protected {
            api: &api,
            path: "/api",
            issuer: self.issuer,
            token: TOKEN,
            revocation: "/token/revocation",
            secret: self.world.secret(),
            client: &|| post(&url, "orders", self.world.secret(), &api),
        };
        protected.all(suite, ["Bearer error=\"invalid_request\"", "Bearer error=\"invalid_token\""]).await;
        suite
            // It looks like a rejection of the token, so the first request is replayed. The new token is not better.
            .case(
                "a missing scope is a 401 without a challenge: one replay, one token request, and it is passed on",
                async {
                    let source = TokenSource::new((protected.client)().build()?);
                    source.token().await?;
                    let issued = Since::now(self.issuer, TOKEN).await?;
                    let at_api = Since::now(&api, "/admin").await?;
                    let stack = stack(&source);
                    for _ in 0..3 {
                        let request = Request::get(format!("{}/admin", api.url)).body(Full::default())?;
                        let response = call(&stack, request).await.map_err(boxed)?;
                        equal("the API's response", response.status(), StatusCode::UNAUTHORIZED)?;
                        holds(!response.headers().contains_key(WWW_AUTHENTICATE), "it has a challenge")?;
                    }
                    equal("sends", at_api.statuses().await?, [401; 4])?;
                    equal("token requests", issued.count().await?, 1)
                },
            )
            .await;
        Ok(())
    }
}
