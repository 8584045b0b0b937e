use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use tower_bearer_auth::BoxError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the call of the reports API failed")]
    Call(#[source] BoxError),
    #[error("the reports API responded with {0}")]
    Status(StatusCode),
    #[error("the report could not be read")]
    Body(#[source] BoxError),
}

impl Error {
    /// The response for our own caller: 503 with `Retry-After` if the request was not sent and a retry may help.
    pub fn to_response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = match tower_bearer_auth::Error::find(self) {
            Some(error) if error.is_transient() => {
                // Rounded up, because an earlier retry fails too.
                let seconds = error.retry_after().unwrap_or_default().as_secs() + 1;
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                StatusCode::SERVICE_UNAVAILABLE
            }
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::BAD_GATEWAY,
        };
        response
    }
}
