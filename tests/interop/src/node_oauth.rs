//! npm @node-oauth/oauth2-server: a library for issuers, and its check of tokens.

use tower_bearer_auth::{BasicEncoding, ClientCredentialsBuilder, ErrorKind, TokenSource};

use crate::World;
use crate::encodings::{self, How};
use crate::issuer::{all_noted, fails, permanent, post, tokens_issued};
use crate::protected::Protected;
use crate::report::Report;
use crate::suite::{Check, Facts, Suite, equal};

const TOKEN: &str = "/token";
const CREDENTIALS: &str = "verify the client id, the secret or key";

pub async fn all(world: &World, report: &mut Report) -> Check {
    let facts = world.server("@node-oauth/oauth2-server")?;
    let mut suite = Suite::new(facts);
    let url = format!("{}{TOKEN}", facts.url);
    let client = |id: &str, secret: &str| post(&url, id, secret, facts);
    let orders = || client("orders", world.secret());
    tokens(&mut suite, facts, &orders).await;
    let api = Protected {
        api: facts,
        path: "/api",
        issuer: facts,
        token: TOKEN,
        revocation: "/revoke",
        secret: world.secret(),
        client: &orders,
    };
    let challenges = ["Bearer realm=\"Service\"", "Bearer realm=\"Service\",error=\"invalid_token\""];
    api.all(&mut suite, challenges).await;
    api.lacks_scope(&mut suite, "/admin", 403).await;
    rejections(&mut suite, report, facts, |id| client(id, world.secret())).await;
    // It decodes nothing in a Basic header, and accepts only visible ASCII (RFC 6749 appendix A.2).
    let wanted = |how, secret: &str| match (how, secret) {
        (How::Post | How::Basic(BasicEncoding::Raw), "non-ascii") => Err((400, "invalid_request")),
        (How::Post | How::Basic(BasicEncoding::Raw), _) | (_, "plain") => Ok(()),
        _ => Err((401, "invalid_client")),
    };
    encodings::table(&mut suite, report, facts, TOKEN, world, client, wanted).await;
    suite.counted = all_noted(facts).await?.len();
    suite.issued = Some(tokens_issued(facts).await?);
    report.suites.push(suite);
    Ok(())
}

async fn tokens(suite: &mut Suite, facts: &Facts, orders: &(dyn Fn() -> ClientCredentialsBuilder + Sync)) {
    suite
        .case("the issuer counts as many tokens as there are fetches", async {
            let before = tokens_issued(facts).await?;
            let source = TokenSource::new(orders().build()?);
            let callers = (0..50).map(|_| source.token());
            futures_util::future::try_join_all(callers).await?;
            source.invalidate();
            source.token().await?;
            equal("tokens", tokens_issued(facts).await? - before, 2)?;
            equal("fetches", source.stats().fetches_succeeded, 2)
        })
        .await;
}

async fn rejections(
    suite: &mut Suite,
    report: &mut Report,
    facts: &Facts,
    client: impl Fn(&str) -> ClientCredentialsBuilder,
) {
    use ErrorKind::{InvalidCredentials, InvalidRequest};
    let wrong = || client("orders").client_secret("wrong-7fQ2");
    let invalid_client = |status| permanent(InvalidCredentials, status, Some("invalid_client"), CREDENTIALS);
    let rows = [
        // Its status depends on how the secret was sent.
        ("a wrong secret", wrong(), invalid_client(400)),
        ("an unknown client", client("nobody"), invalid_client(400)),
        ("a wrong secret by HTTP Basic", wrong().client_secret_basic(BasicEncoding::Percent), invalid_client(401)),
        (
            "a secret with a reserved character by HTTP Basic",
            wrong().client_secret("wrong:7fQ2").client_secret_basic(BasicEncoding::Percent),
            permanent(InvalidCredentials, 401, Some("invalid_client"), "BasicEncoding::Raw"),
        ),
        (
            "a grant that is not allowed for the client",
            client("web"),
            permanent(InvalidRequest, 400, Some("unauthorized_client"), "enable the grant type"),
        ),
        (
            "an unknown scope",
            client("orders").scope("nonsense"),
            permanent(InvalidRequest, 400, Some("invalid_scope"), "check the scope"),
        ),
    ];
    for (what, builder, expected) in rows {
        fails(suite, (facts, TOKEN), facts, &mut report.observed, what, builder.build(), expected).await;
    }
}
