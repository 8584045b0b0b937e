//! squid and tinyproxy, the Debian packages, as egress proxies in front of oidc-provider over TLS.

use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{ClientCredentialsBuilder, Error, ErrorKind};

use crate::World;
use crate::connections::says_tls;
use crate::issuer::{Expected, Since, counted, failed, impatient, post, says};
use crate::oidc::TOKEN;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal, fail, holds};

/// The password at both proxies. `tests/interop/run` sets it.
const PASSWORD: &str = "canary-proxy-7fQ2";

const CREDENTIALS: &str = "set the user and the password of the proxy";

pub async fn all(world: &World, report: &mut Report) -> Check {
    // tinyproxy sends 401 for a wrong password, where 407 is due (RFC 9110 section 15.5.8).
    for (name, wrong_password) in [("squid", 407), ("tinyproxy", 401)] {
        let facts = world.server(name)?;
        let mut suite = Suite::new(facts);
        let egress = Egress { world, facts, issuer: world.server("oidc-provider over TLS")? };
        egress.tunnels(&mut suite).await;
        egress.credentials(&mut suite, wrong_password).await;
        egress.targets(&mut suite).await;
        suite
            .wrong("a tunnel with a wrong password gets a token", "requires other credentials", async {
                egress.source_error(egress.with("egress:wrong-7fQ2")?).await.map_or(Ok(()), |error| Err(error.into()))
            })
            .await;
        suite.counted = usize::try_from(counted(facts, "requests").await?)?;
        report.suites.push(suite);
    }
    Ok(())
}

struct Egress<'a> {
    world: &'a World,
    facts: &'a Facts,
    issuer: &'a Facts,
}

impl Egress<'_> {
    fn trusting(&self) -> HttpClientBuilder {
        HttpClient::builder().roots_pem(&self.world.certificates.authority)
    }

    /// Through the port without credentials.
    fn open(&self) -> HttpClientBuilder {
        self.trusting().proxy(&self.facts.url)
    }

    /// Through the port that requires credentials.
    fn with(&self, user: &str) -> Check<HttpClientBuilder> {
        Ok(self.trusting().proxy(format!("http://{user}@{}", self.facts.place("closed")?)))
    }

    fn client_at(&self, url: &str, http: HttpClientBuilder) -> Check<ClientCredentialsBuilder> {
        Ok(post(url, "orders", self.world.secret(), self.issuer).http_client(http.build()?))
    }

    fn client(&self, http: HttpClientBuilder) -> Check<ClientCredentialsBuilder> {
        self.client_at(&format!("{}{TOKEN}", self.issuer.url), http)
    }

    async fn source_error(&self, http: HttpClientBuilder) -> Option<Error> {
        let provider = self.client(http).ok()?.build().ok()?;
        impatient(provider).build().token().await.err()
    }

    /// A token, by one request at the issuer and `tunnels` at the proxy.
    async fn gets(&self, http: HttpClientBuilder, tunnels: u64) -> Check {
        let issued = Since::now(self.issuer, TOKEN).await?;
        let before = self.tunnels_counted().await?;
        let source = impatient(self.client(http)?.build()?).build();
        let callers = (0..20).map(|_| source.token());
        futures_util::future::try_join_all(callers).await?;
        equal("token requests", issued.statuses().await?, [200])?;
        equal("tunnels", self.tunnels_counted().await? - before, tunnels)
    }

    /// The connections to issuers that the proxy counts.
    async fn tunnels_counted(&self) -> Check<u64> {
        counted(self.facts, "tunnels").await
    }

    /// An error that names the proxy, without a request at the issuer.
    async fn fails(&self, url: &str, http: HttpClientBuilder, kind: ErrorKind, hint: &'static str) -> Check<Error> {
        let issued = Since::now(self.issuer, TOKEN).await?;
        let error = failed(impatient(self.client_at(url, http)?.build()?).build().token().await)?;
        let transient = kind == ErrorKind::Unavailable;
        says(&error, Expected { kind, transient, status: None, code: None, hint })?;
        holds(error.to_string().contains("the proxy at 127.0.0.1:"), &error)?;
        equal("requests at the issuer", issued.count().await?, 0)?;
        Ok(error)
    }

    async fn tunnels(&self, suite: &mut Suite) {
        suite.case("no credentials are required: a token by one tunnel", self.gets(self.open(), 1)).await;
        suite
            .case("the right password: a token by one tunnel", async {
                self.gets(self.with(&format!("egress:{PASSWORD}"))?, 1).await
            })
            .await;
        suite
            .case("a host in no_proxy: a token without a tunnel", self.gets(self.open().no_proxy("localhost"), 0))
            .await;
        suite
            .case("an untrusted certificate behind the tunnel is a TLS error", async {
                let http = HttpClient::builder().proxy(&self.facts.url);
                let error = self.source_error(http).await;
                error.map_or_else(|| fail("there is a token"), |error| says_tls(error, "UnknownIssuer"))
            })
            .await;
    }

    async fn credentials(&self, suite: &mut Suite, wrong_password: u16) {
        let url = format!("{}{TOKEN}", self.issuer.url);
        suite
            .case("no credentials where they are required: the hint is about the proxy", async {
                let http = self.trusting().proxy(format!("http://{}", self.facts.place("closed")?));
                let error = self.fails(&url, http, ErrorKind::Config, CREDENTIALS).await?;
                holds(error.to_string().contains("HTTP 407"), error)
            })
            .await;
        suite
            .case(&format!("a wrong password ({wrong_password}): the hint is about the proxy"), async {
                let error = self.fails(&url, self.with("egress:wrong-7fQ2")?, ErrorKind::Config, CREDENTIALS).await?;
                holds(error.to_string().contains(&format!("HTTP {wrong_password}")), error)
            })
            .await;
    }

    async fn targets(&self, suite: &mut Suite) {
        use ErrorKind::{Config, Unavailable};
        let rows = [
            ("a name that the proxy cannot resolve is transient", "https://issuer.invalid/token", Unavailable, ""),
            (
                "an issuer that refuses the proxy's connection is transient",
                "https://localhost:1/token",
                Unavailable,
                "",
            ),
            ("a host that the proxy forbids", "https://forbidden.example/token", Config, "allow CONNECT"),
        ];
        for (what, url, kind, hint) in rows {
            let work = async { self.fails(url, self.open(), kind, hint).await.map(drop) };
            suite.case(what, work).await;
        }
    }
}
