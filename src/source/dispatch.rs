//! From a request for a token, or the refusal of one, to what its slot says must be done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use parking_lot::MutexGuard;
use tokio::runtime;

use super::TokenSource;
use super::acquire::TokenWait;
use super::entry::Entry;
use super::flight::{self, Arrival, Handle};
use super::report::word_for;
use super::slot::{Next, Slot, Verdict, is_fresh};
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::rt;
use crate::telemetry::{Event, Whose};
use crate::token::Token;

/// A token that may be stamped, and as whom.
pub(crate) struct Grant<K> {
    pub(super) entry: Arc<Entry<K>>,
    pub(super) token: Token,
}

/// The result of a lookup. `W` is what a caller without a token waits with.
pub(crate) enum Lookup<K, W> {
    /// There is a token.
    Granted(Grant<K>),
    /// A fetch is in flight.
    Wait(W),
    /// No fetch may start, or none can.
    Failed(Error),
}

/// The budget for refreshes that rejections cause is empty: the token stays.
pub(crate) struct BudgetExhausted;

/// A fetch that a caller can wait for.
pub(super) struct Joined<K> {
    pub(super) entry: Arc<Entry<K>>,
    pub(super) arrival: Arrival,
    /// Whether this caller started the fetch, in its own runtime.
    pub(super) own: bool,
}

impl<P: TokenProvider> TokenSource<P> {
    pub(crate) fn wait(&self, key: P::Key) -> TokenWait<P> {
        TokenWait::start(self.clone(), key)
    }

    /// The token of `key` if it is fresh: usable, and not due for a refresh. This is the cached path.
    pub(crate) fn cached(&self, key: &P::Key) -> Option<Grant<P::Key>> {
        let now = self.inner.clock.now();
        let entry = self.inner.map.get(key)?;
        let token = entry.fresh(now)?;
        entry.touch(now);
        self.inner.stats.hit();
        Some(Grant { entry, token })
    }

    /// The token of `key`, or what to wait for. Starts a fetch if one is due.
    pub(crate) fn lookup(&self, key: P::Key) -> Lookup<P::Key, TokenWait<P>> {
        let now = self.inner.clock.now();
        let entry = self.inner.entry(&key, now);
        match self.enter(entry, now) {
            Lookup::Granted(grant) => Lookup::Granted(grant),
            Lookup::Wait(joined) => Lookup::Wait(TokenWait::waiting(self.clone(), joined)),
            // The caller may be outside of the runtime that polls the future.
            Lookup::Failed(_) if runtime::Handle::try_current().is_err() => Lookup::Wait(self.wait(key)),
            Lookup::Failed(error) => Lookup::Failed(error),
        }
    }

    /// Whether `token`, which was granted before, would be granted again. Nothing that is shared is written, but for one
    /// counter of this thread's.
    pub(crate) fn still_grants(&self, token: &Token) -> bool {
        let Some(entry) = self.inner.map.single() else {
            return false;
        };
        let same = entry.is_current(token) && is_fresh(token, self.inner.clock.now());
        if same {
            self.inner.stats.hit();
        }
        same
    }

    pub(super) fn enter_first(&self, key: &P::Key) -> Lookup<P::Key, Joined<P::Key>> {
        let now = self.inner.clock.now();
        self.enter(self.inner.entry(key, now), now)
    }

    fn enter(&self, entry: Arc<Entry<P::Key>>, now: Now) -> Lookup<P::Key, Joined<P::Key>> {
        let entered = match entry.fresh(now) {
            Some(token) => grant(entry, token, now),
            None => self.enter_slow(entry, now, true),
        };
        if let Lookup::Granted(_) = entered {
            self.inner.stats.hit();
        }
        entered
    }

    /// For who has waited already, and is counted as that alone.
    pub(super) fn enter_again(&self, entry: Arc<Entry<P::Key>>) -> Lookup<P::Key, Joined<P::Key>> {
        let now = self.inner.clock.now();
        self.enter_slow(entry, now, false)
    }

    fn enter_slow(&self, mut entry: Arc<Entry<P::Key>>, now: Now, first: bool) -> Lookup<P::Key, Joined<P::Key>> {
        loop {
            let mut slot = entry.lock();
            if slot.evicted {
                drop(slot);
                entry = self.inner.entry(&entry.key, now);
                continue;
            }
            let stuck = slot.end_stuck_flight(self.inner.longest_flight(), now);
            if stuck.is_some() {
                self.inner.stats.record(|stats| {
                    stats.fetches_in_flight -= 1;
                    stats.fetches_cancelled += 1;
                });
                slot.lose(now);
            }
            // Who finds a stuck flight, or waited for a lost one, starts the next.
            let next = if first && stuck.is_none() { slot.request(now) } else { slot.request_again(now) };
            let failed_fast = first && matches!(next, Next::Fail(_));
            if failed_fast {
                self.inner.stats.record(|stats| stats.failed_fast += 1);
            }
            let entered = self.follow(&entry, slot, next, Vec::new(), now);
            if let (true, Lookup::Failed(error)) = (failed_fast, &entered) {
                self.inner.telemetry.emit(Event::FailedFast { error: error.kind() });
            }
            if let Some(flight) = stuck {
                // Outside of the lock: it wakes whoever waited for it.
                drop(flight);
                self.inner.sweep(now);
                self.inner.telemetry.emit(Event::Lost { whose: Whose::key(&entry.key), reason: "runtime_stuck" });
            }
            return entered;
        }
    }

