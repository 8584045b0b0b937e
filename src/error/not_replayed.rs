//! The error of a request that was rejected and could not be replayed.

use std::error::Error as StdError;
use std::fmt;

use super::Error;

/// The request was rejected, and its replay was not sent because there is no token for it.
///
/// [`BearerAuth`](crate::BearerAuth) returns this error, boxed, if all of this happens:
///
/// 1. The request was sent, and the server rejected its token.
/// 2. There was a new token, so the rejection was dropped to prepare the replay.
/// 3. Before the inner service was ready again, [`rotate`](crate::TokenSource::rotate) removed the new token.
/// 4. There is no token for the new credentials.
///
/// The layer never sends a token of the old credentials, so there is no response to return.
///
/// With two layers of this crate in one stack, the outer one also returns this error if the inner one does not send its
/// replay and returns a [`NotSent`](crate::NotSent). In every other case the caller gets the rejection itself, the response
/// to the replay, or an error of the inner service.
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
    reason: &'static str,
}

impl NotReplayed {
    /// The credentials were rotated, and there is no token for the new ones.
    pub(crate) fn rotated(error: Error) -> Self {
        Self { error, reason: "the credentials were rotated and there is no new token" }
    }

    /// A second layer below did not send the replay.
    pub(crate) fn not_sent(error: Error) -> Self {
        Self { error, reason: "a second layer did not send the replay" }
    }

    /// Why there is no token for the replay.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Why there is no token for the replay.
    #[must_use]
    pub fn into_error(self) -> Error {
        self.error
    }
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request rejected, and not replayed because {}: {}", self.reason, self.error.kind())
    }
}

// No `source()`: see the type's documentation.
impl StdError for NotReplayed {}
