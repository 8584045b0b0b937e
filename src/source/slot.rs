//! The state machine of one key. It is pure: time, random numbers and fetches are passed in, and nothing waits.

mod complete;
mod forget;
mod in_flight;
mod rare;
mod reject;

pub(super) use self::in_flight::{InFlight, Progress};

use std::time::Duration;

use http::HeaderValue;

use self::rare::Rare;
pub(super) use self::rare::Removed;
use super::action::{Demand, FetchCause, Patience, SlotAction, SlotView, Wanted};
use super::failure::Failure;
use super::jitter::Jitter;
use crate::clock::Now;
use crate::error::Error;
use crate::provider::{FetchContext, FetchFacts, FetchReason, KnownTokens};
use crate::refresh::{self, Held};
use crate::token::Token;

/// The state of one key. `F` is the handle of a fetch; the slot stores it and does not use it.
pub(super) struct Slot<F> {
    current: Option<Token>,
    /// Boxed, because most slots have none.
    in_flight: Option<Box<InFlight<F>>>,
    /// What most slots do not need.
    rare: Option<Box<Rare<F>>>,
    jitter: Jitter,
    /// Whether `rotate` or `invalidate` has ever removed the tokens.
    forgotten: bool,
    /// The entry is no longer in the map. A caller that still has it gets the new entry of the key.
    pub(super) evicted: bool,
}

impl<F> Slot<F> {
    pub(super) fn new(jitter: Jitter) -> Self {
        Self { current: None, in_flight: None, rare: None, jitter, forgotten: false, evicted: false }
    }

    /// The token that requests may read without the lock of the slot. `None` while they must look at the slot.
    pub(super) fn published(&self, now: Now) -> Option<&Token> {
        let waits_for_try = self.rare.as_ref().is_some_and(|rare| rare.new_token_waits());
        self.current.as_ref().filter(|_| !waits_for_try && !self.is_set_aside(now))
    }

    pub(super) fn in_flight(&self) -> Option<&InFlight<F>> {
        self.in_flight.as_deref()
    }

    /// What to do for a request that needs a token.
    pub(super) fn request(&mut self, wanted: Wanted, patience: Patience, now: Now) -> SlotAction {
        match self.request_again(wanted, patience, now) {
            SlotAction::Fetch(cause) => {
                let cancelled = self.backoff_after_cancelled(Held::Nothing, now);
                cancelled.map_or(SlotAction::Fetch(cause), SlotAction::Fail)
            }
            action => action,
        }
    }

    /// The same as `request`, for a caller that has waited already. The backoff after cancelled fetches does not apply
    /// to it.
    pub(super) fn request_again(&mut self, wanted: Wanted, patience: Patience, now: Now) -> SlotAction {
        self.settle(now);
        let Some(token) = self.usable(now).cloned() else {
            let action = self.request_without_token(patience, now);
            if let (Some(demand), SlotAction::Fetch(_)) = (wanted.demand(), &action) {
                self.rare().on_demand.fetch_starts(demand, now);
            }
            return action;
        };
        if let Some(demand) = wanted.demand()
            && !wanted.is_met_by(&token, now)
        {
            return self.request_on_demand(token, demand, now);
        }
        if self.early_refresh_is_due(&token, now) { SlotAction::StampAndFetch(token) } else { SlotAction::Stamp(token) }
    }

    fn request_without_token(&mut self, patience: Patience, now: Now) -> SlotAction {
        if let Some(fetch) = &self.in_flight {
            return if fetch.progress() == Progress::Running { SlotAction::Join } else { SlotAction::LookAgain(None) };
        }
        let Some(rare) = &self.rare else {
            return SlotAction::Fetch(FetchCause::NoToken);
        };
        match &rare.failure {
            Some(failure) if failure.in_backoff(Held::Nothing, now) => {
                if failure.is_waited_for(rare.failures.run_began(), patience, now) {
                    SlotAction::LookAgain(Some(failure.remaining(Held::Nothing, now)))
                } else {
                    SlotAction::Fail(failure.shared(Held::Nothing, now))
                }
            }
            _ => match rare.invalidation.delay(now) {
                Some(left) => SlotAction::LookAgain(Some(left)),
                None => SlotAction::Fetch(FetchCause::NoToken),
            },
        }
    }

    /// `token` is usable, but the caller wants a new one.
    fn request_on_demand(&mut self, token: Token, demand: Demand, now: Now) -> SlotAction {
        if self.in_flight.is_some() {
            return SlotAction::Join;
        }
        if self.rare.as_ref().is_some_and(|rare| !rare.on_demand.is_due(demand, now)) {
            return SlotAction::Stamp(token);
        }
        let held = self.held(now);
        let failure = self.failure().filter(|failure| failure.in_backoff(held, now)).map(|f| f.shared(held, now));
        match failure.or_else(|| self.backoff_after_cancelled(held, now)) {
            Some(error) => SlotAction::Fail(error),
            None => SlotAction::Fetch(FetchCause::OnDemand(demand)),
        }
    }

