use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tonic::Code;

/// `Retry-After` if a call was not sent, and it is unknown when the next token request starts.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// Why a call or the setup of the client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0} is missing or invalid")]
    Setting(&'static str),
    #[error("the settings of the token issuer are invalid")]
    Issuer(#[from] tower_bearer_auth::ConfigError),
    #[error("the connection to the ledger could not be set up")]
    Transport(#[from] tonic::transport::Error),
    #[error("the call to the ledger failed")]
    Call(#[from] tonic::Status),
}

/// The HTTP status for our own caller, and the value of `Retry-After`.
///
/// A 503 means that the call was not sent, so our caller may repeat it.
pub fn http_status(error: &Error) -> (StatusCode, Option<HeaderValue>) {
    let Error::Call(status) = error else {
        return (StatusCode::INTERNAL_SERVER_ERROR, None);
    };
    match tower_bearer_auth::Error::find(status) {
        Some(reason) if reason.is_transient() => {
            let delay = reason.retry_after().unwrap_or(DEFAULT_RETRY);
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            (StatusCode::SERVICE_UNAVAILABLE, Some(seconds.max(1).into()))
        }
        Some(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        None => match status.code() {
            Code::Cancelled | Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, None),
            _ => (StatusCode::BAD_GATEWAY, None),
        },
    }
}
