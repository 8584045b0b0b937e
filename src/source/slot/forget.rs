//! `invalidate` and `rotate`.

use std::time::{Duration, Instant};

use super::Slot;
use super::in_flight::Progress;
use crate::clock::Now;
use crate::refresh::{self, INVALIDATION_INTERVAL};
use crate::source::replacement::Replacement;

/// What limits how often `invalidate` and `rotate` cause fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Invalidation {
    /// Whether `invalidate` was called, and no fetch has begun since.
    fetch_is_due: bool,
    /// When the last fetch began that `invalidate` caused.
    fetch_began: Option<Instant>,
    backoff_ended: Option<Instant>,
    rotated: Option<Instant>,
    /// Whether `rotate` was called too soon after the last call. It takes effect in full later.
    rotation_is_due: bool,
    /// Whether `rotate` causes the next fetch.
    rotation_fetches: bool,
}

impl Invalidation {
    /// For how long no fetch may begin.
    pub(super) fn delay(&self, now: Now) -> Option<Duration> {
        let began = self.fetch_began.filter(|_| self.fetch_is_due)?;
        Some(refresh::remaining(began, INVALIDATION_INTERVAL, now.mono)).filter(|left| !left.is_zero())
    }

    /// Returns whether `rotate` caused the fetch.
    pub(super) fn fetch_starts(&mut self, now: Now) -> bool {
        if std::mem::take(&mut self.fetch_is_due) {
            self.fetch_began = Some(now.mono);
        }
        std::mem::take(&mut self.rotation_fetches)
    }

    /// Whether `rotate` causes the next fetch.
    pub(super) fn rotation_fetches(&self) -> bool {
        self.rotation_fetches
    }

    /// A fetch has stored a token. It began after the last call, or the provider made that call in it.
    pub(super) fn token_is_stored(&mut self) {
        self.fetch_is_due = false;
        self.rotation_is_due = false;
        self.rotation_fetches = false;
    }

    /// Forgets what has no effect any more.
    pub(super) fn prune(&mut self, now: Now) {
        for at in [&mut self.fetch_began, &mut self.backoff_ended, &mut self.rotated] {
            *at = at.filter(|_| lately(*at, now));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn lately(at: Option<Instant>, now: Now) -> bool {
    at.is_some_and(|at| !refresh::passed(at, INVALIDATION_INTERVAL, now.mono))
}

impl<F> Slot<F> {
    /// Removes every token. A running fetch serves the callers that wait for it, and no others. `own` is the fetch whose
    /// provider calls this: it serves the others too.
    pub(in crate::source) fn invalidate(&mut self, own: Option<u64>, now: Now) {
        self.settle(now);
        self.remove_tokens(false);
        self.invalidate_fetch(own, now);
    }

    /// Removes every token, ends every backoff and discards the running fetch. `own` is the fetch whose provider calls this:
    /// it uses the new credentials and continues.
    pub(in crate::source) fn rotate(&mut self, own: Option<u64>, now: Now) {
        self.settle(now);
        self.remove_tokens(true);
        let by_rotation = self.in_flight.as_ref().filter(|fetch| fetch.by_rotation).map(|fetch| fetch.id);
        let invalidation = &mut self.rare().invalidation;
        if by_rotation.is_some() || lately(invalidation.rotated, now) {
            // A fetch that makes this call uses the new credentials, so nothing is left to do after it.
            invalidation.rotation_is_due = by_rotation.is_none() || by_rotation != own;
            return self.invalidate_fetch(own, now);
        }
        invalidation.fetch_is_due = false;
        self.discard_fetch(own, now);
    }

    /// Whether the fetch `id` is running, and its token will be stored.
    pub(in crate::source) fn is_running(&self, id: u64) -> bool {
        self.in_flight.as_ref().is_some_and(|fetch| fetch.id == id && fetch.progress() == Progress::Running)
    }

    /// The rest of a rotation that came too soon after the one before.
    pub(super) fn rotate_in_full(&mut self, now: Now) {
        let Some(rare) = &mut self.rare else { return };
        let invalidation = &mut rare.invalidation;
        let by_rotation = self.in_flight.as_ref().is_some_and(|fetch| fetch.by_rotation);
        if !invalidation.rotation_is_due || by_rotation || lately(invalidation.rotated, now) {
            return;
        }
        invalidation.rotation_is_due = false;
        // A fetch that began since the call uses the new credentials.
        let running = self.in_flight.as_ref().filter(|fetch| fetch.progress() == Progress::Running);
        let own = running.map(|fetch| fetch.id);
        self.discard_fetch(own, now);
    }

    fn remove_tokens(&mut self, credentials_changed: bool) {
        let current = self.current.take();
        self.forgotten = true;
        let rare = self.rare();
        let other = rare.replacement.take().map(Replacement::into_other);
        for token in [current, other].into_iter().flatten() {
            if rare.removed_token.as_ref().is_none_or(|removed| removed.generation() < token.generation()) {
                rare.removed_token = Some(token);
            }
        }
        rare.rejections.forget(credentials_changed);
    }

    fn invalidate_fetch(&mut self, own: Option<u64>, now: Now) {
        if let Some(fetch) = self.in_flight.as_mut().filter(|fetch| own != Some(fetch.id)) {
            fetch.invalidate();
        }
        let in_backoff = !self.may_fetch(now);
        let rare = self.rare();
        rare.invalidation.fetch_is_due = true;
        // A loop of invalidations must not remove the protection of the issuer.
        let ends = in_backoff && rare.failure.as_ref().is_none_or(|failure| failure.ends_on_invalidation());
        if ends && !lately(rare.invalidation.backoff_ended, now) {
            rare.cancelled = None;
            rare.set_failure(None);
            rare.invalidation.backoff_ended = Some(now.mono);
        }
        rare.wake_waiters();
    }

    fn discard_fetch(&mut self, own: Option<u64>, now: Now) {
        let fetch = self.in_flight.as_mut().filter(|fetch| own != Some(fetch.id));
        let handle = fetch.and_then(|fetch| fetch.discard());
        let rare = self.rare();
        rare.removed.handles.extend(handle);
        rare.clear_failures();
        rare.invalidation.rotated = Some(now.mono);
        rare.invalidation.rotation_fetches = true;
        rare.wake_waiters();
    }
}
