//! From a request for a token, or the refusal of one, to what its slot says must be done.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use tokio::runtime;

use super::TokenSource;
use super::acquire::Acquire;
use super::entry::Entry;
use super::flight::{self, Arrival, Handle};
use super::report::word_for;
use super::runtime_with_timers;
use super::slot::{Next, Slot, Verdict, is_fresh};
use crate::api::Refusal;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::observe::{Event, Whose};
use crate::provider::TokenProvider;
use crate::token::Token;

/// A token that may be stamped, and as whom.
#[derive(Clone)]
pub(crate) struct Grant<K> {
    pub(super) key: K,
    pub(super) token: Token,
}

/// What asking for a token comes to at once.
pub(crate) enum Asked<P: TokenProvider> {
    /// Nothing but time will change it for a while.
    Fresh(Grant<P::Key>),
    Granted(Grant<P::Key>),
    Wait(Acquire<P>),
    Failed(Error),
}

pub(super) enum Entered<K> {
    Granted(Grant<K>),
    Wait { entry: Arc<Entry<K>>, arrival: Arrival, own: bool },
    Failed(Error),
}

/// What became of a refused token.
pub(crate) enum Renewal<P: TokenProvider> {
    /// There is a newer one already.
    Ready(Grant<P::Key>),
    /// A flight is in the air.
    Wait(Acquire<P>),
    /// The renewal budget is empty: the token stays.
    Exhausted,
    /// No flight may start, or none can.
    Failed(Error),
}

/// What there is to stamp some time after a token was granted.
pub(crate) enum Newest<P: TokenProvider> {
    Usable(Grant<P::Key>),
    /// The token is over, and there is no other yet.
    Ended(Grant<P::Key>, Acquire<P>),
}

impl<P: TokenProvider> TokenSource<P> {
    pub(super) fn acquire(&self, key: P::Key) -> Acquire<P> {
        Acquire::start(self.clone(), key)
    }

    /// The cached path: nothing is cloned or boxed where there is a token.
    pub(crate) fn ask(&self, key: P::Key) -> Asked<P> {
        let now = self.inner.clock.now();
        let entry = self.inner.entry(&key, now);
        if let Some(token) = entry.fresh(now) {
            entry.touch(now);
            self.inner.stats.hit();
            return Asked::Fresh(Grant { key, token });
        }
        match self.enter(entry, now) {
            Entered::Granted(grant) => Asked::Granted(grant),
            Entered::Wait { entry, arrival, own } => Asked::Wait(Acquire::waiting(self.clone(), entry, arrival, own)),
            // Asked outside of the runtime that will poll the answer.
            Entered::Failed(_) if runtime::Handle::try_current().is_err() => Asked::Wait(self.acquire(key)),
            Entered::Failed(error) => Asked::Failed(error),
        }
    }

    /// Whether `token`, which was granted before, would be granted again. Nothing that is shared is written, but for one
    /// counter of this thread's.
    pub(crate) fn ask_for_same(&self, token: &Token) -> bool {
        let Some(entry) = self.inner.map.single() else {
            return false;
        };
        let same = entry.is_current(token) && is_fresh(token, self.inner.clock.now());
        if same {
            self.inner.stats.hit();
        }
        same
    }

    pub(super) fn enter_first(&self, key: &P::Key) -> Entered<P::Key> {
        let now = self.inner.clock.now();
        self.enter(self.inner.entry(key, now), now)
    }

    fn enter(&self, entry: Arc<Entry<P::Key>>, now: Now) -> Entered<P::Key> {
        let entered = match entry.fresh(now) {
            Some(token) => grant(&entry, token, now),
            None => self.enter_slow(entry, now, true),
        };
        if let Entered::Granted(_) = entered {
            self.inner.stats.hit();
        }
        entered
    }

    /// For who has waited already, and is counted as that alone.
    pub(super) fn enter_again(&self, entry: Arc<Entry<P::Key>>) -> Entered<P::Key> {
        let now = self.inner.clock.now();
        self.enter_slow(entry, now, false)
    }

