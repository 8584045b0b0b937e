//! Looking up a token, joining or starting a fetch, and rejecting a token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderValue;
use tokio::runtime;

use super::action::{RejectionOutcome, SlotAction};
use super::cache::Cache;
use super::entry::{Entry, SlotGuard};
use super::fetch::Fetch;
use super::fetch_handle::{OutcomeReceiver, is_fetching};
use super::grant::{BudgetExhausted, Grant, JoinedFetch, Lookup};
use super::report::Refresh;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::rt;
use crate::telemetry::{Event, KeyField};
use crate::token::Token;

impl<P: TokenProvider> Cache<P> {
    /// The token of `key`, or a fetch to wait for. Starts a fetch if one is due.
    pub(super) fn lookup(self: &Arc<Self>, key: &P::Key) -> Lookup<P::Key, JoinedFetch<P::Key>> {
        let now = self.clock.now();
        let entry = self.entry(key, now);
        let result = match entry.fresh(now) {
            Some(token) => granted(entry, token, now),
            None => self.lookup_in_slot(entry, now, true),
        };
        if let Lookup::Granted(_) = result {
            self.stats.hit();
        }
        result
    }

    /// The same as `lookup`, for a caller that has waited already. It does not count as a hit or as failed fast.
    pub(super) fn lookup_again(self: &Arc<Self>, entry: Arc<Entry<P::Key>>) -> Lookup<P::Key, JoinedFetch<P::Key>> {
        self.lookup_in_slot(entry, self.clock.now(), false)
    }

    fn lookup_in_slot(
        self: &Arc<Self>,
        mut entry: Arc<Entry<P::Key>>,
        now: Now,
        first: bool,
    ) -> Lookup<P::Key, JoinedFetch<P::Key>> {
        // A timer of a runtime without timers panics, so a panic hook may run: not under the lock.
        let mut runtime = None;
        let mut stuck = None;
        loop {
            let mut slot = entry.lock();
            if slot.evicted {
                drop(slot);
                entry = self.entry_again(&entry, now);
                continue;
            }
            if let Some(fetch) = slot.take_stuck_fetch(self.longest_fetch(), now) {
                self.stats.record(|stats| {
                    stats.fetches_in_flight -= 1;
                    stats.fetches_cancelled += 1;
                });
                slot.cancel(now);
                stuck = Some(fetch);
            }
            // A caller that finds a stuck fetch, or has waited for a cancelled one, starts the next one at once.
            let action = if first && stuck.is_none() { slot.request(now) } else { slot.request_again(now) };
            if runtime.is_none() && action.needs_runtime() {
                drop(slot);
                runtime = Some(rt::with_timers());
                continue;
            }
            let failed_fast = first && matches!(action, SlotAction::Fail(_));
            if failed_fast {
                self.stats.record(|stats| stats.failed_fast += 1);
            }
            let result = self.act(&entry, slot, action, runtime.as_ref(), &mut Vec::new(), now);
            if let (true, Lookup::Failed(error)) = (failed_fast, &result) {
                self.telemetry.emit(Event::FailedFast { error: error.kind() });
            }
            if let Some(fetch) = stuck {
                // Outside of the lock, because this wakes the waiters of the fetch.
                drop(fetch);
                self.sweep(now);
                self.telemetry.emit(Event::Cancelled { key: KeyField::new(&*entry.key), reason: "runtime_stuck" });
            }
            return result;
        }
    }

    /// Performs `action`. The caller holds the lock of the slot; this releases it. `runtime` is the current one, if the
    /// action needs it. What this leaves in `challenges` is for the caller to drop, without the lock.
    fn act(
        self: &Arc<Self>,
        entry: &Arc<Entry<P::Key>>,
        slot: SlotGuard<'_>,
        action: SlotAction,
        runtime: Option<&Result<runtime::Handle, Error>>,
        challenges: &mut Vec<HeaderValue>,
        now: Now,
    ) -> Lookup<P::Key, JoinedFetch<P::Key>> {
        match action {
            SlotAction::Stamp(token) => {
                drop(slot);
                granted(Arc::clone(entry), token, now)
            }
            SlotAction::StampAndFetch(token) => {
                if let Some(Ok(runtime)) = runtime {
                    // The caller does not wait: the cached token is still usable.
                    drop(self.start_fetch(entry, slot, runtime, challenges, now));
                } else {
                    drop(slot);
                }
                granted(Arc::clone(entry), token, now)
            }
            SlotAction::Fail(error) => Lookup::Failed(error),
            SlotAction::Join | SlotAction::Fetch if is_fetching(entry) => Lookup::Failed(
                Error::new(ErrorKind::Reentrant, "the provider waits for the token that it is fetching")
                    .with_hint("give the provider an HTTP client that this layer does not wrap"),
            ),
            SlotAction::Join | SlotAction::Fetch => match (runtime, slot.in_flight()) {
                (Some(Ok(_)), Some(fetch)) => {
                    let outcome = fetch.handle.receiver();
                    Lookup::Wait(JoinedFetch { entry: Arc::clone(entry), outcome, started_here: false })
                }
                (Some(Ok(runtime)), None) => {
                    let outcome = self.start_fetch(entry, slot, runtime, challenges, now);
                    Lookup::Wait(JoinedFetch { entry: Arc::clone(entry), outcome, started_here: true })
                }
                (unsuitable, _) => {
                    drop(slot);
                    self.sweep(now);
                    Lookup::Failed(match unsuitable {
                        Some(Err(error)) => error.clone(),
                        _ => rt::no_timers(),
                    })
                }
            },
        }
    }

