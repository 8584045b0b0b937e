//! What a slot remembers about failed and cancelled fetches.

use std::time::{Duration, Instant};

use super::jitter::Jitter;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::refresh::{self, Backoff};

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
}

impl FailuresInARow {
    fn add(&mut self, transient: bool) {
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
    /// still usable.
    pub(super) fn new(
        error: Error,
        before: &mut FailuresInARow,
        usable_for: Option<Duration>,
        jitter: &mut Jitter,
        now: Now,
    ) -> Self {
        let mut backoff = if error.is_transient() {
            Backoff::transient(before.transient, usable_for, jitter.draw())
        } else {
            Backoff::permanent(before.permanent, jitter.draw())
        };
        if let Some(delay) = error.retry_after() {
            backoff = backoff.at_least(delay, before.transient, jitter.draw());
        }
        before.add(error.is_transient());
        Self { error, at: now.mono, backoff }
    }

    /// Whether a rejection of the current token may end the backoff: the failure is transient, and its `Retry-After` is
    /// over.
    pub(super) fn ends_on_rejection(&self, now: Now) -> bool {
        let requested = self.error.retry_after().map_or(Duration::ZERO, refresh::retry_after_with_token);
        self.error.is_transient() && refresh::passed(self.at, requested, now.mono)
    }

    /// The rest of the backoff: with a usable token, or without one.
    pub(super) fn remaining(&self, with_token: bool, now: Now) -> Duration {
        let length = if with_token { self.backoff.with_token } else { self.backoff.without_token };
        refresh::remaining(self.at, length, now.mono)
    }

    pub(super) fn in_backoff(&self, with_token: bool, now: Now) -> bool {
        !self.remaining(with_token, now).is_zero()
    }

    /// The error for callers: with the time until the next try.
    pub(super) fn shared(&self, with_token: bool, now: Now) -> Error {
        self.error.clone().with_retry_after(self.remaining(with_token, now))
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
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some((now.mono, backoff));
    }

    /// During the backoff: the error for a caller that needs a fetch.
    pub(super) fn backoff(&self, with_token: bool, now: Now) -> Option<Error> {
        let (since, backoff) = self.last.as_ref()?;
        let length = if with_token { backoff.with_token } else { backoff.without_token };
        let left = refresh::remaining(*since, length, now.mono);
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
