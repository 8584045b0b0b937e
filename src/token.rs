//! A token as the cache stores it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;

use crate::clock::Now;

mod issued_token;

pub use self::issued_token::IssuedToken;

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
    prefix: u8,
    source_id: u64,
    rotation: u64,
    generation: u64,
    deadlines: Deadlines,
    for_waiters_only: bool,
    #[cfg(feature = "shared")]
    from_store: bool,
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
        #[cfg(feature = "shared")]
        let from_store = issued.from_store;
        let IssuedToken { header, prefix, source_id, rotation, .. } = issued;
        Self {
            inner: Arc::new(Inner {
                header,
                prefix,
                source_id,
                rotation,
                generation,
                deadlines,
                for_waiters_only,
                #[cfg(feature = "shared")]
                from_store,
                responses: AtomicU8::new(0),
            }),
        }
    }

    /// The value of the `Authorization` header: `Bearer`, a space and the token (RFC 6750 section 2.1), unless the provider
    /// returned a token with another scheme or without one. It is marked sensitive.
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
        secret_of(&self.inner.header, self.inner.prefix)
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

    /// The token as a provider returns it, with the rest of its life.
    #[cfg(feature = "shared")]
    pub(crate) fn to_issued(&self, now: Now) -> IssuedToken {
        let Inner { header, prefix, deadlines, from_store, .. } = &*self.inner;
        IssuedToken {
            header: header.clone(),
            prefix: *prefix,
            lifetime: Some(now.until(&deadlines.expires_at)),
            expires_at: None,
            age: Some(Duration::ZERO),
            from_store: *from_store,
            source_id: 0,
            rotation: 0,
        }
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
    /// Whether it came from a shared store.
    #[cfg(feature = "shared")]
    pub(crate) fn is_from_store(&self) -> bool {
        self.inner.from_store
    }

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
    pub(crate) fn mark_rejection_reported(&self) -> bool {
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

fn secret_of(header: &HeaderValue, prefix: u8) -> &str {
    let bytes = header.as_bytes().get(prefix.into()..).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}
