//! What a provider returns.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{Token, secret_of};
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
    pub(super) header: HeaderValue,
    /// How many bytes of the header precede the secret.
    pub(super) prefix: u8,
    pub(super) lifetime: Option<Duration>,
    pub(super) expires_at: Option<SystemTime>,
    /// How long the token had lived when it arrived. `None`: since its fetch began.
    pub(super) age: Option<Duration>,
    #[cfg(feature = "shared")]
    pub(super) from_store: bool,
    /// The id of the token source that fetched the token. 0 until the fetch completes.
    pub(super) source_id: u64,
    /// How many times that source had rotated its credentials when the fetch started.
    pub(super) rotation: u64,
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
    pub(crate) fn taken_from_store(self) -> Self {
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
