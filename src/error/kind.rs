//! The kinds of errors, with their labels and words.

use std::fmt;

/// The kind of an [`Error`](crate::Error).
///
/// `Display` prints a short English phrase. [`as_str`](Self::as_str) returns the label that metrics and log events use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The issuer rejects the client's credentials (RFC 6749 section 5.2, `invalid_client`), or the client is
    /// suspended.
    InvalidCredentials,
    /// The issuer rejects the token request as malformed (RFC 6749 section 5.2, `invalid_request` and similar codes),
    /// or the request has too many headers to add the token.
    InvalidRequest,
    /// The issuer limits the rate of token requests (HTTP 429).
    Throttled,
    /// The issuer cannot be reached, or it responded with a server error.
    Unavailable,
    /// The TLS connection to the issuer fails because of a certificate or a setting: the issuer's certificate is not
    /// trusted, is not valid now or has another name, the issuer requires another client certificate, or there is no
    /// common TLS version or cipher suite.
    ///
    /// `HttpClient` returns it, and so does any other client whose error has a source of this crate's version of rustls. Other
    /// TLS libraries cause [`Unavailable`](Self::Unavailable). Only an error of `HttpClient` has a [`hint`](crate::Error::hint)
    /// that names the setting.
    Tls,
    /// A deadline has passed: the deadline of the token request, or the deadline of a wait for it.
    Timeout,
    /// The issuer's response is not a token response: it is empty, truncated, too large, not JSON, or has no usable
    /// token.
    MalformedResponse,
    /// The issuer's `token_type` is not `Bearer` (RFC 6749 section 7.1).
    UnsupportedTokenType,
    /// The request does not name the identity that it acts as, or the provider does not list its endpoint.
    MissingKey,
    /// The request names an origin, and no origin may receive the token. With
    /// [`OnForeignOrigin::Fail`](crate::OnForeignOrigin::Fail): the origin of the request may not receive it.
    NoOrigin,
    /// The request would send a secret in clear text.
    InsecureUrl,
    /// A fetch could not start: there is no tokio runtime, it has no timers, or it is shutting down.
    NoRuntime,
    /// The provider waits for the token that it is fetching, for example because this layer wraps its HTTP client.
    Reentrant,
    /// The provider panicked during a fetch.
    Panicked,
    /// A setting is missing or invalid.
    Config,
    /// Any other error.
    Other,
}

impl ErrorKind {
    /// Every kind, in the order of declaration.
    #[cfg(any(feature = "metrics", feature = "shared"))]
    pub(crate) const ALL: [Self; 16] = [
        Self::InvalidCredentials,
        Self::InvalidRequest,
        Self::Throttled,
        Self::Unavailable,
        Self::Tls,
        Self::Timeout,
        Self::MalformedResponse,
        Self::UnsupportedTokenType,
        Self::MissingKey,
        Self::NoOrigin,
        Self::InsecureUrl,
        Self::NoRuntime,
        Self::Reentrant,
        Self::Panicked,
        Self::Config,
        Self::Other,
    ];

    /// The label that metrics and log events use, for example `invalid_credentials`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCredentials => "invalid_credentials",
            Self::InvalidRequest => "invalid_request",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::MalformedResponse => "malformed_response",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::MissingKey => "missing_key",
            Self::NoOrigin => "no_origin",
            Self::InsecureUrl => "insecure_url",
            Self::NoRuntime => "no_runtime",
            Self::Reentrant => "reentrant",
            Self::Panicked => "panicked",
            Self::Config => "config",
            Self::Other => "other",
        }
    }

    pub(super) fn is_transient_by_default(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::Unavailable
                | Self::Timeout
                | Self::MalformedResponse
                | Self::Panicked
                | Self::Other
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidCredentials => "the issuer rejects the credentials",
            Self::InvalidRequest => "invalid request",
            Self::Throttled => "the issuer limits the rate of token requests",
            Self::Unavailable => "the issuer is unavailable",
            Self::Tls => "the TLS connection to the issuer fails",
            Self::Timeout => "timed out",
            Self::MalformedResponse => "the issuer's response is malformed",
            Self::UnsupportedTokenType => "unsupported token type",
            Self::MissingKey => "the request names no identity",
            Self::NoOrigin => "the origin may not receive the token",
            Self::InsecureUrl => "the URL is not encrypted",
            Self::NoRuntime => "no usable tokio runtime",
            Self::Reentrant => "the provider waits for its own token",
            Self::Panicked => "the provider panicked",
            Self::Config => "invalid configuration",
            Self::Other => "the token request failed",
        })
    }
}
