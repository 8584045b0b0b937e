//! The public methods of a source.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::action::Wanted;
use super::cache::Cache;
use super::grant::{Grant, Lookup};
use super::lookup::Purpose;
use super::report::Refresh;
use super::stats::SourceStats;
use super::status::TokenStatus;
use super::wait::TokenWait;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::telemetry::{Event, KeyField};
use crate::token::Token;

/// A cache of the tokens of one provider, in memory. Cloning is cheap and shares the cache.
///
/// For each key, at most one fetch is running (single flight). It runs in a task of its own, so a caller that goes
/// away neither stops nor delays it. All callers that wait for it get its result, a token or an error. A source has no
/// background task and no timer: without requests it does nothing.
///
/// [`BearerAuthLayer`](crate::BearerAuthLayer) takes its tokens from a source. A source also works without a layer:
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
///
/// Code that sends requests itself calls [`accept`](Self::accept) after a success and [`reject`](Self::reject) after a
/// 401.
#[doc(alias = "token cache")]
#[doc(alias = "oauth2")]
#[doc(alias = "single flight")]
pub struct TokenSource<P: TokenProvider> {
    pub(super) cache: Arc<Cache<P>>,
}

impl<P: TokenProvider> TokenSource<P> {
    /// Returns the token of `key`.
    ///
    /// A usable token in the cache is returned at once. Otherwise the future waits for the running fetch, or starts
    /// one. After a transient failure of that fetch, the future waits for the next one within
    /// [`patience`](crate::TokenSourceBuilder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait. The fetch continues, and a later call gets its token.
    ///
    /// # Errors
    ///
    /// - The error of the fetch. All callers that waited for the fetch get the same error, unless they wait for the next
    ///   one.
    /// - During a backoff that is longer than [`patience`](crate::TokenSourceBuilder::patience) allows, the error of the last
    ///   fetch, at once. [`Error::retry_after`] is the time until the next fetch may start.
    /// - [`ErrorKind::Timeout`] after [`max_wait`](crate::TokenSourceBuilder::max_wait).
    /// - [`ErrorKind::NoRuntime`] if a fetch is due outside of a tokio runtime, or in a runtime without timers.
    /// - [`ErrorKind::Reentrant`] in the provider's own `fetch` for this key.
    ///
    /// # Panics
    ///
    /// The future panics if it is polled after it has completed.
    pub fn token_for(&self, key: &P::Key) -> TokenFuture<P> {
        self.token_wanted(key, Wanted::Usable, false)
    }

    fn token_wanted(&self, key: &P::Key, wanted: Wanted, warm_up: bool) -> TokenFuture<P> {
        TokenFuture { wait: TokenWait::for_key(Arc::clone(&self.cache), key.clone(), wanted, warm_up) }
    }

    /// Starts a fetch for `key` at its first poll, and returns the token of that fetch. Requests are stamped with the old token
    /// while the fetch runs.
    ///
    /// This method starts at most one fetch in 10 seconds for one key. Within that time, it returns the cached token, even if
    /// that fetch failed. Later, during a backoff, it starts no fetch and returns the error. If a fetch is running, it waits for
    /// that one instead.
    ///
    /// If a server rejects the new token while it does not know it yet, requests are stamped with the old one for a while.
    ///
    /// Call it after the permissions of the client have changed, for example. Do not call it after a 401: call
    /// [`reject`](Self::reject).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// The same as for [`token_for`](Self::token_for), but there is no wait for a second fetch while there is a usable token.
    /// After an error, requests are still stamped with the old token until it expires.
    ///
    /// # Panics
    ///
    /// The same as for [`token_for`](Self::token_for).
    pub fn refresh(&self, key: &P::Key) -> TokenFuture<P> {
        self.token_wanted(key, Wanted::Refreshed, false)
    }

    /// Returns a token of `key` that expires no sooner than `time` from now, by [`Token::expires_at`]. If the cached token
    /// expires sooner, this fetches one as [`refresh`](Self::refresh) does, with a limit of its own of one fetch in 10 seconds.
    /// A `time` of zero is the same as [`token_for`](Self::token_for).
    ///
    /// `Ok` does not guarantee `time`: compare [`Token::expires_at`]. The new token may expire sooner too. Within 10 seconds of
    /// a fetch that this method started for the key, it returns the cached token, even if that fetch failed. Later, during a
    /// backoff, it returns the error.
    ///
    /// Call it before work that uses one token for a long time, for example an upload or a job that gets the token as a
    /// file. [The guide](crate::guide::refresh) has an example.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// The same as for [`refresh`](Self::refresh).
    ///
    /// # Panics
    ///
    /// The same as for [`token_for`](Self::token_for).
    pub fn token_valid_for(&self, key: &P::Key, time: Duration) -> TokenFuture<P> {
        self.token_wanted(key, Wanted::ValidFor(time), false)
    }

