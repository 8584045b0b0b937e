//! Waiting for a fetch.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::panicking;
use std::time::Duration;

use tokio::time::Sleep;

use super::cache::Cache;
use super::entry::Entry;
use super::fetch_handle::{FetchOutcome, OutcomeReceiver};
use super::grant::{Grant, JoinedFetch, Lookup};
use super::slot::is_usable;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::rt;
use crate::telemetry::Stopwatch;
use crate::token::Token;

/// After this many cancelled fetches that it started, a waiter gives up: its runtime is shutting down.
const MAX_CANCELLED: u8 = 3;

/// The future of a token. It looks the token up, and waits for a fetch if there is none.
///
/// Dropping it does not stop the fetch that it waits for.
#[must_use]
pub(crate) struct TokenWait<P: TokenProvider> {
    cache: Arc<Cache<P>>,
    state: State<P::Key>,
}

enum State<K> {
    /// Not polled yet.
    Start(K, Waited),
    /// Not polled yet; the key has an entry.
    StartWith(Arc<Entry<K>>, Waited),
    Waiting(Waiting<K>),
    Done(Waited),
}

/// For how long a request has waited for tokens, in ms. `max_wait` limits the sum of all waits of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waited(u32);

struct Waiting<K> {
    entry: Arc<Entry<K>>,
    outcome: OutcomeReceiver,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether this waiter started the fetch, in its own runtime.
    started_here: bool,
    /// How many fetches that this waiter started were cancelled.
    cancelled: u8,
    /// The earlier waits of the same request.
    waited: Waited,
    since: Stopwatch,
}

impl<P: TokenProvider> TokenWait<P> {
    pub(super) fn for_key(cache: Arc<Cache<P>>, key: P::Key) -> Self {
        Self { cache, state: State::Start(key, Waited::default()) }
    }

    pub(super) fn for_entry(cache: Arc<Cache<P>>, entry: Arc<Entry<P::Key>>) -> Self {
        Self { cache, state: State::StartWith(entry, Waited::default()) }
    }

    /// Counts earlier waits of the same request toward the limit of this one.
    pub(crate) fn after(mut self, earlier: Waited) -> Self {
        let (State::Start(_, waited) | State::StartWith(_, waited) | State::Done(waited)) = &mut self.state else {
            if let State::Waiting(waiting) = &mut self.state {
                waiting.waited = earlier;
            }
            return self;
        };
        *waited = earlier;
        self
    }

    /// For how long the request has waited, if this wait is over.
    pub(crate) fn waited(&self) -> Waited {
        if let State::Done(waited) = self.state { waited } else { Waited::default() }
    }

    /// Waits for `fetch`. From here on this counts as a wait.
    pub(super) fn joined(cache: Arc<Cache<P>>, fetch: JoinedFetch<P::Key>) -> Self {
        let JoinedFetch { entry, outcome, started_here } = fetch;
        cache.stats.record(|stats| {
            stats.waits += 1;
            stats.waiting += 1;
        });
        let since = Stopwatch::start(|| cache.clock.now().mono);
        let waiting =
            Waiting { entry, outcome, timer: None, started_here, cancelled: 0, waited: Waited::default(), since };
        Self { cache, state: State::Waiting(waiting) }
    }

    /// Takes the result of the first lookup. Returns `None` if there is a fetch to wait for.
    fn start(
        &mut self,
        result: Lookup<P::Key, JoinedFetch<P::Key>>,
        waited: Waited,
    ) -> Option<Result<Grant<P::Key>, Error>> {
        let result = match result {
            Lookup::Granted(grant) => Ok(grant),
            Lookup::Failed(error) => Err(error),
            Lookup::Wait(fetch) => {
                *self = Self::joined(Arc::clone(&self.cache), fetch).after(waited);
                return None;
            }
        };
        self.state = State::Done(waited);
        Some(result)
    }

    fn finish(&mut self, result: Result<Grant<P::Key>, Error>) -> Poll<Result<Grant<P::Key>, Error>> {
        let waited =
            if let State::Waiting(waiting) = &self.state { waiting.waited(&self.cache) } else { Waited::default() };
        let state = std::mem::replace(&mut self.state, State::Done(waited));
        self.cache.stats.record(|stats| {
            stats.waiting -= 1;
            *(if result.is_ok() { &mut stats.waits_served } else { &mut stats.waits_failed }) += 1;
        });
        if let State::Waiting(waiting) = state {
            self.cache.report_wait(if result.is_ok() { "served" } else { "failed" }, &waiting.since);
        }
        Poll::Ready(result)
    }
}

