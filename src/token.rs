//! What a provider returns, and what the cache stores.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::Now;
use crate::error::{ConfigError, Error, ErrorKind};

const BEARER: &str = "Bearer";

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
    /// How many bytes of the header precede the secret.
    prefix: u8,
    lifetime: Option<Duration>,
    expires_at: Option<SystemTime>,
    /// How long the token had lived when it arrived. `None`: since its fetch began.
    age: Option<Duration>,
    #[cfg(feature = "shared")]
    from_store: bool,
    /// The id of the token source that fetched the token. 0 until the fetch completes.
    source_id: u64,
    /// How many times that source had rotated its credentials when the fetch started.
    rotation: u64,
}

impl IssuedToken {
    /// A bearer token of unknown lifetime. `secret` is the part of the header value after `Bearer `.
    ///
    /// Set the lifetime with [`expires_in`](Self::expires_in) or [`expires_at`](Self::expires_at).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedResponse`], permanent, if the token is empty or contains a character other than visible ASCII
    /// (0x21 to 0x7E). The error names the kind of the character, and not the token. RFC 6750 section 2.1 allows fewer
    /// characters, but issuers use others: `!`, `|`, `:` and `%` for example.
    pub fn bearer(secret: impl AsRef<str>) -> Result<Self, Error> {
        Self::new(BEARER, secret.as_ref())
    }

    /// A token that is the whole header value, for an API that wants no scheme. The lifetime is unknown.
    ///
    /// # Errors
    ///
    /// As [`bearer`](Self::bearer).
    pub fn raw(value: impl AsRef<str>) -> Result<Self, Error> {
        Self::new("", value.as_ref())
    }

    /// A token for an API that wants another scheme than `Bearer`: the header value is `scheme`, a space and `secret`. The
    /// lifetime is unknown.
    ///
    /// ```
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// use tower_bearer_auth::IssuedToken;
    ///
    /// let token = IssuedToken::with_scheme("Token", "0123456789")?;
    /// assert_eq!(token.expose_secret(), "0123456789");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`bearer`](Self::bearer), and [`ErrorKind::Config`] if the scheme is not a token of 1 to 64 characters (RFC 9110
    /// sections 5.6.2 and 11.1).
    pub fn with_scheme(scheme: &str, secret: impl AsRef<str>) -> Result<Self, Error> {
        if !is_scheme(scheme) {
            return Err(ConfigError::new("scheme", "it is not the name of an authentication scheme")
                .with_hint("set one word, for example `Token`, and pass the secret separately")
                .into());
        }
        Self::new(scheme, secret.as_ref())
    }

    fn new(scheme: &str, secret: &str) -> Result<Self, Error> {
        check(secret)?;
        let prefix = if scheme.is_empty() { 0 } else { scheme.len() + 1 };
        // The exact capacity matters: a buffer that grows leaves copies that are not wiped.
        let mut value = Zeroizing::new(Vec::with_capacity(prefix + secret.len()));
        if prefix > 0 {
            value.extend_from_slice(scheme.as_bytes());
            value.push(b' ');
        }
        value.extend_from_slice(secret.as_bytes());
        let (Ok(mut header), Ok(prefix)) =
            (HeaderValue::from_maybe_shared(Bytes::from_owner(value)), prefix.try_into())
        else {
            return Err(unusable("does not fit into a header"));
        };
        header.set_sensitive(true);
        Ok(Self {
            header,
            prefix,
            lifetime: None,
            expires_at: None,
            age: None,
            #[cfg(feature = "shared")]
            from_store: false,
            source_id: 0,
            rotation: 0,
        })
    }

