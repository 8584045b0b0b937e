//! What a provider returns, and what the cache stores.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::Now;
use crate::error::{Error, ErrorKind};

const SCHEME: &str = "Bearer ";

/// A token as a provider returns it: a secret and a lifetime.
///
/// The secret is copied once, into the header value that requests carry. That buffer is wiped when its last reference is
/// dropped.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer_auth::IssuedToken;
///
/// let token = IssuedToken::bearer("opaque-token")?.expires_in(Duration::from_secs(1800));
/// assert_eq!(token.expose_secret(), "opaque-token");
/// assert_eq!(token.lifetime(), Some(Duration::from_secs(1800)));
/// # Ok::<(), tower_bearer_auth::Error>(())
/// ```
#[doc(alias = "access_token")]
#[derive(Clone)]
pub struct IssuedToken {
    header: HeaderValue,
    lifetime: Option<Duration>,
    /// The id of the token source that fetched the token. 0 until the fetch completes.
    source_id: u64,
    /// How many times that source had rotated its credentials when the fetch started.
    rotation: u64,
}

impl IssuedToken {
    /// A bearer token of unknown lifetime. `secret` is the part of the header value after `Bearer `.
    ///
    /// Set the lifetime with [`expires_in`](Self::expires_in).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`], transient, if the token is empty or contains a character that RFC 6750 section 2.1
    /// does not allow. Allowed are `A-Z a-z 0-9 - . _ ~ + /`, then any number of `=`.
    pub fn bearer(secret: impl AsRef<str>) -> Result<Self, Error> {
        let secret = secret.as_ref();
        if !is_b64token(secret) {
            return Err(Error::new(
                ErrorKind::MalformedResponse,
                "the access token is empty or has a character that a bearer token may not have (RFC 6750 section 2.1)",
            ));
        }
        // The exact capacity matters: a buffer that grows leaves copies that are not wiped.
        let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + secret.len()));
        value.extend_from_slice(SCHEME.as_bytes());
        value.extend_from_slice(secret.as_bytes());
        let Ok(mut header) = HeaderValue::from_maybe_shared(Bytes::from_owner(value)) else {
            return Err(Error::new(ErrorKind::MalformedResponse, "the access token does not fit into a header"));
        };
        header.set_sensitive(true);
        Ok(Self { header, lifetime: None, source_id: 0, rotation: 0 })
    }

    /// Sets the lifetime, counted from the start of the fetch. This is `expires_in` of RFC 6749 section 5.1.
    ///
    /// Without this, or with a lifetime of zero, the source assumes 5 minutes: RFC 6749 only recommends `expires_in`, and
    /// zero means "never" at some issuers. The source raises any other lifetime below 1 second to 1 second, and lowers one
    /// above 24 hours to 24 hours.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The lifetime that [`expires_in`](Self::expires_in) set, unchanged.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The token without its scheme. Keep it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        secret_of(&self.header)
    }

    pub(crate) fn for_source(self, source_id: u64, rotation: u64) -> Self {
        Self { source_id, rotation, ..self }
    }

    pub(crate) fn same_secret(&self, token: &Token) -> bool {
        self.header == token.inner.header
    }
}

fn is_b64token(secret: &str) -> bool {
    let body = secret.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

fn secret_of(header: &HeaderValue) -> &str {
    let bytes = header.as_bytes().get(SCHEME.len()..).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// The times that decide how a token is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// When the fetch started. The lifetime counts from here.
    pub(crate) fetched_at: Now,
    /// When the refresh window begins, or `usable_until` if there is none before that. Until then, requests are stamped
    /// without a look at the slot.
    pub(crate) refresh_at: Now,
    /// When the source stops returning the token: `expires_at` less the margin.
    pub(crate) usable_until: Now,
    /// When the token expires according to its issuer.
    pub(crate) expires_at: Now,
}

/// A token in the cache: a header value that is built once, with a generation and an expiry time.
///
/// Cloning is cheap and shares the token.
#[doc(alias = "access_token")]
#[derive(Clone)]
pub struct Token {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    header: HeaderValue,
    source_id: u64,
    rotation: u64,
    generation: u64,
    deadlines: Deadlines,
    for_waiters_only: bool,
    responses: AtomicU8,
}

/// What servers have said about a token, as bits of `Inner::responses`.
mod responses {
    pub(super) const ACCEPTED: u8 = 1;
    pub(super) const ACCEPTED_SINCE_REJECTION: u8 = 2;
    pub(super) const REJECTED: u8 = 4;
    pub(super) const REJECTION_REPORTED: u8 = 8;
}

/// Owns the buffer of a header value that has a reference count of its own.
struct HeaderBytes(Arc<Inner>);

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.header.as_bytes()
    }
}