impl Waited {
    /// What is left of `max_wait`.
    fn left_of(self, max_wait: Duration) -> Duration {
        max_wait.saturating_sub(Duration::from_millis(self.0.into()))
    }
}

impl<K> Waiting<K> {
    /// For how long the request has waited until now, in all its waits.
    fn waited<P: TokenProvider<Key = K>>(&self, cache: &Cache<P>) -> Waited {
        // Without a timer, the wait ended at its first poll.
        let Some(timer) = &self.timer else { return self.waited };
        let left = clock::until_timer(timer.deadline());
        let all = cache.max_wait.saturating_sub(left).as_millis();
        Waited(u32::try_from(all).unwrap_or(u32::MAX).max(self.waited.0))
    }

    /// Whether this waiter may use the token that its fetch returned.
    fn may_use<P: TokenProvider<Key = K>>(&self, token: &Token, cache: &Cache<P>) -> bool {
        let now = cache.clock.now();
        if cache.is_withdrawn(token) {
            false
        } else if token.is_for_waiters_only() {
            !now.reached(&token.deadlines().expires_at)
        } else {
            is_usable(token, now) && self.entry.is_current(token)
        }
    }
}

// No field is pinned.
impl<P: TokenProvider> Unpin for TokenWait<P> {}

impl<P: TokenProvider> Future for TokenWait<P> {
    type Output = Result<Grant<P::Key>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let started = match &this.state {
            State::Start(key, waited) => {
                let (result, waited) = (this.cache.lookup(key), *waited);
                this.start(result, waited)
            }
            State::StartWith(entry, waited) => {
                let (result, waited) = (this.cache.lookup(&entry.key), *waited);
                this.start(result, waited)
            }
            State::Waiting(_) => None,
            State::Done(_) => panic!("the future of a token was polled after it had completed"),
        };
        if let Some(result) = started {
            return Poll::Ready(result);
        }
        loop {
            let State::Waiting(waiting) = &mut this.state else {
                return Poll::Pending;
            };
            match waiting.outcome.poll(cx) {
                Poll::Ready(Some(FetchOutcome::Completed(Ok(token)))) => {
                    if waiting.may_use(&token, &this.cache) {
                        let entry = Arc::clone(&waiting.entry);
                        return this.finish(Ok(Grant { entry, token }));
                    }
                }
                Poll::Ready(Some(FetchOutcome::Completed(Err(error)))) => return this.finish(Err(error)),
                Poll::Ready(Some(FetchOutcome::Discarded)) => {}
                Poll::Ready(None) => waiting.cancelled += u8::from(waiting.started_here),
                Poll::Pending => {
                    let limit = waiting.waited.left_of(this.cache.max_wait);
                    if !rt::has_passed(&mut waiting.timer, limit, cx).unwrap_or(false) {
                        return Poll::Pending;
                    }
                    return this.finish(Err(Error::new(ErrorKind::Timeout, "no token arrived in time")
                        .with_hint("the token request continues; a later call may get its token")));
                }
            }
            if waiting.cancelled >= MAX_CANCELLED {
                return this.finish(Err(Error::new(ErrorKind::NoRuntime, "the tokio runtime is shutting down")
                    .with_hint("send the request from a runtime that keeps running")));
            }
            match this.cache.lookup_again(Arc::clone(&waiting.entry)) {
                Lookup::Granted(grant) => return this.finish(Ok(grant)),
                Lookup::Failed(error) => return this.finish(Err(error)),
                Lookup::Wait(JoinedFetch { entry, outcome, started_here }) => {
                    waiting.entry = entry;
                    waiting.outcome = outcome;
                    waiting.started_here = started_here;
                }
            }
        }
    }
}

impl<P: TokenProvider> Drop for TokenWait<P> {
    fn drop(&mut self) {
        if let State::Waiting(waiting) = &self.state {
            self.cache.stats.record(|stats| {
                stats.waiting -= 1;
                stats.waits_abandoned += 1;
            });
            // If a subscriber panicked while another panic unwinds, the process would abort.
            if !panicking() {
                self.cache.report_wait("abandoned", &waiting.since);
            }
        }
    }
}
