//! glewlwyd, the Debian package: its OpenID Connect plugin.

use tower_bearer_auth::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder, ErrorKind, TokenSource};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Since, all_noted, fails, permanent, post, tokens_issued};
use crate::plain;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal, holds};

const TOKEN: &str = "/api/oidc/token";

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("glewlwyd")?;
    let mut suite = Suite::new(facts);
    let issuer = Glewlwyd { world, facts };
    issuer.tokens(&mut suite).await;
    issuer.rejections(&mut suite, report).await;
    let client = |id: &str, secret: &str| post(&issuer.url(TOKEN), id, secret, facts).scope("read");
    // It decodes nothing in a Basic header.
    let wanted = |how, secret: &str| match (how, secret) {
        (How::Post | How::Basic(BasicEncoding::Raw), _) | (_, "plain") => Ok(()),
        _ => Err((403, "")),
    };
    encodings::table(&mut suite, report, facts, TOKEN, world, client, wanted).await;
    suite
        .wrong("a wrong secret gets a token", "rejects this client", async {
            TokenSource::new(issuer.client("orders").client_secret("wrong-7fQ2").build()?).token().await?;
            Ok(())
        })
        .await;
    suite.counted = all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
    report.suites.push(suite);
    Ok(())
}

struct Glewlwyd<'a> {
    world: &'a World,
    facts: &'a Facts,
}

impl Glewlwyd<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.facts.url)
    }

    /// It issues no token without a scope.
    fn client(&self, id: &str) -> ClientCredentialsBuilder {
        self.without_scope(id).scope("read")
    }

    fn without_scope(&self, id: &str) -> ClientCredentialsBuilder {
        post(&self.url(TOKEN), id, self.world.secret(), self.facts)
    }

    async fn tokens(&self, suite: &mut Suite) {
        suite
            .case("fifty callers get one JWT, for one token request", async {
                let issued = tokens_issued(self.facts).await?;
                let requested = Since::now(self.facts, TOKEN).await?;
                let source = TokenSource::new(self.client("orders").build()?);
                let callers = (0..50).map(|_| source.token());
                futures_util::future::try_join_all(callers).await?;
                let token = source.token().await?;
                equal("parts of the token", token.expose_secret().split('.').count(), 3)?;
                equal("token requests", requested.statuses().await?, [200])?;
                // It counts a token after it has sent it.
                while tokens_issued(self.facts).await? == issued {}
                equal("tokens, by its own count", tokens_issued(self.facts).await? - issued, 1)?;
                equal("fetches", source.stats().fetches, 1)
            })
            .await;
        suite
            .case("its metadata is found, and its token URL works", async {
                let found = ClientCredentials::builder().discover(&self.url("/api/oidc")).await?;
                let client = found.client_id("orders").client_secret(self.world.secret()).scope("read");
                let requested = Since::now(self.facts, TOKEN).await?;
                TokenSource::new(client.api_origin(&self.facts.url).build()?).token().await?;
                equal("token requests", requested.statuses().await?, [200])
            })
            .await;
        suite
            .case("a wrong secret is a 403 without a body", async {
                let fields = [("grant_type", "client_credentials"), ("scope", "read")];
                let reply = plain::post_form_as(&self.url(TOKEN), "orders", "wrong-7fQ2", &fields).await?;
                equal("status", reply.status.as_u16(), 403)?;
                holds(reply.body.is_empty(), "it has a body")
            })
            .await;
    }

    async fn rejections(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{Config, InvalidCredentials, InvalidRequest};
        let client = permanent(InvalidCredentials, 403, None, "verify the credentials");
        let request = |code| permanent(InvalidRequest, 400, Some(code), "check the parameters");
        let rows = [
            ("a wrong secret", self.client("orders").client_secret("wrong-7fQ2"), client),
            ("an unknown client", self.client("nobody"), client),
            (
                "a wrong secret by HTTP Basic",
                self.client("orders").client_secret("wrong-7fQ2").client_secret_basic(BasicEncoding::Percent),
                client,
            ),
            (
                // It sends no code.
                "a secret with a reserved character by HTTP Basic",
                self.client("orders").client_secret("wrong:7fQ2").client_secret_basic(BasicEncoding::Percent),
                permanent(InvalidCredentials, 403, None, "BasicEncoding::Raw"),
            ),
            ("no scope", self.without_scope("orders"), client),
            ("an unknown scope", self.without_scope("orders").scope("nonsense"), request("scope_invalid")),
            ("a grant that is not allowed for the client", self.client("web"), request("authorization_type_invalid")),
        ];
        for (what, builder, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.facts, &mut report.observed, what, builder.build(), expected).await;
        }
        let path = "/api/oidc/oauth/token";
        let provider = post(&self.url(path), "orders", self.world.secret(), self.facts).build();
        let expected = permanent(Config, 404, None, "set the token URL");
        fails(suite, (self.facts, path), self.facts, &mut report.observed, "a wrong path", provider, expected).await;
    }
}
