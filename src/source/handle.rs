//! The source as its users hold it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::acquire::TokenWait;
use super::dispatch::{Grant, Lookup};
use super::{Inner, SourceStats, TokenSourceBuilder, TokenStatus};
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::telemetry::{Event, Whose};
use crate::token::Token;

/// A cache of a provider's tokens, in memory only. Cloning shares the cache.
///
/// It makes at most one token request at a time for each key, in a task of its own: a caller that goes away neither
/// stops nor delays it, and all who wait share its outcome, success or failure. Without requests it does nothing.
///
/// It is what [`BearerAuthLayer`](crate::BearerAuthLayer) asks for tokens, and works alone as well:
///
/// ```
/// use tower_bearer_auth::{FixedToken, TokenSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
/// let source = TokenSource::new(FixedToken::new("opaque-token")?);
/// let token = source.token().await?;
/// let request = http::Request::get("https://api.example.com/").header("authorization", token.header_value());
/// # Ok(()) }
/// ```
pub struct TokenSource<P: TokenProvider> {
    pub(super) inner: Arc<Inner<P>>,
}

impl<P: TokenProvider> TokenSource<P> {
    /// A source with the default settings.
    pub fn new(provider: P) -> Self {
        Self::builder(provider).build()
    }

    /// A source with settings of your own.
    pub fn builder(provider: P) -> TokenSourceBuilder<P> {
        TokenSourceBuilder::new(provider)
    }

    /// The token of `key`: at once where there is a usable one, otherwise after the token request that is in the air
    /// or that this call starts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the wait, not the token request.
    ///
    /// # Errors
    ///
    /// The token request's error, the same for all who waited for it. While the issuer is left alone after a failure,
    /// that failure, at once; [`retry_after`](Error::retry_after) is the time until the next try.
    /// [`ErrorKind::Timeout`] past [`max_wait`](TokenSourceBuilder::max_wait), [`ErrorKind::NoRuntime`] outside of a tokio
    /// runtime, [`ErrorKind::Reentrant`] inside of the provider's own `fetch` for this key.
    pub fn token_for(&self, key: &P::Key) -> TokenFuture<P> {
        TokenFuture { acquire: self.wait(key.clone()) }
    }

    /// Makes sure that `key` has a usable token, so that the first request does not wait.
    ///
    /// # Cancel safety
    ///
    /// As [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// As [`token_for`](Self::token_for).
    pub async fn warm_up_for(&self, key: &P::Key) -> Result<(), Error> {
        self.token_for(key).await.map(drop)
    }

    /// The token of `key` if there is a usable one. Never starts a token request.
    #[must_use]
    pub fn peek_for(&self, key: &P::Key) -> Option<Token> {
        self.inner.map.get(key)?.usable(self.inner.clock.now())
    }

    /// Tells the source that the server took `token`. For those who send requests themselves.
    ///
    /// A token of another source stays as it is.
    pub fn accept(&self, token: &Token) {
        if token.source() == self.inner.id {
            token.accept();
        }
    }

    /// Tells the source that the server refused `token` with a 401. For those who send requests themselves.
    ///
    /// A refusal of anything but the current token of this source changes nothing. Otherwise a token request starts, or the
    /// one in the air is joined; if it fails, the token is used again until its end. Returns whether it is worth asking for
    /// a token and sending the request again, once: `false` means that the renewal budget is empty or that the issuer is
    /// being left alone.
    pub fn reject(&self, key: &P::Key, token: &Token) -> bool {
        let entry = self.inner.entry(key, self.inner.clock.now());
        // Generations are unique in one source alone: another source's token may have that of the current one.
        if token.source() != self.inner.id {
            let view = entry.lock().view(self.inner.clock.now());
            return view.usable.is_some() || view.in_air || view.next_try.is_none();
        }
        let grant = Grant { entry, token: token.clone() };
        matches!(
            self.reject_grant(&grant, Rejection::Unspecified, Vec::new(), false),
            Ok(Lookup::Granted(_) | Lookup::Wait(_))
        )
    }

    /// Forgets the token of `key`. A token request in the air becomes stale, and who waits for it moves to a new one.
    ///
    /// No request that begins after this returns is stamped with the token that was current before.
    ///
    /// Not for a 401: each call makes the renewal in the air stale and asks anew, where [`reject`](Self::reject) joins it.
    pub fn invalidate_for(&self, key: &P::Key) {
        if let Some(entry) = self.inner.map.get(key) {
            self.inner.forget(&entry, false);
            self.inner.telemetry.emit(Event::Invalidated { whose: Whose::key(key) });
        }
    }

    /// Says that the credentials have changed: forgets all tokens and failures, and makes token requests in the air
    /// stale.
    ///
    /// No request that begins after this returns is stamped with a token that was asked for with the old credentials,
    /// even if such a token arrives later. Change the credentials first, then call this. What a layer read from its
    /// provider when it was made, an API key say, stays as it is. Called by the provider from within `fetch`, that fetch
    /// counts as one with the new credentials.
    pub fn rotate(&self) {
        self.inner.rotations.fetch_add(1, Ordering::AcqRel);
        self.inner.map.for_each(|entry| self.inner.forget(entry, true));
        self.inner.telemetry.emit(Event::Rotated { keys: self.inner.map.len() });
    }

    /// Where `key` stands, without I/O.
    #[must_use]
    pub fn status_for(&self, key: &P::Key) -> TokenStatus {
        let Some(entry) = self.inner.map.get(key) else {
            return TokenStatus::missing();
        };
        let view = entry.lock().view(self.inner.clock.now());
        TokenStatus::of(&view)
    }

    /// What the source has done so far, over all keys.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        self.inner.stats.snapshot(self.inner.map.len())
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.inner.provider
    }
}

impl<P: TokenProvider<Key = ()>> TokenSource<P> {
    /// [`token_for`](Self::token_for) the one identity there is.
    ///
    /// # Errors
    ///
    /// As [`token_for`](Self::token_for).
    pub fn token(&self) -> TokenFuture<P> {
        self.token_for(&())
    }

    /// [`warm_up_for`](Self::warm_up_for) the one identity there is.
    ///
    /// # Cancel safety
    ///
    /// As [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// As [`token_for`](Self::token_for).
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.warm_up_for(&()).await
    }

    /// [`peek_for`](Self::peek_for) the one identity there is.
    #[must_use]
    pub fn peek(&self) -> Option<Token> {
        self.peek_for(&())
    }

    /// [`invalidate_for`](Self::invalidate_for) the one identity there is.
    pub fn invalidate(&self) {
        self.invalidate_for(&());
    }

    /// [`status_for`](Self::status_for) the one identity there is.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        self.status_for(&())
    }
}

/// The future of a token: [`TokenSource::token`] and [`TokenSource::token_for`]. It borrows nothing.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct TokenFuture<P: TokenProvider> {
    acquire: TokenWait<P>,
}

impl<P: TokenProvider> Future for TokenFuture<P> {
    type Output = Result<Token, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.acquire).poll(cx).map_ok(|grant| grant.token)
    }
}

impl<P: TokenProvider> fmt::Debug for TokenFuture<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFuture").finish_non_exhaustive()
    }
}

impl<P: TokenProvider> Clone for TokenSource<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenSource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("environment", &self.inner.provider.label())
            .field("policy", &self.inner.policy)
            .field("keys", &self.inner.map.len())
            .finish_non_exhaustive()
    }
}