    /// Does what the slot said, with its lock held on entry.
    fn follow(
        &self,
        entry: &Arc<Entry<P::Key>>,
        slot: MutexGuard<'_, Slot<Handle>>,
        next: Next,
        challenges: Vec<HeaderValue>,
        now: Now,
    ) -> Lookup<P::Key, Joined<P::Key>> {
        match next {
            Next::Stamp(token) => {
                drop(slot);
                grant(Arc::clone(entry), token, now)
            }
            Next::StampAndDepart(token) => {
                if let Ok(runtime) = rt::with_timers() {
                    // Nobody waits for it: the token in hand still works.
                    drop(self.depart(entry, slot, &runtime, challenges, now));
                }
                grant(Arc::clone(entry), token, now)
            }
            Next::Fail(error) => Lookup::Failed(error),
            Next::Join | Next::Depart if flight::is_fetching(entry) => Lookup::Failed(
                Error::new(ErrorKind::Reentrant, "the provider waits for the token that it is fetching")
                    .with_hint("give the provider an HTTP client that this layer does not wrap"),
            ),
            Next::Join | Next::Depart => match (rt::with_timers(), slot.flight()) {
                (Ok(_), Some(flight)) => {
                    Lookup::Wait(Joined { entry: Arc::clone(entry), arrival: flight.handle.arrival(), own: false })
                }
                (Ok(runtime), None) => {
                    let arrival = self.depart(entry, slot, &runtime, challenges, now);
                    Lookup::Wait(Joined { entry: Arc::clone(entry), arrival, own: true })
                }
                (Err(error), _) => {
                    drop(slot);
                    self.inner.sweep(now);
                    Lookup::Failed(error)
                }
            },
        }
    }

    fn depart(
        &self,
        entry: &Arc<Entry<P::Key>>,
        mut slot: MutexGuard<'_, Slot<Handle>>,
        runtime: &runtime::Handle,
        challenges: Vec<HeaderValue>,
        now: Now,
    ) -> Arrival {
        let id = self.inner.flights.fetch_add(1, Ordering::Relaxed);
        let (handle, flight) = flight::prepare(&self.inner, entry, id, slot.fetch_context(challenges));
        let arrival = handle.arrival();
        slot.depart(id, handle, now);
        self.inner.stats.record(|stats| {
            stats.fetches += 1;
            stats.fetches_in_flight += 1;
        });
        // A runtime that is shutting down drops the flight at once, which takes the lock.
        drop(slot);
        flight.start(runtime);
        arrival
    }

    /// The usable token that replaces `grant` now, or `grant` itself if it still may be sent. Starts no fetch.
    pub(crate) fn newest(&self, grant: &Grant<P::Key>) -> Option<Grant<P::Key>> {
        let now = self.inner.clock.now();
        if let Some(token) = self.inner.map.get(grant.key()).and_then(|entry| entry.usable(now)) {
            return Some(Grant { entry: Arc::clone(&grant.entry), token });
        }
        let late = grant.token.is_late() && !self.inner.is_withdrawn(&grant.token);
        (late && !now.reached(&grant.token.deadlines().nominal)).then(|| grant.clone())
    }

    /// Whether the credentials were rotated since the token of `grant` was asked for.
    pub(crate) fn was_rotated(&self, grant: &Grant<P::Key>) -> bool {
        self.inner.is_withdrawn(&grant.token)
    }

    /// The server refused the token of `grant`. With `wait` off the renewal starts and nobody waits for it.
    pub(crate) fn reject_grant(
        &self,
        grant: &Grant<P::Key>,
        refusal: Rejection,
        challenges: Vec<HeaderValue>,
        wait: bool,
    ) -> Result<Lookup<P::Key, TokenWait<P>>, BudgetExhausted> {
        let now = self.inner.clock.now();
        let accepted = grant.token.is_accepted();
        // Where no flight can start, the token must not be taken away for one.
        if let Err(error) = rt::with_timers() {
            let newer = self.inner.map.get(grant.key()).and_then(|entry| entry.usable(now));
            let newer = newer.filter(|token| token.generation() != grant.token.generation());
            self.count_refusal(grant, refusal, accepted, if newer.is_some() { "ready" } else { "failed" }, now);
            return Ok(match newer {
                Some(token) => Lookup::Granted(Grant { entry: Arc::clone(&grant.entry), token }),
                None => Lookup::Failed(error),
            });
        }
        let entry = &self.inner.entry(grant.key(), now);
        let mut slot = entry.lock();
        let verdict = slot.refuse(grant.token.generation(), refusal, now);
        entry.publish(&slot);
        let entered = match verdict {
            _ if slot.evicted => {
                drop(slot);
                self.enter_slow(Arc::clone(entry), now, false)
            }
            Verdict::Renew(next) => self.follow(entry, slot, next, challenges, now),
            Verdict::Exhausted => {
                drop(slot);
                self.count_refusal(grant, refusal, accepted, "declined", now);
                return Err(BudgetExhausted);
            }
            Verdict::CoolingDown(error) => {
                drop(slot);
                Lookup::Failed(error)
            }
        };
        self.count_refusal(grant, refusal, accepted, word_for(&entered), now);
        Ok(match entered {
            Lookup::Granted(newer) => Lookup::Granted(newer),
            Lookup::Wait(joined) if wait => Lookup::Wait(TokenWait::waiting(self.clone(), joined)),
            Lookup::Wait(_) => Lookup::Wait(self.wait(P::Key::clone(&entry.key))),
            Lookup::Failed(error) => Lookup::Failed(error),
        })
    }
}

fn grant<K>(entry: Arc<Entry<K>>, token: Token, now: Now) -> Lookup<K, Joined<K>> {
    entry.touch(now);
    Lookup::Granted(Grant { entry, token })
}

impl<K> Grant<K> {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn key(&self) -> &K {
        &self.entry.key
    }

    pub(crate) fn shared_key(&self) -> Arc<K> {
        Arc::clone(&self.entry.key)
    }
}

impl<K> Clone for Grant<K> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), token: self.token.clone() }
    }
}