    fn start_fetch(
        self: &Arc<Self>,
        entry: &Arc<Entry<P::Key>>,
        mut slot: SlotGuard<'_>,
        runtime: &runtime::Handle,
        challenges: &mut Vec<HeaderValue>,
        now: Now,
    ) -> OutcomeReceiver {
        let id = self.fetches.fetch_add(1, Ordering::Relaxed);
        let (fetch, handle) = Fetch::new(self, entry, id, slot.fetch_context(challenges));
        let outcome = handle.receiver();
        slot.start_fetch(id, handle, now);
        self.stats.record(|stats| {
            stats.fetches += 1;
            stats.fetches_in_flight += 1;
        });
        // A runtime that shuts down drops the task at once, and its destructor takes the lock.
        drop(slot);
        fetch.start(runtime);
        outcome
    }

    /// A server rejected the token of `grant`. Starts or joins a fetch, unless there is a newer token.
    pub(super) fn reject(
        self: &Arc<Self>,
        grant: &Grant<P::Key>,
        rejection: Rejection,
        mut challenges: Vec<HeaderValue>,
    ) -> Result<Lookup<P::Key, JoinedFetch<P::Key>>, BudgetExhausted> {
        let now = self.clock.now();
        let accepted = grant.token.is_accepted();
        // If no fetch can start, the token must not be removed for one.
        let runtime = rt::with_timers();
        if let Err(error) = runtime {
            let newer = self.map.get(grant.key()).and_then(|entry| entry.usable(now));
            let newer = newer.filter(|token| token.generation() != grant.token.generation());
            let result = match newer {
                Some(token) => Lookup::Granted(Grant { entry: Arc::clone(&grant.entry), token }),
                None => Lookup::Failed(error),
            };
            self.report_rejection(grant.key(), &grant.token, rejection, accepted, Refresh::of(&result), now);
            return Ok(result);
        }
        let entry = &self.entry_again(&grant.entry, now);
        let mut slot = entry.lock();
        let outcome = slot.reject(grant.token.generation(), rejection, now);
        entry.publish(&slot);
        let result = match outcome {
            _ if slot.evicted => {
                drop(slot);
                self.lookup_in_slot(Arc::clone(entry), now, false)
            }
            RejectionOutcome::Proceed(action) => self.act(entry, slot, action, Some(&runtime), &mut challenges, now),
            RejectionOutcome::BudgetExhausted => {
                drop(slot);
                self.report_rejection(grant.key(), &grant.token, rejection, accepted, Refresh::BudgetExhausted, now);
                return Err(BudgetExhausted);
            }
            RejectionOutcome::Backoff(error) => {
                drop(slot);
                Lookup::Failed(error)
            }
        };
        self.report_rejection(grant.key(), &grant.token, rejection, accepted, Refresh::of(&result), now);
        Ok(result)
    }

    /// The entry of `key`, if `token` is its usable token, or the rejected one that its running fetch is to replace.
    pub(super) fn entry_of(&self, key: &P::Key, token: &Token) -> Option<Arc<Entry<P::Key>>> {
        if token.source_id() != self.id {
            return None;
        }
        let entry = self.map.get(key)?;
        let now = self.clock.now();
        let has = entry.lock().has(token.generation(), now);
        has.then_some(entry)
    }

    /// What a request for `key` would find now. Starts no fetch.
    pub(super) fn outlook(&self, key: &P::Key, now: Now) -> Refresh {
        let entry = self.map.get(key);
        let outlook = entry.map_or(Refresh::None, |entry| {
            let slot = entry.lock();
            if slot.usable(now).is_some() {
                Refresh::Ready
            } else if slot.in_flight().is_some() {
                Refresh::InFlight
            } else if slot.may_fetch(now) {
                Refresh::None
            } else {
                Refresh::Failed
            }
        });
        if outlook != Refresh::Ready && rt::with_timers().is_err() { Refresh::Failed } else { outlook }
    }
}

fn granted<K>(entry: Arc<Entry<K>>, token: Token, now: Now) -> Lookup<K, JoinedFetch<K>> {
    entry.touch(now);
    Lookup::Granted(Grant { entry, token })
}
