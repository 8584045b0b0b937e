//! The reason for a fetch.

use std::fmt;

use http::HeaderValue;

use crate::token::Token;

/// Why a token is fetched, and which token it replaces.
///
/// It is an argument of [`TokenProvider::fetch`](crate::TokenProvider::fetch). Most providers ignore it. In a unit test
/// of a provider, use `FetchContext::default()`.
#[derive(Clone, Default)]
pub struct FetchContext {
    reason: FetchReason,
    replaced: Option<Token>,
    challenges: Vec<HeaderValue>,
}

/// Why a token is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// The key has no token yet.
    #[default]
    First,
    /// The token expires soon, or has expired.
    Expiring,
    /// A server rejected the token.
    Rejected,
    /// [`rotate`](crate::TokenSource::rotate) or [`invalidate`](crate::TokenSource::invalidate) removed the token.
    Rotated,
    /// [`refresh`](crate::TokenSource::refresh) or [`token_valid_for`](crate::TokenSource::token_valid_for) asked for a new
    /// token.
    OnDemand,
}

impl FetchContext {
    pub(crate) fn new(reason: FetchReason, replaced: Option<Token>, challenges: Vec<HeaderValue>) -> Self {
        Self { reason, replaced, challenges }
    }

    /// Why the token is fetched.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Whether `secret` is the token that this fetch replaces.
    ///
    /// A provider with a cache of its own must not return that token again. If it returns a token that was rejected, and not
    /// accepted since, the fetch counts as failed.
    #[must_use]
    pub fn replaces(&self, secret: &str) -> bool {
        self.replaced.as_ref().is_some_and(|token| token.expose_secret() == secret)
    }

    /// The `WWW-Authenticate` values of the response that rejected the token. Empty for any other reason.
    #[must_use]
    pub fn challenges(&self) -> &[HeaderValue] {
        &self.challenges
    }
}

// A server can repeat the token in a challenge, so `Debug` prints only the number of challenges.
impl fmt::Debug for FetchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchContext")
            .field("reason", &self.reason)
            .field("replaced", &self.replaced)
            .field("challenges", &self.challenges.len())
            .finish()
    }
}
