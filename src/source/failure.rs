//! What a slot remembers about failed and cancelled fetches.

use std::time::{Duration, Instant};

use super::action::Patience;
use super::jitter::Jitter;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::refresh::{self, Backoff, Held};

/// The last failure of a fetch, and the backoff after it.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) at: Instant,
    pub(super) backoff: Backoff,
}

/// How many fetches of a key have failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailuresInARow {
    /// Since the last success. Permanent failures in between do not count, and do not end the row.
    transient: u32,
    /// Since the last fetch that did not fail permanently.
    permanent: u32,
    /// When the first failed fetch of the run of failures began.
    run_began: Option<Instant>,
    /// The last failure, and the backoff after it. A rejection or `invalidate` may have ended it since.
    last: Option<(Instant, Backoff)>,
}

impl FailuresInARow {
    pub(super) fn is_empty(&self) -> bool {
        self.transient == 0 && self.permanent == 0 && self.run_began.is_none()
    }

    pub(super) fn permanent(&self) -> u32 {
        self.permanent
    }

    pub(super) fn run_began(&self) -> Option<Instant> {
        self.run_began
    }

    /// A fetch starts. If it starts long after the last backoff, the run of failures is over.
    pub(super) fn fetch_starts(&mut self, held: Held, now: Now) {
        let over = self.last.is_none_or(|(at, backoff)| {
            let length = backoff.length(held).saturating_add(refresh::RUN_OF_FAILURES_GAP);
            now.mono.saturating_duration_since(at) > length || refresh::was_set_back(at, now.mono)
        });
        if over {
            self.run_began = None;
        }
    }

    fn add(&mut self, transient: bool, began: Instant, last: (Instant, Backoff)) {
        self.run_began.get_or_insert(began);
        self.last = Some(last);
        if transient {
            self.transient = self.transient.saturating_add(1);
            self.permanent = 0;
        } else {
            self.permanent = self.permanent.saturating_add(1);
        }
    }
}

impl Failure {
    /// `before` are the failures before this one, to which this one is added. `usable_for` is how long the cached token is
    /// still usable. `began` is when the fetch began.
    pub(super) fn new(
        error: Error,
        before: &mut FailuresInARow,
        began: Instant,
        usable_for: Option<Duration>,
        jitter: &mut Jitter,
        now: Now,
    ) -> Self {
        if let Some(backoff) = error.shared_backoff() {
            let backoff = Backoff::shared(backoff, jitter.draw());
            // A transient failure counts in the process that called the issuer.
            let transient = before.transient;
            before.add(error.is_transient(), began, (now.mono, backoff));
            before.transient = transient;
            return Self { error, at: now.mono, backoff };
        }
        let mut backoff = if error.is_transient() {
            Backoff::transient(before.transient, usable_for, jitter.draw())
        } else {
            Backoff::permanent(before.permanent, jitter.draw())
        };
        if let Some(delay) = error.retry_after() {
            backoff = backoff.at_least(delay, before.transient, jitter.draw());
        }
        before.add(error.is_transient(), began, (now.mono, backoff));
        Self { error, at: now.mono, backoff }
    }

    /// Whether a rejection of the current token may end the backoff: the failure is transient, and its `Retry-After` is
    /// over.
    pub(super) fn ends_on_rejection(&self, held: Held, now: Now) -> bool {
        self.error.is_transient() && self.retry_after_is_over(held, now)
    }

    fn retry_after_is_over(&self, held: Held, now: Now) -> bool {
        let requested =
            self.error.retry_after().map_or(Duration::ZERO, |delay| refresh::retry_after_limit(delay, held));
        refresh::passed(self.at, requested, now.mono)
    }

    /// Whether `invalidate` may end the backoff: the failure is transient, and the issuer asked for no `Retry-After`.
    pub(super) fn ends_on_invalidation(&self) -> bool {
        self.error.is_transient() && self.error.retry_after().is_none()
    }

    /// The rest of the backoff.
    pub(super) fn remaining(&self, held: Held, now: Now) -> Duration {
        refresh::remaining(self.at, self.backoff.length(held), now.mono)
    }

    pub(super) fn in_backoff(&self, held: Held, now: Now) -> bool {
        !self.remaining(held, now).is_zero()
    }

    /// The error for callers: with the time until the next fetch may start.
    pub(super) fn shared(&self, held: Held, now: Now) -> Error {
        self.error.clone().with_retry_after(self.remaining(held, now))
    }

    /// Whether a caller without a token waits for the end of the backoff: `run_began` is when the run of failures began.
    pub(super) fn is_waited_for(&self, run_began: Option<Instant>, patience: Patience, now: Now) -> bool {
        if !patience.allows(&self.error) {
            return false;
        }
        let length = self.backoff.length(Held::Nothing);
        let in_time = |limit: Duration| {
            let before = run_began.map_or(Duration::ZERO, |began| self.at.saturating_duration_since(began));
            before.saturating_add(length) <= limit
        };
        self.remaining(Held::Nothing, now) <= patience.max_wait && patience.limit.is_none_or(in_time)
    }
}

/// The number of fetches in a row that were cancelled with their runtimes, and the backoff after the last one.
#[derive(Debug, Default)]
pub(super) struct CancelledFetches {
    in_a_row: u32,
    last: Option<(Instant, Backoff)>,
}

impl CancelledFetches {
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Adds one. The first one causes no backoff for callers without a token: one runtime that shuts down is not a
    /// pattern.
    pub(super) fn add(&mut self, mut backoff: Backoff, now: Now) {
        if self.in_a_row == 0 {
            backoff.without_token = Duration::ZERO;
            backoff.with_dead_token = Duration::ZERO;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some((now.mono, backoff));
    }

    /// During the backoff: the error for a caller that needs a fetch.
    pub(super) fn backoff(&self, held: Held, now: Now) -> Option<Error> {
        let (since, backoff) = self.last.as_ref()?;
        let left = refresh::remaining(*since, backoff.length(held), now.mono);
        if left.is_zero() {
            return None;
        }
        let error = Error::new(
            ErrorKind::Unavailable,
            "the last token requests were cancelled when their tokio runtimes ended",
        );
        Some(error.with_hint("send requests from a runtime that outlives them").with_retry_after(left))
    }
}
