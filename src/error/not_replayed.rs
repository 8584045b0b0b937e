//! The error of a request that was rejected and could not be replayed.

use std::error::Error as StdError;
use std::fmt;

use super::Error;

/// The request was rejected, and it was not replayed because the credentials were rotated.
///
/// [`BearerAuth`](crate::BearerAuth) returns this error, boxed, if all of this happens:
///
/// 1. The request was sent, and the server rejected its token.
/// 2. There was a new token, so the rejection was dropped to prepare the replay.
/// 3. Before the inner service was ready again, [`rotate`](crate::TokenSource::rotate) withdrew the new token.
/// 4. There is no token for the new credentials.
///
/// The layer never sends a token of the old credentials, so there is no response to return. In every other case the
/// caller gets the rejection itself, or the response to the replay.
///
/// This is not a [`NotSent`](crate::NotSent), because the request was sent once. For the same reason [`Error::find`]
/// does not find [`error()`](Self::error): a result would mean that the request was not sent. Use `downcast_ref` on the
/// boxed error.
///
/// ```
/// use tower_bearer_auth::{BoxError, NotReplayed};
///
/// fn was_rejected(error: &BoxError) -> bool {
///     error.is::<NotReplayed>()
/// }
/// # assert!(!was_rejected(&"reset".into()));
/// ```
#[derive(Clone, Debug)]
pub struct NotReplayed {
    error: Error,
}

impl NotReplayed {
    pub(crate) fn new(error: Error) -> Self {
        Self { error }
    }

    /// Why there is no token for the new credentials.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Why there is no token for the new credentials.
    #[must_use]
    pub fn into_error(self) -> Error {
        self.error
    }
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "request rejected, and not replayed because the credentials were rotated and there is no new token: {}",
            self.error.kind()
        )
    }
}

// No `source()`: see the type's documentation.
impl StdError for NotReplayed {}
