//! The one error type of this crate: what went wrong, whether trying again can help, and what to do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// A boxed error, as the tower ecosystem passes it on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why there is no token for a request, or why a setting was refused.
///
/// An `Error` coming out of [`BearerAuth`](crate::BearerAuth) means that no byte of the request reached the inner
/// service. It is cheap to clone: all callers that waited for one failed token request hold the same error.
///
/// `Display` is one line that never has a secret, a token, a response body or a query string in it. The cause, where
/// there is one, is [`source()`](StdError::source) and is not repeated in `Display`.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    transient: bool,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    code: Option<Box<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The issuer does not accept the client's credentials (RFC 6749 section 5.2, `invalid_client`).
    InvalidCredentials,
    /// The issuer knows the client and has suspended it.
    Disabled,
    /// The issuer found the token request malformed (RFC 6749 section 5.2, `invalid_request` and its like), or a request
    /// has so many headers that there is no room for the token's.
    InvalidRequest,
    /// The issuer asked for fewer requests (HTTP 429).
    Throttled,
    /// The issuer could not be reached or answered with a server error.
    Unavailable,
    /// A deadline passed: of the token request, or of the wait for it.
    Timeout,
    /// The issuer's answer is not a token response: empty, truncated, too large, not JSON, or not a usable token.
    MalformedAnswer,
    /// The issuer's `token_type` is not `Bearer` (RFC 6749 section 7.1).
    UnsupportedTokenType,
    /// The request does not say which identity it acts as, and its endpoint needs one.
    MissingKey,
    /// The provider does not know which identity the endpoint needs.
    UnknownEndpoint,
    /// No origin is allowed to receive the token, and the request names one.
    NoOrigin,
    /// The request or a setting would send a secret in clear text.
    InsecureUrl,
    /// A token request was due outside of a tokio runtime, or in one whose timers are off.
    NoRuntime,
    /// A provider waited for the very token that it was fetching.
    Reentrant,
    /// The provider panicked while it fetched a token.
    Panicked,
    /// A setting is missing or unusable.
    Config,
    /// None of the above.
    Other,
}

impl Error {
    /// A failure that may be gone at the next try: I/O, a timeout, an overloaded issuer.
    ///
    /// The source is kept as [`source()`](StdError::source). Whether it holds a secret is up to the caller.
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::wrapping(true, source.into())
    }

    /// A failure that stays until someone changes a setting: wrong credentials, a malformed request.
    ///
    /// It is remembered for a few seconds, then the issuer is asked again.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::wrapping(false, source.into())
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                transient: kind.is_transient_by_default(),
                message: message.into(),
                hint: None,
                status: None,
                code: None,
                source: None,
            }),
            retry_after: None,
        }
    }

    fn wrapping(transient: bool, source: BoxError) -> Self {
        let mut error = Self::new(ErrorKind::Other, "the token request failed");
        let inner = Arc::make_mut(&mut error.inner);
        inner.transient = transient;
        inner.source = Some(Arc::from(source));
        error
    }

    /// Sets the kind. Whether the error is transient stays as the constructor said.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        Arc::make_mut(&mut self.inner).kind = kind;
        self
    }

    /// Sets what `Display` begins with; control characters are shown as spaces.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.inner).message = message.into();
        self
    }

    /// Sets what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.inner).hint = Some(hint.into());
        self
    }

    /// Sets the HTTP status of the issuer's answer.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.inner).status = Some(status);
        self
    }

    /// Sets the issuer's error code.
    ///
    /// Only 1 to 64 characters out of `A-Z a-z 0-9 _ . -` are taken as a code; anything else is ignored. Pass only codes
    /// that the issuer documents: an issuer that repeats what it was sent must not put a secret here.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=64).contains(&code.len()) && code.bytes().all(plain) {
            Arc::make_mut(&mut self.inner).code = Some(code.into());
        }
        self
    }

    /// Sets how long to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.inner).source = Some(Arc::from(source.into()));
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed later without anyone changing a setting.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.inner.transient
    }

    /// How long to wait before calling again, where that is known.
    ///
    /// On an error from a provider it is the issuer's `Retry-After`. On an error from a
    /// [`TokenSource`](crate::TokenSource) it is the time until the next token request may be made.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The HTTP status of the issuer's answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// The issuer's error code, where it is one that the provider documents.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// What to do about it, where that is known: the documented fix of a documented error.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Finds the first `Error` of this crate in an error and its chain of sources.
    ///
    /// Other layers wrap errors: `Buffer`, `Timeout` and `Retry` of tower, hyper-util's client, reqwest, tonic, and
    /// [`io::Error`]. [The guide](crate::guide::errors) says what to make of what is found.
    ///
    /// ```
    /// use tower_bearer_auth::{BoxError, Error, ErrorKind};
    ///
    /// let boxed: BoxError = Error::transient("connection reset").with_kind(ErrorKind::Unavailable).into();
    /// assert_eq!(Error::find(&*boxed).map(Error::kind), Some(ErrorKind::Unavailable));
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            // An Arc'd error answers `source()` for what it holds, and so would be stepped over.
            if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
                if let Some(found) = shared.downcast_ref::<Self>() {
                    return Some(found);
                }
            }
            // So does an `io::Error`, in which connectors and bodies wrap what they fail with.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }
}

/// A setting that was refused: its name, and what is wrong with it, never its value.
pub(crate) fn refused(setting: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{setting}: {why}"))
}

impl ErrorKind {
    fn is_transient_by_default(self) -> bool {
        matches!(
            self,
            Self::Throttled | Self::Unavailable | Self::Timeout | Self::MalformedAnswer | Self::Panicked | Self::Other
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(f, &self.inner.message)?;
        match (self.inner.status, &self.inner.code) {
            (Some(status), Some(code)) => write!(f, " (HTTP {}, {code})", status.as_u16())?,
            (Some(status), None) => write!(f, " (HTTP {})", status.as_u16())?,
            (None, Some(code)) => write!(f, " ({code})")?,
            (None, None) => {}
        }
        if let Some(hint) = &self.inner.hint {
            f.write_str(": ")?;
            one_line(f, hint)?;
        }
        Ok(())
    }
}

fn one_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;
    text.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.inner.kind).field("transient", &self.inner.transient);
        out.field("message", &self.inner.message);
        if let Some(status) = self.inner.status {
            out.field("status", &status);
        }
        if let Some(code) = &self.inner.code {
            out.field("code", code);
        }
        if let Some(hint) = &self.inner.hint {
            out.field("hint", hint);
        }
        if let Some(delay) = self.retry_after {
            out.field("retry_after", &delay);
        }
        if let Some(source) = &self.inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
