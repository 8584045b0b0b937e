//! The errors of this crate: what went wrong, whether a retry can help, and what to do.

mod config;
mod kind;
mod not_replayed;
mod not_sent;

pub use self::config::ConfigError;
pub use self::kind::ErrorKind;
pub use self::not_replayed::NotReplayed;
pub use self::not_sent::NotSent;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// A boxed error, the error type of tower services.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// How many sources [`Error::find`] follows. Without a limit, the search would not end on an error that is its own
/// source.
pub(crate) const MAX_SOURCES: usize = 128;

/// Why there is no token for a request.
///
/// A [`TokenSource`](crate::TokenSource) returns this error. [`BearerAuth`](crate::BearerAuth) wraps it in a
/// [`NotSent`] and boxes that. [`Error::find`] finds it in any wrapper.
///
/// Cloning is cheap. All callers that waited for one failed fetch get the same error.
///
/// `Display` prints one line. It never contains a secret, a token, a response body or a query string. The cause, if
/// there is one, is [`source()`](StdError::source) and is not part of `Display`.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    retry_after: Option<Duration>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    transient: bool,
    /// Whether the deadline of the request has passed.
    at_deadline: bool,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    code: Option<Box<str>>,
    /// The reason of this crate's HTTP client, in one line.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only log events have it"))]
    cause: Option<Box<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// The backoff that processes with a shared store agree on.
    shared_backoff: Option<Duration>,
    /// Whether the cause is in this process or near it, and not at the issuer.
    #[cfg_attr(not(feature = "shared"), allow(dead_code, reason = "only a shared store asks"))]
    of_this_process: bool,
}

