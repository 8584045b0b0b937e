//! The part of a slot that most slots do not need.

use std::time::{Duration, Instant};

use super::forget::Invalidation;
use crate::clock::Now;
use crate::error::Error;
use crate::refresh::{self, Budget};
use crate::source::action::Demand;
use crate::source::failure::{CancelledFetches, Failure, FailuresInARow};
use crate::source::rejections::Rejections;
use crate::source::replacement::Replacement;
use crate::token::Token;

pub(super) struct Rare<F> {
    pub(super) failure: Option<Failure>,
    pub(super) failures: FailuresInARow,
    pub(super) cancelled: Option<CancelledFetches>,
    /// `None` if it is full.
    pub(super) budget: Option<Budget>,
    /// The generation of the rejected token that last ended a backoff; 0 if there is none.
    pub(super) backoff_ended_by: u64,
    pub(super) rejections: Rejections,
    pub(super) replacement: Option<Replacement>,
    /// When the last early refresh returned no better token, and the backoff after it.
    pub(super) early: Option<(Instant, Duration)>,
    pub(super) on_demand: OnDemand,
    pub(super) invalidation: Invalidation,
    /// The newest token that `invalidate` or `rotate` removed, until a fetch stores another one or it expires.
    pub(super) removed_token: Option<Token>,
    /// Wakes the callers that wait for something other than the result of a fetch.
    pub(super) waiters: Option<F>,
    pub(super) removed: Removed<F>,
}

/// What a slot no longer needs. Dropping an error or waking a caller may run code of the user, so both happen after the lock
/// of the slot is released.
pub(in crate::source) struct Removed<F> {
    pub(in crate::source) errors: Vec<Error>,
    /// The callers that wait with these look the token up again.
    pub(in crate::source) handles: Vec<F>,
}

/// When the last fetch began that each method wanted.
#[derive(Default)]
pub(super) struct OnDemand {
    refresh: Option<Instant>,
    valid_for: Option<Instant>,
}

impl OnDemand {
    pub(super) fn fetch_starts(&mut self, demand: Demand, now: Now) {
        *(match demand {
            Demand::Refresh => &mut self.refresh,
            Demand::ValidFor(_) => &mut self.valid_for,
        }) = Some(now.mono);
    }

    /// Whether a fetch may begin.
    pub(super) fn is_due(&self, demand: Demand, now: Now) -> bool {
        let last = match demand {
            Demand::Refresh => self.refresh,
            Demand::ValidFor(_) => self.valid_for,
        };
        last.is_none_or(|at| refresh::passed(at, refresh::ON_DEMAND_INTERVAL, now.mono))
    }

    fn prune(&mut self, now: Now) {
        for last in [&mut self.refresh, &mut self.valid_for] {
            last.take_if(|at| refresh::passed(*at, refresh::ON_DEMAND_INTERVAL, now.mono));
        }
    }

    fn is_empty(&self) -> bool {
        self.refresh.is_none() && self.valid_for.is_none()
    }
}

impl<F> Rare<F> {
    /// Whether the old token is current again, and the new one waits for its next try.
    pub(super) fn new_token_waits(&self) -> bool {
        self.replacement.as_ref().is_some_and(|replacement| !replacement.new_is_current())
    }

    pub(super) fn set_failure(&mut self, failure: Option<Failure>) {
        let removed = std::mem::replace(&mut self.failure, failure);
        self.removed.errors.extend(removed.map(|failure| failure.error));
    }

    /// Ends the backoff, and forgets the failures before it.
    pub(super) fn clear_failures(&mut self) {
        self.cancelled = None;
        self.set_failure(None);
        self.failures = FailuresInARow::default();
    }

    /// Wakes the callers that wait for something other than the result of a fetch.
    pub(super) fn wake_waiters(&mut self) {
        self.removed.handles.extend(self.waiters.take());
    }

    /// Forgets what has no effect any more.
    pub(super) fn prune(&mut self, current: Option<&Token>, now: Now) {
        self.budget.take_if(|budget| budget.is_full(now.mono));
        self.on_demand.prune(now);
        self.early.take_if(|(since, length)| refresh::passed(*since, *length, now.mono));
        if self.backoff_ended_by != current.map_or(0, Token::generation) {
            self.backoff_ended_by = 0;
        }
        self.rejections.prune(current, now);
        self.invalidation.prune(now);
        self.removed_token.take_if(|token| now.reached(&token.deadlines().expires_at));
    }

    /// Whether the slot does not need this any more.
    pub(super) fn is_empty(&self) -> bool {
        self.rejections.is_empty()
            && self.failure.is_none()
            && self.failures.is_empty()
            && self.cancelled.is_none()
            && self.budget.is_none()
            && self.backoff_ended_by == 0
            && self.replacement.is_none()
            && self.early.is_none()
            && self.on_demand.is_empty()
            && self.invalidation.is_empty()
            && self.removed_token.is_none()
            && self.waiters.is_none()
            && self.removed.errors.is_empty()
            && self.removed.handles.is_empty()
    }
}

impl<F> Default for Rare<F> {
    fn default() -> Self {
        Self {
            failure: None,
            failures: FailuresInARow::default(),
            cancelled: None,
            budget: None,
            backoff_ended_by: 0,
            rejections: Rejections::default(),
            replacement: None,
            early: None,
            on_demand: OnDemand::default(),
            invalidation: Invalidation::default(),
            removed_token: None,
            waiters: None,
            removed: Removed::default(),
        }
    }
}

impl<F> Default for Removed<F> {
    fn default() -> Self {
        Self { errors: Vec::new(), handles: Vec::new() }
    }
}
