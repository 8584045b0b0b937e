//! The methods of a source that the layer calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use tokio::runtime;

use super::action::Wanted;
use super::grant::{BudgetExhausted, Grant, Lookup};
use super::handle::TokenSource;
use super::slot::is_fresh;
use super::wait::TokenWait;
use super::waited::Waited;
use crate::clock::next_tick;
use crate::error::ErrorKind;
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::telemetry::{Event, KeyField};
use crate::token::Token;

impl<P: TokenProvider> TokenSource<P> {
    /// The token of `key`, if it is fresh: it is usable, and no refresh is due. This is the cached path.
    // Without inlining this and `Map::get`, `Entry::published_if` and `AnyClock::recent_with_tick`, each request with a key
    // takes 50 instructions more.
    #[inline(always)]
    pub(crate) fn cached(&self, key: &P::Key) -> Option<Grant<P::Key>> {
        let (now, tick) = self.cache.clock.recent_with_tick();
        let entry = self.cache.map.get(key)?;
        let token = entry.fresh(now)?;
        entry.touch(tick.unwrap_or_else(next_tick));
        self.cache.stats.hit();
        Some(Grant { entry, token })
    }

    /// The token of `key`, or what to wait for. Starts a fetch if one is due.
    pub(crate) fn lookup(&self, key: P::Key) -> Lookup<P::Key, TokenWait<P>> {
        match self.cache.lookup(&key, self.cache.any_token()) {
            // The future may be polled in a runtime, even if the caller is outside of one.
            Lookup::Failed(error)
                if error.kind() == ErrorKind::NoRuntime && runtime::Handle::try_current().is_err() =>
            {
                Lookup::Wait(self.wait(key))
            }
            result => result.map_wait(|fetch| TokenWait::joined(Arc::clone(&self.cache), fetch)),
        }
    }

    /// How many fetches have completed, for all keys. The provider may have loaded new API keys in them.
    pub(crate) fn completed_fetches(&self) -> u64 {
        self.cache.generations.load(Ordering::Relaxed)
    }

    /// The future of the token of `key`. The lookup takes place when it is first polled.
    pub(crate) fn wait(&self, key: P::Key) -> TokenWait<P> {
        TokenWait::for_key(Arc::clone(&self.cache), key, Wanted::Usable, false)
    }

    /// Whether a lookup would return `token` again, for a provider with one key. Apart from the hit counter of this
    /// thread, it writes no shared memory.
    pub(crate) fn still_grants(&self, token: &Token) -> bool {
        let Some(entry) = self.cache.map.single() else {
            return false;
        };
        let same = entry.is_current(token) && is_fresh(token, self.cache.clock.recent());
        if same {
            self.cache.stats.hit();
        }
        same
    }

    /// The usable token for a replay: the current one, or the one of `grant` if that may still be sent. Starts no fetch.
    ///
    /// The token of `rejected` can be current again, if a new token and a kept one are tried in turn. The request was
    /// rejected with it, so the replay keeps the other one.
    pub(crate) fn newest(&self, grant: &Grant<P::Key>, rejected: &Grant<P::Key>) -> Option<Grant<P::Key>> {
        let now = self.cache.clock.now();
        let current = self.cache.map.get(grant.key()).and_then(|entry| entry.usable(now));
        let keeps = match current {
            Some(token) if token.generation() != rejected.token.generation() => {
                return Some(Grant { entry: Arc::clone(&grant.entry), token });
            }
            Some(_) => true,
            None => grant.token.is_for_waiters_only(),
        };
        let may_be_sent = !self.cache.is_withdrawn(&grant.token) && !now.reached(&grant.token.deadlines().expires_at);
        (keeps && may_be_sent).then(|| grant.clone())
    }

    /// Whether the credentials were rotated since the fetch of the token of `grant` started.
    pub(crate) fn is_withdrawn(&self, grant: &Grant<P::Key>) -> bool {
        self.cache.is_withdrawn(&grant.token)
    }

    /// The server rejected the token of `grant`. `waited` are the waits of the request so far. If it is `None`, a refresh
    /// starts, and the caller does not wait for it.
    pub(crate) fn reject_grant(
        &self,
        grant: &Grant<P::Key>,
        rejection: Rejection,
        challenges: Vec<HeaderValue>,
        waited: Option<Waited>,
    ) -> Result<Lookup<P::Key, TokenWait<P>>, BudgetExhausted> {
        let max_wait = waited.unwrap_or_default().left_of(self.cache.max_wait);
        let result = self.cache.reject(grant, rejection, challenges, max_wait)?;
        Ok(result.map_wait(|awaited| {
            let cache = Arc::clone(&self.cache);
            // The caller does not poll a future that it does not wait for, so that future must not count as a wait.
            match waited {
                Some(waited) => TokenWait::joined(cache, awaited).after(waited),
                None => TokenWait::for_entry(cache, awaited.entry),
            }
        }))
    }

    pub(crate) fn report_not_stamped(&self, host: &str) {
        self.cache.stats.not_stamped();
        self.cache.telemetry.emit(Event::NotStamped { host });
    }

    pub(crate) fn report_replay(&self) {
        self.cache.stats.record(|stats| stats.replays += 1);
        self.cache.telemetry.emit(Event::Replay);
    }

    /// Reports how the handling of a rejected request ended.
    pub(crate) fn report_outcome(&self, grant: &Grant<P::Key>, outcome: &'static str, error: Option<ErrorKind>) {
        let (key, generation) = (KeyField::new(grant.key()), grant.token().generation());
        self.cache.telemetry.emit(Event::RequestRejected { key, generation, outcome, error });
    }

    /// The server rejected a replay too. That starts no refresh.
    pub(crate) fn report_rejected_again(&self, grant: &Grant<P::Key>, rejection: Rejection) {
        self.cache.reject_replay(grant, rejection);
    }
}