    /// Sets the lifetime, counted from the start of the fetch. This is `expires_in` of RFC 6749 section 5.1.
    ///
    /// Without this, or with a lifetime of zero, the source assumes 5 minutes: RFC 6749 only recommends `expires_in`, and
    /// zero means "never" at some issuers. The source raises any other lifetime below 1 second to 1 second, and lowers one
    /// above 24 hours to 24 hours.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), expires_at: None, ..self }
    }

    /// Sets the time at which the token expires, for an issuer that returns an instant (`expires_on`) in place of a
    /// lifetime. It replaces [`expires_in`](Self::expires_in).
    ///
    /// The source computes the lifetime with its own wall clock. If the instant has passed when the token arrives, the fetch
    /// fails with a transient error. Prefer a lifetime if the issuer returns both, because its clock and this machine's may
    /// differ.
    #[must_use]
    pub fn expires_at(self, instant: SystemTime) -> Self {
        Self { lifetime: None, expires_at: Some(instant), ..self }
    }

    /// Sets how long the token has lived when [`fetch`](crate::TokenProvider::fetch) returns it.
    ///
    /// Without this, the source counts the lifetime from the moment at which the fetch began. Set it in a provider that
    /// returns tokens from a store, or that waits before it calls the issuer. If the source's refresh window for the token
    /// has begun already, the next request starts a refresh. A token as old as its lifetime has expired, and the fetch fails
    /// with a transient error.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer_auth::IssuedToken;
    ///
    /// let token = IssuedToken::bearer("from-a-store")?
    ///     .expires_in(Duration::from_secs(1800))
    ///     .with_age(Duration::from_secs(600));
    /// # drop(token);
    /// # Ok::<(), tower_bearer_auth::Error>(())
    /// ```
    #[must_use]
    pub fn with_age(self, age: Duration) -> Self {
        Self { age: Some(age), ..self }
    }

    /// The lifetime that [`expires_in`](Self::expires_in) set, unchanged. `None` if [`expires_at`](Self::expires_at) set an
    /// instant.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The token without its scheme. Keep it out of logs.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        secret_of(&self.header, self.prefix)
    }

    /// When the token was minted: [`with_age`](Self::with_age) before `arrived`, or when the fetch began.
    pub(crate) fn minted_at(&self, started: Now, arrived: Now) -> Now {
        self.age.map_or(started, |age| arrived.before(age))
    }

    /// Records that the token came from a shared store.
    #[cfg(feature = "shared")]
    pub(crate) fn from_store(self) -> Self {
        Self { from_store: true, ..self }
    }

    /// How long the token had lived when it arrived, if the provider states it.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.age
    }

    /// Sets the lifetime, unless a lifetime or an instant is set.
    #[cfg(feature = "token-endpoint")]
    pub(crate) fn or_expires_in(self, lifetime: Option<Duration>) -> Self {
        match (self.lifetime, self.expires_at, lifetime) {
            (None, None, Some(lifetime)) => self.expires_in(lifetime),
            _ => self,
        }
    }

    /// Replaces the instant of [`expires_at`](Self::expires_at) by a lifetime from the moment at which the token was minted.
    ///
    /// # Errors
    ///
    /// A transient error if the instant has passed.
    pub(crate) fn with_lifetime_since(self, minted: Now, arrived: Now) -> Result<Self, Error> {
        let Some(instant) = self.expires_at else {
            return Ok(self);
        };
        // By the wall clock at the arrival, so that it does not matter if that clock was set during the fetch.
        match instant.duration_since(arrived.wall) {
            Ok(left) => {
                let took = arrived.mono.saturating_duration_since(minted.mono);
                Ok(self.expires_in(left.saturating_add(took)))
            }
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "the token had expired when it arrived")
                .with_hint("compare the clock of this machine with that of the issuer")),
        }
    }

    pub(crate) fn for_source(self, source_id: u64, rotation: u64) -> Self {
        Self { source_id, rotation, ..self }
    }

    /// The header value, and how many of its bytes precede the secret.
    #[cfg(feature = "shared")]
    pub(crate) fn parts(&self) -> (&HeaderValue, u8) {
        (&self.header, self.prefix)
    }

    /// The reverse of [`parts`](Self::parts). The value is copied.
    #[cfg(feature = "shared")]
    pub(crate) fn from_parts(header: &str, prefix: u8) -> Result<Self, Error> {
        match header.split_at_checked(prefix.into()) {
            Some((scheme, secret)) if prefix > 0 => Self::with_scheme(scheme.trim_end(), secret),
            _ => Self::raw(header),
        }
    }

    pub(crate) fn same_secret(&self, token: &Token) -> bool {
        self.header == token.inner.header
    }
}

fn check(secret: &str) -> Result<(), Error> {
    let what = match secret.chars().find(|c| !c.is_ascii_graphic()) {
        _ if secret.is_empty() => "is empty",
        None => return Ok(()),
        Some(' ') => "contains a space",
        Some(c) if c.is_control() => "contains a control character",
        Some(_) => "contains a character that is not ASCII",
    };
    Err(unusable(what))
}

/// A permanent error: the issuer would return such a token again. It does not contain the token.
fn unusable(what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the access token {what}, so no header can contain it"))
        .with_kind(ErrorKind::MalformedResponse)
        .with_hint("a token has visible ASCII characters only; check what the issuer returns")
}

fn is_scheme(scheme: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=64).contains(&scheme.len()) && scheme.bytes().all(is_tchar)
}

fn secret_of(header: &HeaderValue, prefix: u8) -> &str {
    let bytes = header.as_bytes().get(prefix.into()..).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("IssuedToken");
        out.field("lifetime", &self.lifetime);
        if let Some(instant) = &self.expires_at {
            out.field("expires_at", instant);
        }
        out.finish_non_exhaustive()
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
