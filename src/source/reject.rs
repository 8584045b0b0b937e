//! Rejecting a token.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::action::{RejectionOutcome, Wanted};
use super::cache::Cache;
use super::entry::Entry;
use super::grant::{Awaited, BudgetExhausted, Grant, Lookup};
use super::lookup::{Purpose, Query};
use super::report::Refresh;
use crate::clock::Now;
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::rt;
use crate::token::Token;

impl<P: TokenProvider> Cache<P> {
    /// A server rejected the token of `grant`. Starts or joins a fetch, unless there is a newer token.
    pub(super) fn reject(
        self: &Arc<Self>,
        grant: &Grant<P::Key>,
        rejection: Rejection,
        mut challenges: Vec<HeaderValue>,
        max_wait: Duration,
    ) -> Result<Lookup<P::Key, Awaited<P::Key>>, BudgetExhausted> {
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
        let entry = &self.entry_again(&grant.entry);
        let mut slot = entry.lock();
        let patience = self.patience(max_wait);
        let stuck = self.take_stuck(entry, &mut slot, true, now);
        let result = if slot.evicted {
            drop(slot);
            let query = Query { wanted: Wanted::Usable, patience };
            Ok(self.lookup_in_slot(Arc::clone(entry), query, now, Purpose::Waiter))
        } else {
            let outcome = slot.reject(grant.token.generation(), self.set_aside(), patience, now);
            entry.publish(&slot, now);
            let runtime = Some(&runtime);
            match outcome {
                RejectionOutcome::Replace(action) => Ok(self
                    .act(entry, slot, action, runtime, &mut challenges, now)
                    .map_wait(|awaited| Awaited { needs_new: true, ..awaited })),
                RejectionOutcome::NotCurrent(action) => {
                    Ok(self.act(entry, slot, action, runtime, &mut challenges, now))
                }
                RejectionOutcome::BudgetExhausted => {
                    drop(slot);
                    Err(BudgetExhausted)
                }
                RejectionOutcome::Backoff(error) => {
                    drop(slot);
                    Ok(Lookup::Failed(error))
                }
            }
        };
        self.report_stuck(entry, stuck, now);
        let refresh = result.as_ref().map_or(Refresh::BudgetExhausted, Refresh::of);
        self.report_rejection(grant.key(), &grant.token, rejection, accepted, refresh, now);
        result
    }

    /// A server rejected a replay with the token of `grant`. That starts no fetch.
    pub(super) fn reject_replay(&self, grant: &Grant<P::Key>, rejection: Rejection) {
        let (now, token) = (self.clock.now(), &grant.token);
        let accepted = token.is_accepted();
        if let Some(entry) = self.map.get(grant.key()) {
            let mut slot = entry.lock();
            slot.reject_replay(token.generation(), now);
            entry.publish(&slot, now);
        }
        self.report_rejection(grant.key(), token, rejection, accepted, Refresh::None, now);
    }

    /// The entry of `key`, if `token` is its usable token, or the rejected one that its running fetch is to replace.
    pub(super) fn entry_of(&self, key: &P::Key, token: &Token) -> Option<Arc<Entry<P::Key>>> {
        if token.source_id() != self.id {
            return None;
        }
        let entry = self.map.get(key)?;
        let now = self.clock.now();
        let mut slot = entry.lock();
        let has = slot.has(token.generation(), now);
        entry.publish(&slot, now);
        drop(slot);
        has.then_some(entry)
    }

    /// What a request for `key` would find now. Starts no fetch.
    pub(super) fn outlook(&self, key: &P::Key, now: Now) -> Refresh {
        let entry = self.map.get(key);
        let outlook = entry.map_or(Refresh::None, |entry| {
            let mut slot = entry.lock();
            slot.settle(now);
            entry.publish(&slot, now);
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
