//! Rejections of the current token.

use std::time::Duration;

use super::Slot;
use crate::clock::Now;
use crate::refresh::{Budget, Held};
use crate::source::action::{FetchCause, Patience, RejectionOutcome, SlotAction, Wanted};
use crate::token::Token;

impl<F> Slot<F> {
    /// Records that a server rejected the token of `generation`. A fetch that starts because of that sets the token aside for
    /// `set_aside`.
    pub(in crate::source) fn reject(
        &mut self,
        generation: u64,
        set_aside: Duration,
        patience: Patience,
        now: Now,
    ) -> RejectionOutcome {
        self.settle(now);
        let Some(token) = self.current_of(generation, now) else {
            return RejectionOutcome::NotCurrent(self.request(Wanted::Usable, patience, now));
        };
        self.rare().rejections.add(&token, now);
        if let Some(outcome) = self.switch(&token, now) {
            return outcome;
        }
        let throttle = self.rare().rejections.throttle.is_some();
        let held = self.held(now);
        // A token that is confirmed dead is still stamped.
        let set_aside = if held == Held::Dead { Duration::ZERO } else { set_aside };
        if let Some(fetch) = &mut self.in_flight {
            if !throttle {
                fetch.join_rejection(set_aside, now);
            }
            return RejectionOutcome::Replace(SlotAction::Join);
        }
        let ended_by = self.rare().backoff_ended_by;
        let backoff = self.failure().filter(|failure| failure.in_backoff(held, now));
        let ends_backoff = backoff.is_some();
        if let Some(failure) = backoff
            && (!failure.ends_on_rejection(held, now) || ended_by == generation)
        {
            return RejectionOutcome::Backoff(failure.shared(held, now));
        }
        if let Some(error) = self.backoff_after_cancelled(Held::Nothing, now) {
            return RejectionOutcome::Backoff(error);
        }
        let rare = self.rare();
        if !rare.rejections.fetch_is_due(&token, now) {
            return RejectionOutcome::BudgetExhausted;
        }
        let budget = rare.budget.get_or_insert_with(|| Budget::full(now.mono));
        if !budget.take(token.is_accepted(), now.mono) {
            if token.is_accepted() && budget.is_overused() {
                rare.rejections.begin_throttle(token.deadlines().fetched_at.mono, now);
            }
            return RejectionOutcome::BudgetExhausted;
        }
        rare.rejections.rejection_starts_fetch(&token, now);
        if ends_backoff {
            rare.backoff_ended_by = generation;
            rare.set_failure(None);
        }
        let cause = if throttle { FetchCause::ThrottledRejection } else { FetchCause::Rejection { set_aside } };
        RejectionOutcome::Replace(SlotAction::Fetch(cause))
    }

    /// Records that a server rejected a replay with the token of `generation`. That starts no fetch.
    pub(in crate::source) fn reject_replay(&mut self, generation: u64, now: Now) {
        self.settle(now);
        let Some(token) = self.current_of(generation, now) else {
            return;
        };
        let rare = self.rare();
        if rare.new_token_waits() {
            // A request that is rejected with both tokens shows nothing about the old one.
            rare.rejections.add(&token, now);
            return;
        }
        rare.rejections.add_replay(&token, now);
        if rare.replacement.is_some() {
            self.switch(&token, now);
        }
    }

    fn current_of(&self, generation: u64, now: Now) -> Option<Token> {
        self.usable_or_set_aside(now).filter(|token| token.generation() == generation).cloned()
    }

    /// While the token that an early refresh replaced is kept, a rejection of one of the two tokens makes the other one
    /// current.
    fn switch(&mut self, token: &Token, now: Now) -> Option<RejectionOutcome> {
        let rare = self.rare.as_mut()?;
        let current = self.current.as_mut()?;
        let replacement = rare.replacement.as_mut()?;
        let throttled = rare.rejections.throttle.is_some() && !rare.rejections.is_dead(token);
        if replacement.new_is_current() {
            if replacement.was_tried() && current.is_rejected() && replacement.other().is_rejected() {
                // Neither token is of use, so the rejection starts a fetch.
                rare.replacement = None;
                return None;
            }
            replacement.fall_back(current, now);
        } else if !throttled {
            *current = rare.replacement.take()?.into_other();
        } else if replacement.other().is_accepted() {
            replacement.try_new(current);
        } else {
            // One rejection does not show that the old token is dead. The new one waits for its next try.
            return Some(RejectionOutcome::BudgetExhausted);
        }
        let current = self.current.clone()?;
        Some(RejectionOutcome::Replace(SlotAction::Stamp(current)))
    }
}
