//! What a store implements.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;

/// A store that processes share: Redis, a database, or [`MemoryStore`](super::MemoryStore).
///
/// For each name it has a token, a note and a lease, and each of them may be missing. A token and a note are bytes with a
/// version and an expiry. A note says why there is no new token, for example that the issuer failed. Other processes adopt it
/// until it expires. A lease has an owner and an expiry. A name is a string of 43 characters from `A-Z a-z 0-9 - _`. Owners and
/// versions are 16 random bytes.
///
/// The store sees no secret: names are keyed hashes, and bytes are sealed. It does not interpret either.
///
/// Run [`contract::run`](super::contract::run) in the tests of an implementation. [`Shared`](super::Shared) limits each call
/// to 500 ms, catches its panics, and drops its future when a fetch is cancelled. An implementation that reconnects does so
/// within the call.
pub trait TokenStore: Send + Sync + 'static {
    /// Reads the token, or gets the lease, in one atomic step. Returns the first of these that applies:
    ///
    /// 1. [`Claim::Token`] if there is a token, and `seen` is neither its version nor that of the note beside it.
    /// 2. [`Claim::Note`] if there is a note, and `seen` is not its version.
    /// 3. [`Claim::Lease`] if no other owner holds the lease. `owner` holds it from now on, for `ttl`. If `owner` held it
    ///    already, it is renewed.
    /// 4. [`Claim::Wait`], with the time for which another owner still holds the lease.
    ///
    /// # Errors
    ///
    /// The store is unavailable. The call may be carried out nevertheless, also later.
    fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Stores `outcome` and releases the lease, in one atomic step. Does nothing and returns `false` if `owner` does not hold
    /// the lease.
    ///
    /// A token replaces the token and removes the note. A note replaces the note, and leaves the token in place.
    ///
    /// # Errors
    ///
    /// The store is unavailable. The call may be carried out nevertheless, also later.
    fn publish(
        &self,
        name: &str,
        owner: &[u8; 16],
        outcome: Outcome<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

impl<S: TokenStore> TokenStore for Arc<S> {
    fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send {
        S::claim(self, name, owner, ttl, seen)
    }

    fn publish(
        &self,
        name: &str,
        owner: &[u8; 16],
        outcome: Outcome<'_>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::publish(self, name, owner, outcome)
    }
}

/// What [`TokenStore::claim`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The token.
    Token(Stored),
    /// The note.
    Note(Stored),
    /// The caller holds the lease.
    Lease,
    /// Another owner holds the lease, for this long. It may be rounded down to whole seconds.
    Wait(Duration),
}

/// A token or a note in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// The version that was stored with it.
    pub version: [u8; 16],
    /// The bytes that were stored.
    pub bytes: Vec<u8>,
    /// The time until it expires, by the clock of the store. It may be rounded down, to whole seconds at most. A store that
    /// rounds up makes tokens look younger than they are.
    ///
    /// `Duration::MAX` if it has no expiry, for example because an operator removed it. Such a record is invalid and is not
    /// used.
    pub left: Duration,
}

/// What [`TokenStore::publish`] stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A token.
    Token {
        /// Its version.
        version: [u8; 16],
        /// Its bytes.
        bytes: &'a [u8],
        /// After this time, the store removes it.
        keep: Duration,
    },
    /// A note.
    Note {
        /// Its version.
        version: [u8; 16],
        /// Its bytes.
        bytes: &'a [u8],
        /// After this time, the store removes it.
        keep: Duration,
    },
    /// Nothing: the lease is released.
    Nothing,
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes, keep) = match self {
            Self::Token { bytes, keep, .. } => ("Token", bytes, keep),
            Self::Note { bytes, keep, .. } => ("Note", bytes, keep),
            Self::Nothing => return f.write_str("Nothing"),
        };
        f.debug_struct(name).field("bytes", &bytes.len()).field("keep", keep).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("bytes", &self.bytes.len()).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Why a call of a store failed.
///
/// `Display` prints the message, and events contain it. Do not put a secret or the URL of the store into it.
#[derive(Clone)]
pub struct StoreError {
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Sets the cause. Do not pass one that contains a secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StoreError");
        out.field("message", &self.message);
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
