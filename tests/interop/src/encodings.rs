//! Unusual secrets in every encoding, at a real issuer.

use tower_bearer_auth::{BasicEncoding, ClientCredentialsBuilder, TokenSource};

use crate::World;
use crate::issuer::Since;
use crate::report::{Encoding, Report};
use crate::suite::{Check, Facts, Suite, equal, fail};

/// How the secret is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Post,
    Basic(BasicEncoding),
}

/// The expected result: the issuer accepts the secret, or returns this status and error.
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
            Self::Post => "form field",
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

/// Records the result for one secret and compares it with the expected one.
pub fn judge(found: &mut String, taken: bool, (status, error): (u16, &str), wanted: Wanted) -> Check {
    *found = match (taken, error) {
        (true, _) => String::from("accepted"),
        (false, "") => status.to_string(),
        (false, error) => format!("{status} `{error}`"),
    };
    match wanted {
        Ok(()) => equal("accepted, with status", (taken, status), (true, 200)),
        Err(rejection) => equal("accepted, status and error", (taken, (status, error)), (false, rejection)),
    }
}

/// Tries every secret in every encoding at an issuer with a client for each secret. `client` takes its id and its secret.
pub async fn table(
    suite: &mut Suite,
    report: &mut Report,
    facts: &Facts,
    path: &'static str,
    world: &World,
    client: impl Fn(&str, &str) -> ClientCredentialsBuilder,
    wanted: impl Fn(How, &str) -> Wanted,
) {
    for how in How::ALL {
        for (name, secret) in world.unusual_secrets() {
            let mut found = String::from("?");
            let work = async {
                let builder = client(&format!("secret-{name}"), secret);
                let source = TokenSource::new(how.apply(builder).build()?);
                let issued = Since::now(facts, path).await?;
                let taken = source.token().await.is_ok();
                let noted = issued.noted().await?;
                let [noted] = &noted[..] else {
                    return fail(format!("{} token requests", noted.len()));
                };
                let reply = (noted.status.unwrap_or_default(), noted.error.as_deref().unwrap_or_default());
                judge(&mut found, taken, reply, wanted(how, name))
            };
            suite.case(&format!("secret with {name} as {}", how.name()), work).await;
            report.encodings.push(Encoding::new(facts, name, how, found));
        }
    }
}