impl Error {
    /// An error with a kind and a message.
    ///
    /// It is transient for the kinds [`Throttled`](ErrorKind::Throttled), [`Unavailable`](ErrorKind::Unavailable),
    /// [`Timeout`](ErrorKind::Timeout), [`MalformedResponse`](ErrorKind::MalformedResponse),
    /// [`Panicked`](ErrorKind::Panicked) and [`Other`](ErrorKind::Other), and permanent for every other kind.
    ///
    /// `Display` begins with the message and prints control characters as spaces. Do not put a secret into it.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                transient: kind.is_transient_by_default(),
                at_deadline: false,
                message: message.into(),
                hint: None,
                status: None,
                code: None,
                cause: None,
                source: None,
                shared_backoff: None,
                of_this_process: false,
            }),
            retry_after: None,
        }
    }

    /// A failure that a retry may cure: I/O, a timeout, an overloaded issuer.
    ///
    /// The source is kept as [`source()`](StdError::source). Do not pass one that contains a secret.
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::wrapping(true, source.into())
    }

    /// A failure that persists until someone changes a setting: wrong credentials, a malformed request.
    ///
    /// The [`TokenSource`](crate::TokenSource) waits 2.5 to 5 seconds before the next token request. It doubles that for each
    /// further permanent failure in a row, up to 30 to 60 seconds.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::wrapping(false, source.into())
    }

    /// The deadline of a request has passed before there was a token.
    pub(crate) fn at_deadline() -> Self {
        let mut error = Self::new(ErrorKind::Timeout, "no token arrived before the deadline of the request")
            .with_hint("the token request continues; a later call may get its token");
        Arc::make_mut(&mut error.inner).at_deadline = true;
        error
    }

    #[cfg(feature = "tonic-0_14")]
    pub(crate) fn is_at_deadline(&self) -> bool {
        self.inner.at_deadline
    }

    fn wrapping(transient: bool, source: BoxError) -> Self {
        let mut error = Self::new(ErrorKind::Other, "the token request failed").with_source(source);
        Arc::make_mut(&mut error.inner).transient = transient;
        error
    }

    /// Sets the kind. Whether the error is transient does not change.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        Arc::make_mut(&mut self.inner).kind = kind;
        self
    }

    /// Sets the message.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.inner).message = message.into();
        self
    }

    /// Sets a hint: what to do about the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        Arc::make_mut(&mut self.inner).hint = Some(hint.into());
        self
    }

    /// Sets the HTTP status of the issuer's response.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.inner).status = Some(status);
        self
    }

    /// Sets the issuer's error code.
    ///
    /// A code has 1 to 64 characters from `A-Z a-z 0-9 _ . -`. Any other text is ignored. Pass only codes that the
    /// issuer documents: an issuer that echoes its input could otherwise put a secret here.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=64).contains(&code.len()) && code.bytes().all(plain) {
            Arc::make_mut(&mut self.inner).code = Some(code.into());
        }
        self
    }

    /// Sets how long to wait before the next fetch, for example the issuer's `Retry-After`. The source applies a limit.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Sets the cause. Do not pass one that contains a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.inner).source = Some(Arc::from(source.into()));
        self
    }

    #[cfg(any(feature = "http-client", feature = "client-credentials"))]
    pub(crate) fn caused_in_this_process(mut self) -> Self {
        Arc::make_mut(&mut self.inner).of_this_process = true;
        self
    }

    #[cfg(feature = "shared")]
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.inner.of_this_process
    }

    #[cfg(feature = "shared")]
    pub(crate) fn with_transient(mut self, transient: bool) -> Self {
        Arc::make_mut(&mut self.inner).transient = transient;
        self
    }

    /// Sets the backoff. A transient error with one is the failure of another process.
    #[cfg(feature = "shared")]
    pub(crate) fn with_shared_backoff(mut self, backoff: Duration) -> Self {
        Arc::make_mut(&mut self.inner).shared_backoff = Some(backoff);
        self
    }

    pub(crate) fn shared_backoff(&self) -> Option<Duration> {
        self.inner.shared_backoff
    }

    /// Sets the reason for telemetry. It must not contain a secret.
    #[cfg(feature = "token-endpoint")]
    pub(crate) fn with_cause(mut self, cause: String) -> Self {
        Arc::make_mut(&mut self.inner).cause = Some(cause.into());
        self
    }

    /// The reason of this crate's HTTP client. Telemetry shows it; `Display` and `Debug` do not, because the source has it
    /// too.
    #[cfg(feature = "tracing")]
    pub(crate) fn cause(&self) -> Option<&str> {
        self.inner.cause.as_deref()
    }

    #[cfg(feature = "token-endpoint")]
    pub(crate) fn without_source(mut self) -> Self {
        Arc::make_mut(&mut self.inner).source = None;
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether a retry may succeed without a change of settings.
    #[must_use]
    #[doc(alias = "retry")]
    pub fn is_transient(&self) -> bool {
        self.inner.transient
    }

    /// The time until the next fetch may start, if that is known.
    ///
    /// In an error of a provider, this is the issuer's `Retry-After`. In an error of a
    /// [`TokenSource`](crate::TokenSource), it is the rest of the backoff. It is `None` after
    /// [`max_wait`](crate::TokenSourceBuilder::max_wait) or a [`Deadline`](crate::Deadline), because the fetch continues.
    #[must_use]
    #[doc(alias = "backoff")]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What went wrong: `Display` without status, code and hint.
    ///
    /// It may contain control characters.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The HTTP status of the issuer's response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.inner.status
    }

    /// The issuer's error code, if the provider documents it, or if it has 1 to 40 characters from `a-z 0-9 _` and repeats
    /// no value of the token request.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.inner.code.as_deref()
    }

    /// What to do about the error, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Finds the first [`Error`] in `error` and its sources.
    ///
    /// For an error of the layer, `Some` means that the request was not sent. The exception is a second layer of this crate
    /// inside the first one: its error can end a replay. Below a layer that sends several requests, such as
    /// `FollowRedirect`, it means that the last of them was not sent. [The guide](crate::guide::errors) explains how to react.
    ///
    /// Use this method and not `downcast_ref`, because other code wraps errors: this crate itself in [`NotSent`],
    /// tower's `Buffer`, hyper-util's client, reqwest, tonic, [`io::Error`], `anyhow`, `eyre` and `thiserror`.
    ///
    /// `anyhow` and `eyre` hide the error that they contain once they are converted into a boxed error. Search before that:
    /// `Error::find(report.as_ref())`.
    ///
    /// The search follows at most 128 sources, so it ends even if an error is its own source.
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
        for _ in 0..=MAX_SOURCES {
            let error = next?;
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = contents(error).or_else(|| error.source());
        }
        None
    }
}

/// What a pointer or an [`io::Error`] contains. The source of such an error is the source of its contents, so following sources
/// alone would skip the contents.
pub(crate) fn contents<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(&**shared);
    }
    if let Some(shared) = error.downcast_ref::<Arc<Error>>() {
        return Some(&**shared);
    }
    if let Some(boxed) = error.downcast_ref::<Box<Error>>() {
        return Some(&**boxed);
    }
    if let Some(shared) = error.downcast_ref::<Arc<io::Error>>() {
        return Some(&**shared);
    }
    error.downcast_ref::<io::Error>()?.get_ref().map(|inner| inner as &(dyn StdError + 'static))
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

#[cfg(test)]
mod tests;
