//! PyPI Authlib: a library for issuers, its check of assertions, and its check of tokens.

use tower_bearer_auth::{
    BasicEncoding, ClientCredentials, ClientCredentialsBuilder, ErrorKind, PrivateKeyJwt, SigningAlgorithm, TokenSource,
};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{Since, all_noted, fails, permanent, post, tokens_issued};
use crate::oidc::key;
use crate::protected::Protected;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal};

const TOKEN: &str = "/token";
const CREDENTIALS: &str = "verify the client id, the secret or key";

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("Authlib")?;
    let mut suite = Suite::new(facts);
    let issuer = Authlib { world, facts };
    let client = |id: &str, secret: &str| post(&issuer.token_url(), id, secret, facts);
    let orders = || client("orders", world.secret()).scope("read");
    issuer.assertions(&mut suite, report).await;
    let api = Protected {
        api: facts,
        path: "/api",
        issuer: facts,
        token: TOKEN,
        revocation: "/revoke",
        secret: world.secret(),
        client: &orders,
    };
    // The scheme is in lower case if there is no token.
    api.all(&mut suite, ["bearer error=\"missing_authorization\"", "Bearer error=\"invalid_token\""]).await;
    api.lacks_scope(&mut suite, "/admin", 403).await;
    issuer.rejections(&mut suite, report).await;
    // It percent-decodes a Basic header, and leaves `+` as it is.
    let wanted = |how, secret: &str| match (how, secret) {
        (How::Basic(BasicEncoding::Raw), "escape") => Err((401, "invalid_client")),
        (How::Basic(BasicEncoding::Form), "space" | "all") => Err((401, "invalid_client")),
        _ => Ok(()),
    };
    encodings::table(&mut suite, report, facts, TOKEN, world, client, wanted).await;
    suite.counted = all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
    report.suites.push(suite);
    Ok(())
}

struct Authlib<'a> {
    world: &'a World,
    facts: &'a Facts,
}

impl Authlib<'_> {
    fn token_url(&self) -> String {
        format!("{}{TOKEN}", self.facts.url)
    }

    fn client(&self, id: &str) -> ClientCredentialsBuilder {
        post(&self.token_url(), id, self.world.secret(), self.facts)
    }

    /// A client whose key oidc-provider made.
    async fn asserting(&self, algorithm: SigningAlgorithm, name: &str) -> Check<ClientCredentialsBuilder> {
        let key = key(self.world.server("oidc-provider")?, name).await?;
        let assertion = PrivateKeyJwt::new(algorithm, key.pem);
        let client = ClientCredentials::builder().token_url(self.token_url()).client_id(format!("assert-{name}"));
        Ok(client.private_key_jwt(assertion).api_origin(&self.facts.url))
    }

    async fn assertions(&self, suite: &mut Suite, report: &mut Report) {
        for (algorithm, name) in [(SigningAlgorithm::Es256, "ES256"), (SigningAlgorithm::Rs256, "RS256")] {
            let work = async {
                let source = TokenSource::new(self.asserting(algorithm, name).await?.build()?);
                let issued = Since::now(self.facts, TOKEN).await?;
                for _ in 0..3 {
                    source.token().await?;
                    source.invalidate();
                }
                equal("token requests", issued.statuses().await?, [200; 3])
            };
            suite.case(&format!("an assertion signed with {name}, a fresh one for each of three requests"), work).await;
        }
        let rejected = permanent(ErrorKind::InvalidCredentials, 400, Some("invalid_client"), CREDENTIALS);
        for (algorithm, name) in [(SigningAlgorithm::Ps256, "PS256"), (SigningAlgorithm::EdDsa, "EdDSA")] {
            let what = format!("an assertion signed with {name}, which its defaults do not allow");
            let Ok(client) = self.asserting(algorithm, name).await else {
                suite.case(&what, async { crate::suite::fail("no key") }).await;
                continue;
            };
            let (at, observed) = ((self.facts, TOKEN), &mut report.observed);
            fails(suite, at, self.facts, observed, &what, client.build(), rejected).await;
        }
    }

    async fn rejections(&self, suite: &mut Suite, report: &mut Report) {
        use ErrorKind::{InvalidCredentials, InvalidRequest};
        let invalid_client = |status| permanent(InvalidCredentials, status, Some("invalid_client"), CREDENTIALS);
        let wrong = || self.client("orders").client_secret("wrong-7fQ2");
        let rows = [
            ("a wrong secret", wrong(), invalid_client(401)),
            ("an unknown client", self.client("nobody"), invalid_client(400)),
            ("a wrong secret by HTTP Basic", wrong().client_secret_basic(BasicEncoding::Percent), invalid_client(401)),
            (
                "a grant that is not allowed for the client",
                self.client("web"),
                permanent(InvalidRequest, 400, Some("unauthorized_client"), "enable the grant type"),
            ),
            (
                "an unknown scope",
                self.client("orders").scope("nonsense"),
                permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope"),
            ),
        ];
        for (what, builder, expected) in rows {
            fails(suite, (self.facts, TOKEN), self.facts, &mut report.observed, what, builder.build(), expected).await;
        }
    }
}
