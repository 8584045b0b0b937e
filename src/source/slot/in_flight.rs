//! The running fetch of a slot.

use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::refresh;
use crate::source::action::FetchCause;

/// A fetch of the slot that has not ended.
pub(in crate::source) struct InFlight<F> {
    pub(in crate::source) id: u64,
    /// `None` once the fetch is discarded.
    pub(in crate::source) handle: Option<F>,
    started: Instant,
    outdated: bool,
    /// Whether the fetch replaces a rejected token.
    after_rejection: bool,
    /// Whether the token that the fetch replaces may be kept beside the new one.
    keeps_replaced: bool,
    /// When the current token was set aside, and for how long.
    set_aside: Option<(Instant, Duration)>,
    /// Whether `rotate` caused the fetch.
    pub(super) by_rotation: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Progress {
    Running,
    /// `invalidate` was called since the fetch began: it serves the callers that waited then, and no others.
    Outdated,
    /// `rotate` discarded the fetch, and its task has not ended.
    Discarded,
}

impl<F> InFlight<F> {
    pub(super) fn new(id: u64, handle: F, cause: FetchCause, by_rotation: bool, now: Now) -> Self {
        let set_aside = match cause {
            FetchCause::Rejection { set_aside } => Some((now.mono, set_aside)),
            _ => None,
        };
        Self {
            id,
            handle: Some(handle),
            started: now.mono,
            outdated: false,
            after_rejection: set_aside.is_some(),
            keeps_replaced: matches!(
                cause,
                FetchCause::Early | FetchCause::ThrottledRejection | FetchCause::OnDemand(_)
            ),
            set_aside,
            by_rotation,
        }
    }

    pub(in crate::source) fn progress(&self) -> Progress {
        match &self.handle {
            None => Progress::Discarded,
            Some(_) if self.outdated => Progress::Outdated,
            Some(_) => Progress::Running,
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn is_after_rejection(&self) -> bool {
        self.after_rejection
    }

    pub(super) fn keeps_replaced(&self) -> bool {
        self.keeps_replaced
    }

    /// A rejection of the current token joins the fetch. The token is set aside once per fetch.
    pub(super) fn join_rejection(&mut self, set_aside: Duration, now: Now) {
        self.after_rejection = true;
        self.keeps_replaced = false;
        self.set_aside.get_or_insert((now.mono, set_aside));
    }

    /// For how long the current token is still set aside.
    pub(super) fn set_aside_for(&self, now: Now) -> Option<Duration> {
        let (since, length) = self.set_aside?;
        Some(refresh::remaining(since, length, now.mono)).filter(|left| !left.is_zero())
    }

    pub(super) fn runs_longer_than(&self, longest: Duration, now: Now) -> bool {
        now.mono.saturating_duration_since(self.started) > longest
    }

    pub(super) fn invalidate(&mut self) {
        self.outdated = true;
    }

    /// Cancels the fetch. Returns its handle.
    pub(super) fn discard(&mut self) -> Option<F> {
        self.handle.take()
    }
}
