//! Odd secrets, in every encoding that a client can choose, at a real issuer.

use tower_bearer_auth::{ClientCredentialsBuilder, TokenSource};

use crate::World;
use crate::issuer::{Since, post};
use crate::report::{Encoding, Report};
use crate::suite::{Facts, Suite, equal, fail};

/// How the secret goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Post,
}

impl How {
    const ALL: [Self; 1] = [Self::Post];

    fn name(self) -> &'static str {
        match self {
            Self::Post => "form field",
        }
    }

    fn apply(self, builder: ClientCredentialsBuilder) -> ClientCredentialsBuilder {
        match self {
            Self::Post => builder,
        }
    }
}

/// Runs every secret in every encoding. `wanted` says what the issuer does: it takes it, or answers this status and error.
pub async fn table(
    suite: &mut Suite,
    report: &mut Report,
    facts: &Facts,
    (token_url, path): (&str, &'static str),
    api: &Facts,
    world: &World,
    wanted: impl Fn(How, &str) -> Result<(), (u16, &'static str)>,
) {
    for how in How::ALL {
        for (name, secret) in world.odd_secrets() {
            let mut found = String::from("?");
            let work = async {
                let builder = post(token_url, &format!("secret-{name}"), secret, api);
                let source = TokenSource::new(how.apply(builder).build()?);
                let issued = Since::now(facts, path).await?;
                let outcome = source.token().await;
                let noted = issued.noted().await?;
                let [noted] = &noted[..] else {
                    return fail(format!("{} token requests", noted.len()));
                };
                let (status, error) = (noted.status.unwrap_or_default(), noted.error.clone().unwrap_or_default());
                found = if outcome.is_ok() { String::from("taken") } else { format!("{status} `{error}`") };
                match wanted(how, name) {
                    Ok(()) => {
                        outcome?;
                        equal("status", status, 200)
                    }
                    Err(refusal) => equal("the issuer's answer", (status, error.as_str()), refusal),
                }
            };
            suite.case(&format!("secret with {name} as {}", how.name()), work).await;
            report.encodings.push(Encoding {
                server: facts.server.clone(),
                secret: name.to_owned(),
                how: how.name(),
                found,
            });
        }
    }
}
