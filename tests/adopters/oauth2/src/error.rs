use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use tower_bearer_auth::{BoxError, Error};

/// Why there are no reports.
#[derive(Debug, thiserror::Error)]
pub enum ReportsError {
    /// There is no complete response.
    #[error("the reports could not be fetched")]
    Call(#[from] BoxError),
    /// The API's response is not a success.
    #[error("the reports API responded with {0}")]
    Status(StatusCode),
}

impl ReportsError {
    /// The response for our own caller.
    pub fn to_response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = match Error::find(self) {
            Some(not_sent) if not_sent.is_transient() => {
                if let Some(delay) = not_sent.retry_after() {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(delay.as_secs() + 1));
                }
                StatusCode::SERVICE_UNAVAILABLE
            }
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::BAD_GATEWAY,
        };
        response
    }
}