    fn enter_slow(&self, mut entry: Arc<Entry<P::Key>>, now: Now, first: bool) -> Entered<P::Key> {
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
                    stats.flights_running -= 1;
                    stats.flights_lost += 1;
                });
                slot.lose(now);
            }
            // Who finds a stuck flight, or waited for a lost one, starts the next.
            let next = if first && stuck.is_none() { slot.request(now) } else { slot.request_again(now) };
            let turned_away = first && matches!(next, Next::Fail(_));
            if turned_away {
                self.inner.stats.record(|stats| stats.turned_away += 1);
            }
            let entered = self.follow(&entry, slot, next, now);
            if let (true, Entered::Failed(error)) = (turned_away, &entered) {
                self.inner.eyes.saw(Event::TurnedAway { error: error.kind() });
            }
            if let Some(flight) = stuck {
                // Outside of the lock: it wakes whoever waited for it.
                drop(flight);
                self.inner.sweep(now);
                self.inner.eyes.saw(Event::Lost { whose: Whose::key(&entry.key), reason: "runtime_stuck" });
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
        now: Now,
    ) -> Entered<P::Key> {
        match next {
            Next::Stamp(token) => {
                drop(slot);
                grant(entry, token, now)
            }
            Next::StampAndDepart(token) => {
                if let Ok(runtime) = runtime_with_timers() {
                    // Nobody waits for it: the token in hand still works.
                    drop(self.depart(entry, slot, &runtime, now));
                }
                grant(entry, token, now)
            }
            Next::Fail(error) => Entered::Failed(error),
            Next::Join | Next::Depart if flight::is_fetching(entry) => Entered::Failed(
                Error::new(ErrorKind::Reentrant, "the provider waits for the token that it is fetching")
                    .with_hint("give the provider an HTTP client that this layer does not wrap"),
            ),
            Next::Join | Next::Depart => match (runtime_with_timers(), slot.flight()) {
                (Ok(_), Some(flight)) => {
                    Entered::Wait { entry: Arc::clone(entry), arrival: flight.handle.arrival(), own: false }
                }
                (Ok(runtime), None) => {
                    let arrival = self.depart(entry, slot, &runtime, now);
                    Entered::Wait { entry: Arc::clone(entry), arrival, own: true }
                }
                (Err(error), _) => {
                    drop(slot);
                    self.inner.sweep(now);
                    Entered::Failed(error)
                }
            },
        }
    }

    fn depart(
        &self,
        entry: &Arc<Entry<P::Key>>,
        mut slot: MutexGuard<'_, Slot<Handle>>,
        runtime: &runtime::Handle,
        now: Now,
    ) -> Arrival {
        let id = self.inner.flights.fetch_add(1, Ordering::Relaxed);
        let (handle, flight) = flight::prepare(&self.inner, entry, id);
        let arrival = handle.arrival();
        slot.depart(id, handle, now);
        self.inner.stats.record(|stats| {
            stats.flights += 1;
            stats.flights_running += 1;
        });
        // A runtime that is shutting down drops the flight at once, which takes the lock.
        drop(slot);
        flight.start(runtime);
        arrival
    }

    /// `grant`, or what has replaced its token meanwhile. Asks nobody where there is something to stamp.
    pub(crate) fn newest(&self, grant: Grant<P::Key>) -> Newest<P> {
        let now = self.inner.clock.now();
        if let Some(token) = self.inner.map.get(&grant.key).and_then(|entry| entry.usable(now)) {
            return Newest::Usable(Grant { token, ..grant });
        }
        let late = grant.token.is_late() && !self.inner.is_withdrawn(&grant.token);
        if late && !now.reached(&grant.token.deadlines().nominal) {
            return Newest::Usable(grant);
        }
        let acquire = self.acquire(grant.key.clone());
        Newest::Ended(grant, acquire)
    }

    /// Whether the credentials were rotated since the token of `grant` was asked for.
    pub(crate) fn is_withdrawn(&self, grant: &Grant<P::Key>) -> bool {
        self.inner.is_withdrawn(&grant.token)
    }

    /// The server refused the token of `grant`. With `wait` off the renewal starts and nobody waits for it.
    pub(crate) fn refuse(&self, grant: &Grant<P::Key>, refusal: Refusal, wait: bool) -> Renewal<P> {
        let now = self.inner.clock.now();
        let accepted = grant.token.is_accepted();
        // Where no flight can start, the token must not be taken away for one.
        if let Err(error) = runtime_with_timers() {
            let newer = self.inner.map.get(&grant.key).and_then(|entry| entry.usable(now));
            let newer = newer.filter(|token| token.generation() != grant.token.generation());
            self.count_refusal(grant, refusal, accepted, if newer.is_some() { "ready" } else { "failed" }, now);
            return match newer {
                Some(token) => Renewal::Ready(Grant { key: grant.key.clone(), token }),
                None => Renewal::Failed(error),
            };
        }
        let entry = &self.inner.entry(&grant.key, now);
        let mut slot = entry.lock();
        let verdict = slot.refuse(grant.token.generation(), refusal, now);
        entry.publish(&slot);
        let entered = match verdict {
            _ if slot.evicted => {
                drop(slot);
                self.enter_slow(Arc::clone(entry), now, false)
            }
            Verdict::Renew(next) => self.follow(entry, slot, next, now),
            Verdict::Exhausted => {
                drop(slot);
                self.count_refusal(grant, refusal, accepted, "declined", now);
                return Renewal::Exhausted;
            }
            Verdict::CoolingDown(error) => {
                drop(slot);
                Entered::Failed(error)
            }
        };
        self.count_refusal(grant, refusal, accepted, word_for(&entered), now);
        match entered {
            Entered::Granted(newer) => Renewal::Ready(newer),
            Entered::Wait { entry, arrival, own } if wait => {
                Renewal::Wait(Acquire::waiting(self.clone(), entry, arrival, own))
            }
            Entered::Wait { .. } => Renewal::Wait(self.acquire(entry.key.clone())),
            Entered::Failed(error) => Renewal::Failed(error),
        }
    }
}

fn grant<K: Clone>(entry: &Entry<K>, token: Token, now: Now) -> Entered<K> {
    entry.touch(now);
    Entered::Granted(Grant { key: entry.key.clone(), token })
}

impl<K> Grant<K> {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}