impl Token {
    pub(crate) fn new(issued: IssuedToken, generation: u64, deadlines: Deadlines, for_waiters_only: bool) -> Self {
        let IssuedToken { header, lifetime: _, source_id, rotation } = issued;
        Self {
            inner: Arc::new(Inner {
                header,
                source_id,
                rotation,
                generation,
                deadlines,
                for_waiters_only,
                responses: AtomicU8::new(0),
            }),
        }
    }

    /// The value of the `Authorization` header: `Bearer`, a space and the token (RFC 6750 section 2.1). It is marked sensitive.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.inner.header
    }

    /// The same bytes as [`header_value`](Self::header_value), with a reference count that no other value uses.
    pub(crate) fn unshared_header_value(&self) -> HeaderValue {
        let bytes = Bytes::from_owner(HeaderBytes(Arc::clone(&self.inner)));
        let Ok(mut header) = HeaderValue::from_maybe_shared(bytes) else {
            return self.inner.header.clone();
        };
        header.set_sensitive(true);
        header
    }

    /// The token without its scheme. Keep it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        secret_of(&self.inner.header)
    }

    /// The number of the token in its source. A token from a later fetch has a higher number.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// When the token expires according to its issuer. The source stops using it a margin earlier; see
    /// [`RefreshPolicy`](crate::RefreshPolicy).
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.inner.deadlines.expires_at.wall
    }

    pub(crate) fn source_id(&self) -> u64 {
        self.inner.source_id
    }

    pub(crate) fn rotation(&self) -> u64 {
        self.inner.rotation
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.inner.deadlines
    }

    /// Whether the token arrived after its `usable_until`. It then serves the waiters of its own fetch, until `expires_at`,
    /// and is not cached.
    pub(crate) fn is_for_waiters_only(&self) -> bool {
        self.inner.for_waiters_only
    }

    /// A server accepted the token.
    pub(crate) fn accept(&self) {
        // Read first: a write for every response would invalidate the cache lines of other cores.
        if !self.is_accepted_since_rejection() {
            self.inner.responses.fetch_or(responses::ACCEPTED | responses::ACCEPTED_SINCE_REJECTION, Ordering::Relaxed);
        }
    }

    /// Whether a server has ever accepted the token.
    #[inline]
    pub(crate) fn is_accepted(&self) -> bool {
        self.has(responses::ACCEPTED)
    }

    /// Whether a server has accepted the token, and none has rejected it since.
    #[inline]
    pub(crate) fn is_accepted_since_rejection(&self) -> bool {
        self.has(responses::ACCEPTED_SINCE_REJECTION)
    }

    /// Whether a server has rejected the token, and none has accepted it since.
    pub(crate) fn is_rejected(&self) -> bool {
        self.has(responses::REJECTED) && !self.is_accepted_since_rejection()
    }

    /// A server rejected the token. Returns whether one had accepted it since the rejection before.
    pub(crate) fn reject(&self) -> bool {
        self.inner.responses.fetch_or(responses::REJECTED, Ordering::Relaxed);
        let before = self.inner.responses.fetch_and(!responses::ACCEPTED_SINCE_REJECTION, Ordering::Relaxed);
        before & responses::ACCEPTED_SINCE_REJECTION != 0
    }

    /// Returns whether no rejection of the token was reported before.
    pub(crate) fn report_rejection(&self) -> bool {
        let before = self.inner.responses.fetch_or(responses::REJECTION_REPORTED, Ordering::Relaxed);
        before & responses::REJECTION_REPORTED == 0
    }

    fn has(&self, bit: u8) -> bool {
        self.inner.responses.load(Ordering::Relaxed) & bit != 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.inner.generation)
            .field("expires_at", &self.inner.deadlines.expires_at.wall)
            .finish_non_exhaustive()
    }
}
