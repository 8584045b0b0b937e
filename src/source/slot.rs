//! The state machine of one key. It is pure: time, random numbers and fetches are passed in, and nothing waits.

use std::time::{Duration, Instant};

use http::HeaderValue;

use super::action::{RejectionOutcome, SlotAction, SlotView};
use super::failure::{CancelledFetches, Failure, FailuresInARow};
use super::jitter::Jitter;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::message::Rejection;
use crate::provider::{FetchContext, FetchReason};
use crate::refresh::{self, Backoff, Budget, RefreshPolicy};
use crate::token::{IssuedToken, Token};

/// The state of one key. `F` is the handle of a fetch; the slot stores it and does not use it.
pub(super) struct Slot<F> {
    current: Option<Token>,
    /// The rejected token that the running fetch is to replace.
    rejected: Option<RejectedToken>,
    /// The rejected token that was removed because the fetch after its rejection failed. For the context of the next
    /// fetch.
    last_rejected: Option<Token>,
    in_flight: Option<InFlight<F>>,
    /// Boxed, because most slots have none.
    failure: Option<Box<Failure>>,
    /// Errors that are no longer needed. Their destructors may run code of the user, so they are dropped after the lock
    /// of the slot is released.
    removed_errors: Vec<Error>,
    failures: FailuresInARow,
    budget: Budget,
    /// Boxed, because most slots have none.
    cancelled: Option<Box<CancelledFetches>>,
    /// When the last early refresh returned no better token, and the backoff after it.
    early: Option<(Instant, Duration)>,
    /// The generation of the rejected token that last ended a backoff; 0 if there is none.
    backoff_ended_by: u64,
    failure_cleared_at: Option<Instant>,
    /// Whether `rotate` or `invalidate` removed the token, and no fetch has stored a new one.
    forgotten: bool,
    jitter: Jitter,
    /// The entry is no longer in the map. A caller that still has it gets the new entry of the key.
    pub(super) evicted: bool,
}

struct RejectedToken {
    token: Token,
    /// Whether the server named the token as invalid.
    invalid: bool,
}

pub(super) struct InFlight<F> {
    pub(super) id: u64,
    pub(super) handle: F,
    started: Instant,
}

impl<F> Slot<F> {
    pub(super) fn new(jitter: Jitter, now: Now) -> Self {
        Self {
            current: None,
            rejected: None,
            last_rejected: None,
            in_flight: None,
            failure: None,
            removed_errors: Vec::new(),
            failures: FailuresInARow::default(),
            budget: Budget::full(now.mono),
            cancelled: None,
            early: None,
            backoff_ended_by: 0,
            failure_cleared_at: None,
            forgotten: false,
            jitter,
            evicted: false,
        }
    }

    pub(super) fn current(&self) -> Option<&Token> {
        self.current.as_ref()
    }

    pub(super) fn in_flight(&self) -> Option<&InFlight<F>> {
        self.in_flight.as_ref()
    }

    /// What to do for a request that needs a token.
    pub(super) fn request(&mut self, now: Now) -> SlotAction {
        match self.request_again(now) {
            SlotAction::Fetch => self.backoff_after_cancelled(false, now).map_or(SlotAction::Fetch, SlotAction::Fail),
            action => action,
        }
    }

    /// The same as `request`, for a caller that has waited already. The backoff after cancelled fetches does not apply
    /// to it.
    pub(super) fn request_again(&mut self, now: Now) -> SlotAction {
        if let Some(token) = self.usable(now).cloned() {
            return if self.early_refresh_is_due(&token, now) {
                SlotAction::StampAndFetch(token)
            } else {
                SlotAction::Stamp(token)
            };
        }
        if self.in_flight.is_some() {
            return SlotAction::Join;
        }
        self.backoff(now).map_or(SlotAction::Fetch, SlotAction::Fail)
    }

    /// Whether no backoff keeps a fetch from starting, for a request without a usable token.
    pub(super) fn may_fetch(&self, now: Now) -> bool {
        self.backoff(now).is_none() && self.backoff_after_cancelled(false, now).is_none()
    }

    /// The context of the next fetch. `challenges` are those of the response that rejected the token. They are taken if
    /// the context has them.
    pub(super) fn fetch_context(&self, challenges: &mut Vec<HeaderValue>) -> FetchContext {
        let rejected = self.rejected.as_ref().map(|rejected| &rejected.token);
        let (reason, replaced) = match (rejected, &self.current, &self.last_rejected) {
            (Some(token), _, _) => (FetchReason::Rejected, Some(token)),
            (None, Some(token), _) => (FetchReason::Expiring, Some(token)),
            (None, None, Some(token)) => (FetchReason::Rejected, Some(token)),
            (None, None, None) if self.forgotten => (FetchReason::Rotated, None),
            (None, None, None) => (FetchReason::First, None),
        };
        let challenges = if reason == FetchReason::Rejected { std::mem::take(challenges) } else { Vec::new() };
        FetchContext::new(reason, replaced.cloned(), challenges)
    }