    /// Fetches a token for `key` if there is no usable one. Call it at startup, so that the first request does not
    /// wait.
    ///
    /// It waits through the backoffs of transient failures for all of [`max_wait`](crate::TokenSourceBuilder::max_wait). A
    /// permanent failure or a panic ends it at once.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// The same as for [`token_for`](Self::token_for).
    pub async fn warm_up_for(&self, key: &P::Key) -> Result<(), Error> {
        self.token_wanted(key, Wanted::Usable, true).await.map(drop)
    }

    /// Starts a fetch for `key` if one is due, and returns the state of the key without a wait.
    ///
    /// Use it for a readiness probe. Only requests start fetches, and a service that is not ready gets no requests. With this
    /// method the first probe starts the first fetch, and a later one finds a token. The same holds after the token has
    /// expired.
    ///
    /// During a backoff and outside of a tokio runtime it starts no fetch.
    ///
    /// It is also not ready while a rejected token is set aside, at most 5 s. Let a probe fail several times before the
    /// replica is removed.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_bearer_auth::{TokenProvider, TokenSource};
    ///
    /// fn readiness<P: TokenProvider<Key = ()>>(source: &TokenSource<P>) -> StatusCode {
    ///     if source.check_ready(&()).is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    /// }
    /// # use tower_bearer_auth::FixedToken;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
    /// # let source = TokenSource::new(FixedToken::new("opaque-token")?);
    /// # assert_eq!(readiness(&source), 503);
    /// # source.warm_up().await?;
    /// # assert_eq!(readiness(&source), 200);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn check_ready(&self, key: &P::Key) -> TokenStatus {
        let now = self.cache.clock.now();
        let entry = self.cache.entry(key);
        drop(self.cache.lookup_in_slot(entry, self.cache.any_token(), now, Purpose::Probe));
        self.status_for(key)
    }

    /// Returns the usable token of `key`, if there is one in the cache. Never starts a fetch. A token that is set aside after
    /// a rejection is not usable.
    #[must_use]
    pub fn peek_for(&self, key: &P::Key) -> Option<Token> {
        self.cache.map.get(key)?.usable(self.cache.clock.now())
    }

    /// Reports that a server accepted `token`, with a 2xx or a 304. The layer does this itself; call it if you send requests
    /// yourself.
    ///
    /// A rejection of an accepted token costs one sixth of the key's budget for refreshes. A rejection of a token that
    /// no server has accepted costs all of it.
    ///
    /// A token of another source does not change.
    pub fn accept(&self, token: &Token) {
        if token.source_id() == self.cache.id {
            token.accept();
        }
    }

    /// Reports that a server rejected `token` with a 401. The layer does this itself; call it if you send requests
    /// yourself.
    ///
    /// Returns whether to replay the request, once, with a token from [`token_for`](Self::token_for).
    ///
    /// If `token` is the current token of `key`, a fetch starts, or the rejection joins the running one. Meanwhile the token is
    /// set aside: nothing is stamped with it. That lasts at most three times as long as the last successful fetch of the
    /// source took, within 1 to 5 s. The token is used again when that time is over, or when the fetch fails, is cancelled or
    /// returns a rejected token. So [`token_for`](Self::token_for) may return the rejected token again: do not send a request
    /// more than twice.
    ///
    /// The result is `true`, except in these cases, in which no fetch starts and the token stays: the budget for
    /// refreshes is empty; the source is in a backoff that a rejection does not end; the tokens of `key` are rejected and
    /// accepted in turn, and no fetch is due; or there is no tokio runtime with timers. A rejection ends a transient
    /// backoff once per token, after its `Retry-After`, and never a permanent one.
    ///
    /// If `token` replaced a token that is kept because some servers may not know the new one yet, or if it is that kept
    /// token, the other one becomes current. Then no fetch starts, and the result is `true`.
    ///
    /// In every other case the token stays as it is and no fetch starts: the token was replaced already, it belongs to
    /// another key or source, or `key` has no token. The result is then `true` if [`token_for`](Self::token_for) can
    /// return a token: there is a usable one, a fetch is running, or a fetch may start now.
    ///
    /// After three rejections without an acceptance between them, the state is
    /// [`TokenState::Rejected`](crate::TokenState::Rejected).
    ///
    /// A rejection of a token of this source is counted in [`SourceStats::rejections`].
    ///
    /// ```
    /// use tower_bearer_auth::{FixedToken, TokenSource};
    ///
    /// # async fn send(token: &tower_bearer_auth::Token) -> http::StatusCode { http::StatusCode::OK }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let source = TokenSource::new(FixedToken::new("opaque-token")?);
    /// let mut token = source.token().await?;
    /// let mut status = send(&token).await;
    /// if status == http::StatusCode::UNAUTHORIZED && source.reject(&(), &token) {
    ///     token = source.token().await?;
    ///     status = send(&token).await;
    /// }
    /// if status.is_success() {
    ///     source.accept(&token);
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "401")]
    #[doc(alias = "retry")]
    pub fn reject(&self, key: &P::Key, token: &Token) -> bool {
        let Some(entry) = self.cache.entry_of(key, token) else {
            let now = self.cache.clock.now();
            let outlook = self.cache.outlook(key, now);
            if token.source_id() == self.cache.id {
                self.cache.report_rejection(key, token, Rejection::Unspecified, token.is_accepted(), outlook, now);
            }
            return outlook != Refresh::Failed;
        };
        let grant = Grant { entry, token: token.clone() };
        let result = self.cache.reject(&grant, Rejection::Unspecified, Vec::new(), self.cache.max_wait);
        matches!(result, Ok(Lookup::Granted(_) | Lookup::Wait(_)))
    }

    /// Removes the token of `key`. A request that starts after this call returns is not stamped with a token from before
    /// it.
    ///
    /// A running fetch continues. It serves the callers that have waited for it since before this call, and its token is not
    /// cached. Later callers wait for the next fetch, which starts when the running one has ended. The fetches that this
    /// method causes start at most once a second per key.
    ///
    /// This ends a transient backoff, at most once a second, but not one with a `Retry-After`, and not the one after a
    /// permanent failure: [`rotate`](Self::rotate) ends those.
    ///
    /// If the issuer returns a token that a server has rejected, the fetch fails. This ends at the `usable_until` of that
    /// token. [`rotate`](Self::rotate) ends it at once.
    ///
    /// Do not call it after a 401. Call [`reject`](Self::reject), which joins the running fetch.
    pub fn invalidate_for(&self, key: &P::Key) {
        if let Some(entry) = self.cache.map.get(key) {
            let now = self.cache.clock.now();
            drop(self.cache.forget(&entry, false, now));
            self.cache.telemetry.emit(Event::Invalidated { key: KeyField::new(key) });
        }
    }

    /// Removes all tokens, ends all backoffs, and discards all running fetches. Call this after the credentials have changed.
    ///
    /// A request that starts after this call returns is not stamped with a token that was fetched with the old
    /// credentials, even if such a token arrives later. The waiters of a discarded fetch wait for a new one, which starts when
    /// the discarded one has ended.
    ///
    /// Within a second of the call before, and while a fetch that a call caused is running, this acts on a key like
    /// [`invalidate_for`](Self::invalidate_for): it removes the token and discards no fetch. The rest takes effect at the first
    /// request for the key after that second, when no such fetch is running.
    ///
    /// What a layer read from its provider when it was created, for example an API key, does not change. If the
    /// provider calls this in its `fetch`, that fetch counts as one with the new credentials.
    pub fn rotate(&self) {
        self.cache.rotate();
    }

    /// Returns the state of `key`. It does no I/O and starts no fetch. For a readiness probe use
    /// [`check_ready`](Self::check_ready).
    #[must_use]
    pub fn status_for(&self, key: &P::Key) -> TokenStatus {
        let Some(entry) = self.cache.map.get(key) else {
            return TokenStatus::missing();
        };
        let now = self.cache.clock.now();
        let mut slot = entry.lock();
        let view = slot.view(now);
        entry.publish(&slot, now);
        drop(slot);
        TokenStatus::of(&view)
    }

    /// Returns the counters of the source, over all keys.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        self.cache.stats.snapshot(self.cache.map.len())
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &P {
        &self.cache.provider
    }
}

