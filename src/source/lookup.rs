//! Looking up a token, and joining or starting a fetch.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use tokio::runtime;

use super::action::{FetchCause, Patience, SlotAction, Wanted};
use super::cache::Cache;
use super::entry::{Entry, SlotGuard};
use super::fetch::Fetch;
use super::fetch_handle::{FetchHandle, OutcomeReceiver, is_fetching};
use super::grant::{Awaited, Grant, Lookup};
use super::slot::InFlight;
use crate::clock::{Now, next_tick};
use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::rt;
use crate::telemetry::{Event, KeyField};
use crate::token::Token;

/// Why a caller looks a token up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request that has not waited yet. It counts as a hit or as failed fast.
    Request,
    /// A caller that has waited already. The backoff after cancelled fetches does not apply to it.
    Waiter,
    /// A probe, which uses no token.
    Probe,
}

/// A lookup: which token the caller wants, and how long it waits.
#[derive(Clone, Copy)]
pub(super) struct Query {
    pub(super) wanted: Wanted,
    pub(super) patience: Patience,
}

impl<P: TokenProvider> Cache<P> {
    /// A lookup of any usable token, for a request that has not waited yet.
    pub(super) fn any_token(&self) -> Query {
        Query { wanted: Wanted::Usable, patience: self.patience(self.max_wait) }
    }

    /// The token of `key`, or what to wait for. Starts a fetch if one is due.
    pub(super) fn lookup(self: &Arc<Self>, key: &P::Key, query: Query) -> Lookup<P::Key, Awaited<P::Key>> {
        let (now, tick) = self.clock.recent_with_tick();
        let entry = self.entry(key);
        let result = match entry.fresh(now) {
            Some(token) if matches!(query.wanted, Wanted::Usable) => {
                entry.touch(tick.unwrap_or_else(next_tick));
                granted(entry, token)
            }
            _ => self.lookup_in_slot(entry, query, self.clock.now(), Purpose::Request),
        };
        if let Lookup::Granted(_) = result {
            self.stats.hit();
        }
        result
    }

    /// The same as `lookup`, for a caller that has waited already.
    pub(super) fn lookup_again(
        self: &Arc<Self>,
        entry: Arc<Entry<P::Key>>,
        query: Query,
    ) -> Lookup<P::Key, Awaited<P::Key>> {
        self.lookup_in_slot(entry, query, self.clock.now(), Purpose::Waiter)
    }

    pub(super) fn lookup_in_slot(
        self: &Arc<Self>,
        mut entry: Arc<Entry<P::Key>>,
        query: Query,
        now: Now,
        purpose: Purpose,
    ) -> Lookup<P::Key, Awaited<P::Key>> {
        // A timer of a runtime without timers panics, so a panic hook may run: not under the lock.
        let mut runtime = None;
        let mut stuck = None;
        loop {
            let mut slot = entry.lock();
            if slot.evicted {
                drop(slot);
                entry = self.entry_again(&entry);
                continue;
            }
            entry.touch(next_tick());
            let Query { wanted, patience } = query;
            stuck = self.take_stuck(&entry, &mut slot, wanted.demand().is_some(), now).or(stuck);
            // A caller that finds a stuck fetch, or has waited for a cancelled one, starts the next one at once.
            let action = if purpose != Purpose::Waiter && stuck.is_none() {
                slot.request(wanted, patience, now)
            } else {
                slot.request_again(wanted, patience, now)
            };
            entry.publish(&slot, now);
            if runtime.is_none() && action.needs_runtime() {
                drop(slot);
                runtime = Some(rt::with_timers());
                continue;
            }
            let failed_fast = purpose == Purpose::Request && matches!(action, SlotAction::Fail(_));
            if failed_fast {
                self.stats.record(|stats| stats.failed_fast += 1);
            }
            let result = self.act(&entry, slot, action, runtime.as_ref(), &mut Vec::new(), now);
            if let (true, Lookup::Failed(error)) = (failed_fast, &result) {
                self.telemetry.emit(Event::FailedFast { error: error.kind() });
            }
            self.report_stuck(&entry, stuck, now);
            return result;
        }
    }

    /// Removes a fetch that runs for longer than a fetch can take. The caller holds the lock of the slot.
    pub(super) fn take_stuck(
        &self,
        entry: &Entry<P::Key>,
        slot: &mut SlotGuard<'_>,
        needed: bool,
        now: Now,
    ) -> Option<InFlight<FetchHandle>> {
        let fetch = slot.take_stuck_fetch(self.longest_fetch(), needed, now)?;
        self.fetch_ends(entry, |stats| {
            *(if fetch.handle.is_some() { &mut stats.fetches_cancelled } else { &mut stats.fetches_discarded }) += 1;
        });
        slot.cancel(now);
        Some(fetch)
    }

    /// Wakes the waiters of a stuck fetch, and reports it. The caller does not hold the lock of the slot.
    pub(super) fn report_stuck(&self, entry: &Entry<P::Key>, stuck: Option<InFlight<FetchHandle>>, now: Now) {
        let Some(fetch) = stuck else { return };
        let key = KeyField::new(&*entry.key);
        let event = match fetch.handle {
            Some(_) => Event::Cancelled { key, reason: "runtime_stuck" },
            None => Event::Discarded { key },
        };
        drop(fetch);
        self.sweep(now);
        self.telemetry.emit(event);
    }

