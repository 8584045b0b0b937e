use axum::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tower_bearer_auth::Error;

/// Why there is no session.
#[derive(Debug)]
pub struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::error!("{:#}", self.0);
        // Found only if nothing was sent. Without it, Aera may have opened a session.
        let Some(unsent) = Error::find(self.0.as_ref()) else {
            return StatusCode::BAD_GATEWAY.into_response();
        };
        // Rounded up: an earlier retry gets the same error.
        let seconds = unsent.retry_after().unwrap_or_default().as_secs() + 1;
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(RETRY_AFTER, HeaderValue::from(seconds))],
        )
            .into_response()
    }
}