/// For a provider with one identity.
impl<P: TokenProvider<Key = ()>> TokenSource<P> {
    /// Returns the token. See [`token_for`](Self::token_for).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Panics
    ///
    /// The same as for [`token_for`](Self::token_for).
    pub fn token(&self) -> TokenFuture<P> {
        self.token_for(&())
    }

    /// Fetches a token if there is no usable one. See [`warm_up_for`](Self::warm_up_for).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`token_for`](Self::token_for).
    ///
    /// # Errors
    ///
    /// The same as for [`token_for`](Self::token_for).
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.warm_up_for(&()).await
    }

    /// Returns the usable token, if there is one in the cache. See [`peek_for`](Self::peek_for).
    #[must_use]
    pub fn peek(&self) -> Option<Token> {
        self.peek_for(&())
    }

    /// Removes the token. See [`invalidate_for`](Self::invalidate_for).
    pub fn invalidate(&self) {
        self.invalidate_for(&());
    }

    /// Returns the state. See [`status_for`](Self::status_for).
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        self.status_for(&())
    }
}

/// The future that [`TokenSource::token`] and [`TokenSource::token_for`] return. It borrows nothing.
///
/// # Panics
///
/// It panics if it is polled after it has completed.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct TokenFuture<P: TokenProvider> {
    wait: TokenWait<P>,
}

impl<P: TokenProvider> Future for TokenFuture<P> {
    type Output = Result<Token, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.wait.take_cached() {
            Some(token) => Poll::Ready(Ok(token)),
            None => Pin::new(&mut self.wait).poll(cx).map_ok(|grant| grant.token),
        }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenFuture<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFuture").finish_non_exhaustive()
    }
}

impl<P: TokenProvider> Clone for TokenSource<P> {
    fn clone(&self) -> Self {
        Self { cache: Arc::clone(&self.cache) }
    }
}

impl<P: TokenProvider> fmt::Debug for TokenSource<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("provider", &self.cache.provider.label())
            .field("policy", &self.cache.policy)
            .field("keys", &self.cache.map.len())
            .finish_non_exhaustive()
    }
}
