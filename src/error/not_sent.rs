//! The error of a request that was not sent.

use std::error::Error as StdError;
use std::fmt;

use super::Error;

/// The layer did not send the request: it did not call the inner service.
///
/// [`BearerAuth`](crate::BearerAuth) returns this error, boxed, if it has no token for a request or must not send one.
/// Any other error comes from the inner service, except [`NotReplayed`](crate::NotReplayed).
///
/// `Display` prints `request not sent: ` and the words of the [`ErrorKind`](crate::ErrorKind). The [`Error`] is
/// [`source()`](StdError::source), so [`Error::find`] finds it in any wrapper.
#[derive(Clone, Debug)]
pub struct NotSent {
    error: Error,
}

impl NotSent {
    pub(crate) fn new(error: Error) -> Self {
        Self { error }
    }

    /// Why the request was not sent.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Why the request was not sent.
    #[must_use]
    pub fn into_error(self) -> Error {
        self.error
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request not sent: {}", self.error.kind())
    }
}

impl StdError for NotSent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}
