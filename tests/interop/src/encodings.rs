//! Odd secrets, in every encoding that a client can choose, at a real issuer.

use tower_bearer_auth::{BasicEncoding, ClientCredentialsBuilder, TokenSource};

use crate::World;
use crate::issuer::{Since, post};
use crate::report::{Encoding, Report};
use crate::suite::{Check, Facts, Suite, equal, fail};

/// How the secret goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Post,
    Basic(BasicEncoding),
}

/// What the issuer is to do: take the secret, or answer with this status and error.
pub type Wanted = Result<(), (u16, &'static str)>;

impl How {
    pub const ALL: [Self; 4] = [
        Self::Post,
        Self::Basic(BasicEncoding::Percent),
        Self::Basic(BasicEncoding::Form),
        Self::Basic(BasicEncoding::Raw),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "a form's field",
            Self::Basic(BasicEncoding::Percent) => "Basic, percent",
            Self::Basic(BasicEncoding::Form) => "Basic, form",
            Self::Basic(_) => "Basic, raw",
        }
    }

    pub fn apply(self, builder: ClientCredentialsBuilder) -> ClientCredentialsBuilder {
        match self {
            Self::Post => builder,
            Self::Basic(encoding) => builder.client_secret_basic(encoding),
        }
    }
}

/// Notes what became of one secret, and compares it with what was expected.
pub fn judge(found: &mut String, taken: bool, (status, error): (u16, &str), wanted: Wanted) -> Check {
    *found = if taken { String::from("taken") } else { format!("{status} `{error}`") };
    match wanted {
        Ok(()) => equal("taken, with status", (taken, status), (true, 200)),
        Err(refusal) => equal("taken, status and error", (taken, (status, error)), (false, refusal)),
    }
}

/// Runs every secret in every encoding against an issuer that knows a client for each secret.
pub async fn table(
    suite: &mut Suite,
    report: &mut Report,
    facts: &Facts,
    (token_url, path): (&str, &'static str),
    api: &Facts,
    world: &World,
    wanted: impl Fn(How, &str) -> Wanted,
) {
    for how in How::ALL {
        for (name, secret) in world.odd_secrets() {
            let mut found = String::from("?");
            let work = async {
                let builder = post(token_url, &format!("secret-{name}"), secret, api);
                let source = TokenSource::new(how.apply(builder).build()?);
                let issued = Since::now(facts, path).await?;
                let taken = source.token().await.is_ok();
                let noted = issued.noted().await?;
                let [noted] = &noted[..] else {
                    return fail(format!("{} token requests", noted.len()));
                };
                let answer = (noted.status.unwrap_or_default(), noted.error.as_deref().unwrap_or_default());
                judge(&mut found, taken, answer, wanted(how, name))
            };
            suite.case(&format!("secret with {name} as {}", how.name()), work).await;
            report.encodings.push(Encoding::new(facts, name, how, found));
        }
    }
}