    pub(super) fn start_fetch(&mut self, id: u64, handle: F, now: Now) {
        self.in_flight = Some(InFlight { id, handle, started: now.mono });
    }

    /// Removes the running fetch, if it is the one with this id.
    pub(super) fn take_fetch(&mut self, id: u64) -> Option<F> {
        self.in_flight.take_if(|fetch| fetch.id == id).map(|fetch| fetch.handle)
    }

    /// Removes a fetch that runs for longer than a fetch can take, if a caller needs one: nothing polls its runtime. If
    /// there is a usable token, the fetch may stay until something polls it.
    pub(super) fn take_stuck_fetch(&mut self, longest: Duration, now: Now) -> Option<F> {
        if self.usable(now).is_some() {
            return None;
        }
        self.in_flight
            .take_if(|fetch| now.mono.saturating_duration_since(fetch.started) > longest)
            .map(|fetch| fetch.handle)
    }

    /// Records that a fetch was cancelled with its runtime. A series of runtimes that end must not cause a token
    /// request each.
    pub(super) fn cancel(&mut self, now: Now) {
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable_until));
        let cancelled = self.cancelled.get_or_insert_default();
        cancelled.add(Backoff::transient(cancelled.in_a_row(), usable_for, self.jitter.draw()), now);
    }

    /// Records the result of a fetch. Returns what every waiter of the fetch gets.
    pub(super) fn complete(
        &mut self,
        result: Result<IssuedToken, Error>,
        policy: &RefreshPolicy,
        started: Now,
        now: Now,
        generation: u64,
    ) -> Result<Token, Error> {
        self.cancelled = None;
        let issued = match result {
            Ok(issued) => issued,
            Err(error) => return Err(self.fail(error, now)),
        };
        let deadlines = policy.deadlines(issued.lifetime(), started, now, self.jitter.draw());
        if now.reached(&deadlines.expires_at) {
            let error = Error::new(ErrorKind::Unavailable, "the token had expired when it arrived");
            return Err(self.fail(error.with_hint("a token request takes longer than a token lives"), now));
        }
        if self.rejected.as_ref().is_some_and(|rejected| issued.same_secret(&rejected.token)) {
            let error = Error::new(ErrorKind::Unavailable, "the issuer returned the rejected token again").with_hint(
                "either the issuer has not processed the revocation of the token, or the API rejects a valid token",
            );
            return Err(self.fail(error, now));
        }
        self.set_failure(None);
        self.failures = FailuresInARow::default();
        self.rejected = None;
        let usable_for = now.until(&deadlines.usable_until);
        if let Some(current) = self.usable(now).cloned() {
            let current_for = now.until(&current.deadlines().usable_until);
            if issued.same_secret(&current) || refresh::too_short(usable_for, current_for) {
                self.early = Some((now.mono, refresh::early_backoff(current_for)));
                return Ok(current);
            }
        }
        if usable_for.is_zero() {
            return Ok(Token::new(issued, generation, deadlines, true));
        }
        let token = Token::new(issued, generation, deadlines, false);
        self.early = None;
        self.forgotten = false;
        self.last_rejected = None;
        self.current = Some(token.clone());
        Ok(token)
    }

    /// Records that a server rejected the token of `generation`.
    pub(super) fn reject(&mut self, generation: u64, rejection: Rejection, now: Now) -> RejectionOutcome {
        let invalid = rejection == Rejection::InvalidToken;
        let Some(current) = self.usable(now).filter(|token| token.generation() == generation).cloned() else {
            if let Some(rejected) = self.rejected.as_mut().filter(|rejected| rejected.token.generation() == generation)
            {
                rejected.invalid |= invalid;
            }
            return RejectionOutcome::Proceed(self.request(now));
        };
        let ends_backoff = match &self.failure {
            Some(failure) if failure.in_backoff(true, now) => {
                if !failure.ends_on_rejection(now) || self.backoff_ended_by == generation {
                    return RejectionOutcome::Backoff(failure.shared(true, now));
                }
                true
            }
            _ => false,
        };
        if !self.budget.take(current.is_accepted(), now.mono) {
            return RejectionOutcome::BudgetExhausted;
        }
        if ends_backoff {
            self.backoff_ended_by = generation;
            self.set_failure(None);
        }
        self.current = None;
        self.rejected = Some(RejectedToken { token: current, invalid });
        RejectionOutcome::Proceed(self.request(now))
    }

    /// Removes every token and the running fetch, which is now stale. The current token is not stamped again.
    pub(super) fn forget(&mut self, credentials_changed: bool, now: Now) -> Option<F> {
        self.forget_tokens(credentials_changed, now);
        self.in_flight.take().map(|fetch| fetch.handle)
    }

    /// Removes every token. The running fetch stays: its own provider is the caller.
    pub(super) fn forget_tokens(&mut self, credentials_changed: bool, now: Now) {
        self.current = None;
        self.rejected = None;
        self.last_rejected = None;
        self.early = None;
        self.forgotten = true;
        // A loop of invalidations must not remove the protection of the issuer.
        let lately = self.failure_cleared_at.is_some_and(|at| !refresh::passed(at, Duration::from_secs(1), now.mono));
        if credentials_changed || !lately {
            self.cancelled = None;
            self.set_failure(None);
            self.failures = FailuresInARow::default();
            self.failure_cleared_at = Some(now.mono);
        }
    }

    pub(super) fn view(&self, now: Now) -> SlotView {
        let usable = self.usable(now).cloned();
        let next_try = self.failure.as_ref().map(|failure| failure.remaining(usable.is_some(), now));
        SlotView {
            in_window: usable.as_ref().is_some_and(|token| in_window(token, now)),
            usable,
            in_flight: self.in_flight.is_some(),
            last_error: self.failure.as_ref().map(|failure| failure.error.clone()),
            next_try: next_try.filter(|left| !left.is_zero()),
        }
    }

    /// Whether the slot protects the issuer: it has spent budget, or it is in backoff. Eviction would remove that
    /// protection.
    pub(super) fn guards_issuer(&self, now: Now) -> bool {
        !self.budget.is_full(now.mono) || !self.may_fetch(now)
    }

    pub(super) fn usable(&self, now: Now) -> Option<&Token> {
        self.current.as_ref().filter(|token| is_usable(token, now))
    }

    /// Whether the token of `generation` is the usable one, or the rejected one that the running fetch is to replace.
    pub(super) fn has(&self, generation: u64, now: Now) -> bool {
        let rejected = self.rejected.as_ref().map(|rejected| &rejected.token);
        self.usable(now).into_iter().chain(rejected).any(|token| token.generation() == generation)
    }

    fn early_refresh_is_due(&self, token: &Token, now: Now) -> bool {
        self.in_flight.is_none()
            && in_window(token, now)
            && self.early.is_none_or(|(since, length)| refresh::passed(since, length, now.mono))
            && !self.failure.as_ref().is_some_and(|failure| failure.in_backoff(true, now))
            && self.backoff_after_cancelled(true, now).is_none()
    }

    /// During the backoff after a failure: that failure.
    fn backoff(&self, now: Now) -> Option<Error> {
        let with_token = self.usable(now).is_some();
        self.failure.as_ref().filter(|failure| failure.in_backoff(with_token, now)).map(|f| f.shared(with_token, now))
    }

    fn backoff_after_cancelled(&self, with_token: bool, now: Now) -> Option<Error> {
        self.cancelled.as_ref()?.backoff(with_token, now)
    }

    fn set_failure(&mut self, failure: Option<Failure>) {
        let removed = std::mem::replace(&mut self.failure, failure.map(Box::new));
        self.removed_errors.extend(removed.map(|failure| failure.error));
    }

    pub(super) fn take_removed_errors(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.removed_errors)
    }

    fn fail(&mut self, error: Error, now: Now) -> Error {
        if let Some(RejectedToken { token, invalid }) = self.rejected.take() {
            // A 401 without a reason during an outage of the issuer must not become a full outage.
            *(if invalid { &mut self.last_rejected } else { &mut self.current }) = Some(token);
        }
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable_until));
        let failure = Failure::new(error, &mut self.failures, usable_for, &mut self.jitter, now);
        let shared = failure.shared(usable_for.is_some(), now);
        self.set_failure(Some(failure));
        shared
    }
}

pub(super) fn is_usable(token: &Token, now: Now) -> bool {
    let deadlines = token.deadlines();
    !now.reached(&deadlines.usable_until) && !refresh::was_set_back(deadlines.fetched_at.mono, now.mono)
}

/// Whether a token may be stamped without a look at the slot: it is usable, and no refresh is due.
#[inline]
pub(super) fn is_fresh(token: &Token, now: Now) -> bool {
    !now.reached(token.fresh_until()) && !refresh::was_set_back(token.deadlines().fetched_at.mono, now.mono)
}

fn in_window(token: &Token, now: Now) -> bool {
    token.deadlines().refresh_at.is_some_and(|start| now.reached(&start))
}

impl<F> std::fmt::Debug for Slot<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("current", &self.current)
            .field("in_flight", &self.in_flight.as_ref().map(|fetch| fetch.id))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
