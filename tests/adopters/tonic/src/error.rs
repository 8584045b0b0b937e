use std::env::VarError;
use std::error::Error as StdError;
use std::iter;
use std::time::Duration;

use axum::http::uri::InvalidUri;
use axum::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tower_bearer_auth::ConfigError;

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("API_ORIGIN")]
    Origin(#[source] VarError),
    #[error("the origin of the API")]
    Uri(#[from] InvalidUri),
    #[error("the credentials")]
    Credentials(#[from] ConfigError),
    #[error("the channel")]
    Channel(#[from] tonic::transport::Error),
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent. A retry after this time may succeed.
    #[error("the call was not sent")]
    NotSent {
        retry_after: Duration,
        source: Status,
    },
    /// Nothing was sent, and no retry helps until a setting is corrected.
    #[error("the call cannot be sent")]
    Blocked(#[source] Status),
    /// The API's status, or a failure after which the call may have been applied.
    #[error("the call failed")]
    Failed(#[source] Status),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let retry_after = match tower_bearer_auth::Error::find(&status) {
            Some(error) if error.is_transient() => error.retry_after(),
            Some(_) => return Self::Blocked(status),
            None if has_source::<ConnectError>(&status) => None,
            None => return Self::Failed(status),
        };
        Self::NotSent {
            retry_after: retry_after.unwrap_or(Duration::from_secs(1)),
            source: status,
        }
    }
}

fn has_source<E: StdError + 'static>(status: &Status) -> bool {
    let first = Some(status as &(dyn StdError + 'static));
    iter::successors(first, |&error| error.source()).any(|error| error.is::<E>())
}

/// The status for our caller. It never says that the caller's credentials are wrong, because ours were.
impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NotSent { .. } => Self::unavailable(text),
            CallError::Blocked(_) => Self::internal(text),
            CallError::Failed(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Self::internal(text),
                // At the deadline, tonic's channel ends a call with the code CANCELLED.
                _ if has_source::<TimeoutExpired>(&status) => Self::deadline_exceeded(text),
                code => Self::new(code, status.message()),
            },
        }
    }
}

impl IntoResponse for CallError {
    fn into_response(self) -> Response {
        match self {
            Self::NotSent { retry_after, .. } => {
                // Rounded up: an earlier retry fails again.
                let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                let headers = [(RETRY_AFTER, HeaderValue::from(seconds.max(1)))];
                (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
            }
            Self::Blocked(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            Self::Failed(status) if status.code() == Code::NotFound => {
                StatusCode::NOT_FOUND.into_response()
            }
            Self::Failed(_) => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}