    /// Whether no backoff keeps a fetch from starting, for a request without a usable token.
    pub(super) fn may_fetch(&self, now: Now) -> bool {
        !self.failure().is_some_and(|failure| failure.in_backoff(Held::Nothing, now))
            && self.backoff_after_cancelled(Held::Nothing, now).is_none()
    }

    /// The context of the next fetch. `challenges` are those of the response that rejected the token. They are taken if
    /// the context has them.
    pub(super) fn fetch_context(&self, cause: FetchCause, challenges: &mut Vec<HeaderValue>, now: Now) -> FetchContext {
        let reason = match cause {
            FetchCause::Rejection { .. } | FetchCause::ThrottledRejection => FetchReason::Rejected,
            FetchCause::OnDemand(_) => FetchReason::OnDemand,
            FetchCause::Early => FetchReason::Expiring,
            FetchCause::NoToken if self.current.is_some() => FetchReason::Expiring,
            FetchCause::NoToken if self.forgotten => FetchReason::Rotated,
            FetchCause::NoToken => FetchReason::First,
        };
        let challenges = if reason == FetchReason::Rejected { std::mem::take(challenges) } else { Vec::new() };
        let mut facts = FetchFacts { challenges, ..FetchFacts::default() };
        facts.tokens.replaced = self.current.clone();
        if let FetchCause::OnDemand(Demand::ValidFor(time)) = cause {
            facts.valid_for = time;
        }
        if let Some(rare) = &self.rare {
            facts.by_rotation = rare.invalidation.rotation_fetches();
            facts.permanent_failures = rare.failures.permanent();
            facts.tokens = KnownTokens {
                removed: rare.removed_token.clone(),
                rejected: rare.rejections.rejected(now),
                ..facts.tokens
            };
        }
        FetchContext::new(reason, facts)
    }

    pub(super) fn start_fetch(&mut self, id: u64, handle: F, cause: FetchCause, now: Now) {
        let mut by_rotation = false;
        let held = self.held(now);
        if let Some(rare) = &mut self.rare {
            rare.failures.fetch_starts(held, now);
            rare.rejections.fetch_starts(now);
            by_rotation = rare.invalidation.fetch_starts(now);
        }
        if let FetchCause::OnDemand(demand) = cause {
            self.rare().on_demand.fetch_starts(demand, now);
        }
        self.in_flight = Some(Box::new(InFlight::new(id, handle, cause, by_rotation, now)));
    }

    /// Removes a fetch that runs for longer than a fetch can take, if a caller needs one: nothing polls its runtime. If
    /// there is a usable token that was not rejected, the fetch may stay until something polls it. `needed` is whether the
    /// caller needs a new token.
    pub(super) fn take_stuck_fetch(&mut self, longest: Duration, needed: bool, now: Now) -> Option<InFlight<F>> {
        let fetch = self.in_flight()?;
        let needed = needed || fetch.is_after_rejection() || self.usable(now).is_none();
        let id = Some(fetch).filter(|fetch| needed && fetch.runs_longer_than(longest, now))?.id;
        self.take_fetch(id)
    }

    pub(super) fn view(&mut self, now: Now) -> SlotView {
        self.settle(now);
        let usable = self.usable(now).cloned();
        let held = self.held(now);
        let next_try = self.failure().map(|failure| failure.remaining(held, now));
        SlotView {
            in_window: usable.as_ref().is_some_and(|token| in_window(token, now)),
            usable,
            in_flight: self.in_flight.is_some(),
            dead: held == Held::Dead,
            last_error: self.failure().map(|failure| failure.error.clone()),
            next_try: next_try.filter(|left| !left.is_zero()),
        }
    }

    /// Whether the slot protects the issuer: it has spent budget, or it is in backoff. Eviction would remove that
    /// protection.
    pub(super) fn guards_issuer(&self, now: Now) -> bool {
        let spent = self.rare.as_ref().and_then(|rare| rare.budget).is_some_and(|budget| !budget.is_full(now.mono));
        spent || !self.may_fetch(now)
    }

    /// The token that requests are stamped with.
    pub(super) fn usable(&self, now: Now) -> Option<&Token> {
        self.current.as_ref().filter(|token| is_usable(token, now) && !self.is_set_aside(now))
    }

    /// The usable token, even if it is set aside.
    pub(super) fn usable_or_set_aside(&self, now: Now) -> Option<&Token> {
        self.current.as_ref().filter(|token| is_usable(token, now))
    }

    /// For how long the current token is still set aside.
    pub(super) fn set_aside_for(&self, now: Now) -> Option<Duration> {
        let left = self.in_flight.as_ref()?.set_aside_for(now)?;
        self.usable_or_set_aside(now).map(|_| left)
    }

