//! What a provider returns, and what the cache makes of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::Now;
use crate::error::{Error, ErrorKind};

const SCHEME: &str = "Bearer ";

/// A token as an issuer handed it out: the secret, checked, and how long it lives.
///
/// The secret is copied once, into the header value that goes out; that buffer is wiped when its last copy is dropped.
#[derive(Clone)]
pub struct IssuedToken {
    header: HeaderValue,
    lifetime: Option<Duration>,
    /// Which token source asked for it; 0 before one has it.
    source: u64,
    /// How often that source's credentials had been rotated when it asked.
    rotation: u64,
}

impl IssuedToken {
    /// Takes a bearer token, as it stands after `Bearer ` in the header.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`], transient, where the token is empty or has a character outside of RFC 6750
    /// section 2.1: `A-Z a-z 0-9 - . _ ~ + /`, then any number of `=`.
    pub fn bearer(secret: impl AsRef<str>) -> Result<Self, Error> {
        let secret = secret.as_ref();
        if !is_b64token(secret) {
            return Err(Error::new(
                ErrorKind::MalformedResponse,
                "the access token is empty or has a character that a bearer token may not have (RFC 6750 section 2.1)",
            ));
        }
        // Sized exactly: a buffer that grows leaves unwiped copies behind.
        let mut value = Zeroizing::new(Vec::with_capacity(SCHEME.len() + secret.len()));
        value.extend_from_slice(SCHEME.as_bytes());
        value.extend_from_slice(secret.as_bytes());
        let Ok(mut header) = HeaderValue::from_maybe_shared(Bytes::from_owner(value)) else {
            return Err(Error::new(ErrorKind::MalformedResponse, "the access token does not fit into a header"));
        };
        header.set_sensitive(true);
        Ok(Self { header, lifetime: None, source: 0, rotation: 0 })
    }

    /// Sets how long the token lives, counted from the moment at which it was asked for.
    ///
    /// Without it the token is held to live for 5 minutes (RFC 6749 section 5.1 only recommends `expires_in`). Less than
    /// a second counts as one second, more than 24 hours as 24 hours.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    pub(crate) fn for_source(self, source: u64, rotation: u64) -> Self {
        Self { source, rotation, ..self }
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

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// When a token is renewed, when it is no longer stamped, and when its issuer says that it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) began: Now,
    pub(crate) refresh: Option<Now>,
    pub(crate) usable: Now,
    pub(crate) nominal: Now,
}

/// A token in the cache: the header value, built once, with its generation and its deadlines.
///
/// Cloning shares it.
#[derive(Clone)]
pub struct Token {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    header: HeaderValue,
    source: u64,
    rotation: u64,
    generation: u64,
    deadlines: Deadlines,
    /// The earlier of the window's beginning and the usable end, by each clock.
    fresh_until: Now,
    late: bool,
    accepted: AtomicBool,
    refused: AtomicBool,
}

/// A token's one buffer, for a header value with a count of its own.
struct HeaderBytes(Arc<Inner>);

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.header.as_bytes()
    }
}

impl Token {
    pub(crate) fn new(issued: IssuedToken, generation: u64, deadlines: Deadlines, late: bool) -> Self {
        let IssuedToken { header, lifetime: _, source, rotation } = issued;
        let Deadlines { refresh, usable, .. } = deadlines;
        let fresh_until = refresh.map_or(usable, |refresh| refresh.earlier(usable));
        let (accepted, refused) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            inner: Arc::new(Inner {
                header,
                source,
                rotation,
                generation,
                deadlines,
                fresh_until,
                late,
                accepted,
                refused,
            }),
        }
    }

    /// The value for the `Authorization` header: `Bearer` and the token, marked sensitive.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.inner.header
    }

    /// The same bytes, counted apart from [`header_value`](Self::header_value).
    pub(crate) fn header_value_of_its_own(&self) -> HeaderValue {
        let bytes = Bytes::from_owner(HeaderBytes(Arc::clone(&self.inner)));
        let Ok(mut header) = HeaderValue::from_maybe_shared(bytes) else {
            return self.inner.header.clone();
        };
        header.set_sensitive(true);
        header
    }

    /// The token itself. Whoever calls this keeps it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        let bytes = self.inner.header.as_bytes().get(SCHEME.len()..).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Which token this is. Numbers are given out in the order in which tokens arrive, and are unique in a source.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// When the issuer says that the token ends. It is no longer stamped from a margin before that.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.inner.deadlines.nominal.wall
    }

    pub(crate) fn source(&self) -> u64 {
        self.inner.source
    }

    /// How often its source's credentials had been rotated when it was asked for.
    pub(crate) fn rotation(&self) -> u64 {
        self.inner.rotation
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.inner.deadlines
    }

    /// Up to here the token is stamped without asking the slot.
    pub(crate) fn fresh_until(&self) -> &Now {
        &self.inner.fresh_until
    }

    /// Whether the token landed so late that it may serve the waiters of its flight and no one else.
    pub(crate) fn is_late(&self) -> bool {
        self.inner.late
    }

    pub(crate) fn accept(&self) {
        // Read first: in the steady state nothing is written.
        if !self.is_accepted() {
            self.inner.accepted.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_accepted(&self) -> bool {
        self.inner.accepted.load(Ordering::Relaxed)
    }

    /// Whether this refusal is the first of the token.
    pub(crate) fn refused_first(&self) -> bool {
        !self.inner.refused.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.inner.generation)
            .field("expires_at", &self.inner.deadlines.nominal.wall)
            .finish_non_exhaustive()
    }
}
