//! Connections that a server closes, and handshakes that fail.

use std::time::Duration;

use tower_bearer_auth::Error;
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient, TokenEndpoint, TokenRequest};

use crate::issuer::CANARY;
use crate::suite::{Check, Failure, equal, fail, holds};

/// Makes `calls` token calls with one client. After each response it waits as long as `idle`, which is a little less than
/// the server keeps an idle connection. Returns what failed.
pub async fn at_the_edge(url: &str, secret: &str, idle: Duration, calls: usize) -> Check<Vec<Failure>> {
    let endpoint = TokenEndpoint::new(url, TokenClient::new(HttpClient::new()?))?;
    let mut failures = Vec::new();
    for call in 0..calls {
        if call > 0 {
            // The server's own timer is what is tested.
            tokio::time::sleep(idle).await;
        }
        let fields = [("grant_type", "client_credentials"), ("client_id", "orders"), ("client_secret", secret)];
        let outcome = endpoint.call(TokenRequest::form(&fields)).await;
        if let Err(error) = outcome.and_then(|response| response.bearer_token()) {
            failures.push(error.into());
        }
    }
    Ok(failures)
}

/// All calls succeed. `counted` is the number of requests that the issuer counted.
pub fn none_failed(failures: &[Failure], calls: usize, counted: u64) -> Check {
    match failures {
        [] => Ok(()),
        [Failure(first), ..] => {
            fail(format!("{} of {calls} failed, and the issuer counted {counted}: {first}", failures.len()))
        }
    }
}

/// A handshake that failed is not an issuer that is down.
pub fn says_tls(error: Error, cause: &str) -> Check {
    let shown = format!("{error} {error:?}");
    let (kind, transient, hint) = (error.kind().as_str(), error.is_transient(), error.hint().map(str::to_owned));
    let chain = Failure::from(error).0;
    holds(!shown.contains(CANARY), "the error shows the secret")?;
    holds(chain.contains(cause), format!("{cause:?} is not in {chain}"))?;
    let found = format!("{kind}, {}: {chain}", if transient { "transient" } else { "permanent" });
    equal("the error", (kind, transient), ("tls", false)).map_err(|_| Failure(format!("found {found}, wanted tls")))?;
    holds(!chain.contains("could not be reached"), chain)?;
    holds(hint.is_some(), format!("no hint: {found}"))
}