    fn is_set_aside(&self, now: Now) -> bool {
        self.in_flight.as_ref().is_some_and(|fetch| fetch.set_aside_for(now).is_some())
    }

    /// Whether the token of `generation` is the current one and usable. It may be set aside.
    pub(super) fn has(&mut self, generation: u64, now: Now) -> bool {
        self.settle_tokens(now);
        self.usable_or_set_aside(now).is_some_and(|token| token.generation() == generation)
    }

    /// What the key has, for the length of a backoff.
    fn held(&self, now: Now) -> Held {
        match (self.usable_or_set_aside(now), &self.rare) {
            (None, _) => Held::Nothing,
            (Some(token), Some(rare)) if rare.rejections.is_dead(token) => Held::Dead,
            (Some(_), _) => Held::Usable,
        }
    }

    fn early_refresh_is_due(&self, token: &Token, now: Now) -> bool {
        if self.in_flight.is_some() || !in_window(token, now) {
            return false;
        }
        let Some(rare) = &self.rare else {
            return true;
        };
        let held = self.held(now);
        rare.early.is_none_or(|(since, length)| refresh::passed(since, length, now.mono))
            && !rare.new_token_waits()
            && !rare.failure.as_ref().is_some_and(|failure| failure.in_backoff(held, now))
            && self.backoff_after_cancelled(held, now).is_none()
    }

    fn failure(&self) -> Option<&Failure> {
        self.rare.as_ref()?.failure.as_ref()
    }

    fn backoff_after_cancelled(&self, held: Held, now: Now) -> Option<Error> {
        self.rare.as_ref()?.cancelled.as_ref()?.backoff(held, now)
    }

    fn rare(&mut self) -> &mut Rare<F> {
        self.rare.get_or_insert_default()
    }

    /// Performs the transitions that only need time to pass. Every method that looks at the state calls it first.
    pub(super) fn settle(&mut self, now: Now) {
        self.settle_tokens(now);
        self.rotate_in_full(now);
    }

    fn settle_tokens(&mut self, now: Now) {
        let Some(rare) = &mut self.rare else {
            return;
        };
        if let (Some(current), Some(replacement)) = (&mut self.current, &mut rare.replacement)
            && replacement.settle(current, |token| is_usable(token, now), now)
        {
            rare.replacement = None;
        }
        rare.rejections.settle(now);
    }

    /// Drops the state that is no longer needed. A sweep calls this for an idle key.
    pub(super) fn prune(&mut self, now: Now) {
        self.settle(now);
        if let Some(rare) = &mut self.rare {
            rare.prune(self.current.as_ref(), now);
            self.rare.take_if(|rare| rare.is_empty());
        }
    }

    /// The handle that wakes the callers that wait for something other than the result of a fetch.
    pub(super) fn waiters(&mut self, new: impl FnOnce() -> F) -> &F {
        self.rare().waiters.get_or_insert_with(new)
    }

    /// Takes the handle of `waiters`, for a fetch that serves them.
    pub(super) fn take_waiters(&mut self) -> Option<F> {
        self.rare.as_mut()?.waiters.take()
    }

    /// Whether a caller waits for the next fetch after one has failed with `error`.
    pub(super) fn waits_after(&self, error: &Error, patience: Patience, now: Now) -> bool {
        let rare = self.rare.as_ref();
        match rare.and_then(|rare| Some((rare.failure.as_ref()?, rare.failures.run_began()))) {
            Some((failure, run_began)) => failure.is_waited_for(run_began, patience, now),
            // `invalidate` or `rotate` has ended the backoff since.
            None => patience.allows(error),
        }
    }

    /// Takes what must be dropped or woken without the lock.
    pub(super) fn take_removed(&mut self) -> Removed<F> {
        let removed = self.rare.as_mut().map_or_else(Removed::default, |rare| std::mem::take(&mut rare.removed));
        self.rare.take_if(|rare| rare.is_empty());
        removed
    }
}

pub(super) fn is_usable(token: &Token, now: Now) -> bool {
    let deadlines = token.deadlines();
    !now.reached(&deadlines.usable_until) && !refresh::was_set_back(deadlines.fetched_at.mono, now.mono)
}

/// Whether a token may be stamped without a look at the slot: it is usable, and no refresh is due.
#[inline]
pub(super) fn is_fresh(token: &Token, now: Now) -> bool {
    !now.reached(&token.deadlines().refresh_at) && !refresh::was_set_back(token.deadlines().fetched_at.mono, now.mono)
}

/// Whether a usable token is in its refresh window.
fn in_window(token: &Token, now: Now) -> bool {
    now.reached(&token.deadlines().refresh_at)
}

#[cfg(test)]
mod tests;