    /// Performs `action`. The caller holds the lock of the slot; this releases it. `runtime` is the current one, if the
    /// action needs it. What this leaves in `challenges` is for the caller to drop, without the lock.
    pub(super) fn act(
        self: &Arc<Self>,
        entry: &Arc<Entry<P::Key>>,
        mut slot: SlotGuard<'_>,
        action: SlotAction,
        runtime: Option<&Result<runtime::Handle, Error>>,
        challenges: &mut Vec<HeaderValue>,
        now: Now,
    ) -> Lookup<P::Key, Awaited<P::Key>> {
        match action {
            SlotAction::Stamp(token) => {
                drop(slot);
                return granted(Arc::clone(entry), token);
            }
            SlotAction::StampAndFetch(token) => {
                if let Some(Ok(runtime)) = runtime {
                    // The caller does not wait: the cached token is still usable.
                    drop(self.start_fetch(entry, slot, runtime, FetchCause::Early, challenges, now));
                } else {
                    drop(slot);
                }
                return granted(Arc::clone(entry), token);
            }
            SlotAction::Fail(error) => return Lookup::Failed(error),
            SlotAction::Join | SlotAction::Fetch(_) | SlotAction::LookAgain(_) => {}
        }
        if is_fetching(entry) {
            return Lookup::Failed(
                Error::new(ErrorKind::Reentrant, "the provider waits for the token that it is fetching")
                    .with_hint("give the provider an HTTP client that this layer does not wrap"),
            );
        }
        let Some(Ok(runtime)) = runtime else {
            drop(slot);
            self.sweep(now);
            return Lookup::Failed(match runtime {
                Some(Err(error)) => error.clone(),
                _ => rt::no_timers(),
            });
        };
        Lookup::Wait(match action {
            SlotAction::Fetch(cause) => {
                let outcome = self.start_fetch(entry, slot, runtime, cause, challenges, now);
                let look_again = if let FetchCause::Rejection { set_aside } = cause { Some(set_aside) } else { None };
                Awaited { look_again, started_here: true, ..Awaited::new(entry, outcome) }
            }
            SlotAction::LookAgain(time) => look_again(entry, &mut slot, time),
            _ => join(entry, &mut slot, now),
        })
    }

    fn start_fetch(
        self: &Arc<Self>,
        entry: &Arc<Entry<P::Key>>,
        mut slot: SlotGuard<'_>,
        runtime: &runtime::Handle,
        cause: FetchCause,
        challenges: &mut Vec<HeaderValue>,
        now: Now,
    ) -> OutcomeReceiver {
        let id = self.fetches.fetch_add(1, Ordering::Relaxed);
        let context = slot.fetch_context(cause, challenges, now);
        let (fetch, handle) = Fetch::new(self, entry, id, context, slot.take_waiters(), now);
        let outcome = handle.receiver();
        slot.start_fetch(id, handle, cause, now);
        entry.publish(&slot, now);
        if !entry.had_token() {
            self.map.first_fetch_starts();
        }
        self.stats.record(|stats| {
            stats.fetches += 1;
            stats.fetches_in_flight += 1;
        });
        // A runtime that shuts down drops the task at once, and its destructor takes the lock.
        drop(slot);
        fetch.start(runtime);
        outcome
    }

    /// The token of `entry`, even if it is set aside.
    pub(super) fn usable_or_set_aside(&self, entry: &Arc<Entry<P::Key>>) -> Option<Grant<P::Key>> {
        let now = self.clock.now();
        let token = entry.lock().usable_or_set_aside(now).cloned()?;
        Some(Grant { entry: Arc::clone(entry), token })
    }

    /// A fetch failed with `error`. Returns the token that the caller can still use, or what it waits for next.
    pub(super) fn after_failure(
        self: &Arc<Self>,
        entry: &Arc<Entry<P::Key>>,
        query: Query,
        error: Error,
    ) -> Lookup<P::Key, Awaited<P::Key>> {
        let now = self.clock.now();
        let slot = entry.lock();
        if let Some(token) = slot.usable(now).cloned() {
            drop(slot);
            entry.touch(next_tick());
            return granted(Arc::clone(entry), token);
        }
        let waits = slot.waits_after(&error, query.patience, now);
        drop(slot);
        if waits { self.lookup_again(Arc::clone(entry), query) } else { Lookup::Failed(error) }
    }

    /// Whether the running fetch of `entry` has this outcome, and there is no token meanwhile.
    pub(super) fn is_awaited(&self, entry: &Entry<P::Key>, outcome: &OutcomeReceiver) -> bool {
        let now = self.clock.now();
        let slot = entry.lock();
        let running = slot.in_flight().and_then(|fetch| fetch.handle.as_ref());
        slot.usable(now).is_none() && running.is_some_and(|handle| handle.has(outcome))
    }
}

/// Waits for the running fetch. Looks again when the token is no longer set aside.
fn join<K>(entry: &Arc<Entry<K>>, slot: &mut SlotGuard<'_>, now: Now) -> Awaited<K> {
    match slot.in_flight().and_then(|fetch| fetch.handle.as_ref()) {
        Some(handle) => Awaited { look_again: slot.set_aside_for(now), ..Awaited::new(entry, handle.receiver()) },
        None => look_again(entry, slot, None),
    }
}

/// Waits until the slot wakes its waiters, and at most for `time`.
fn look_again<K>(entry: &Arc<Entry<K>>, slot: &mut SlotGuard<'_>, time: Option<Duration>) -> Awaited<K> {
    let outcome = slot.waiters(FetchHandle::without_fetch).receiver();
    Awaited { look_again: time, ..Awaited::new(entry, outcome) }
}

fn granted<K>(entry: Arc<Entry<K>>, token: Token) -> Lookup<K, Awaited<K>> {
    Lookup::Granted(Grant { entry, token })
}
