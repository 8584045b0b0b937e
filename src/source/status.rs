//! The state of one key, for readiness probes.

use std::time::{Duration, SystemTime};

use super::action::SlotView;
use crate::error::{Error, ErrorKind};

/// The state of one key. [`TokenSource::status`](crate::TokenSource::status) returns it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenStatus {
    /// The state.
    pub state: TokenState,
    /// Until when the source returns the cached token: its expiry time less a margin. `None` if no token is usable. That
    /// includes a rejected token while it is set aside.
    pub usable_until: Option<SystemTime>,
    /// The error of the last token request. `None` if it succeeded, or if there was none.
    pub last_error: Option<ErrorKind>,
    /// The rest of the backoff after that error. `None` if there is no backoff.
    pub next_try: Option<Duration>,
}

/// The state of one key. [The guide](crate::guide::how_it_works) has a state diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenState {
    /// There is no usable token. The next request starts a fetch and waits for it.
    Missing,
    /// There is a usable token, and no refresh is due.
    Fresh,
    /// A fetch is running. There may be a usable token meanwhile. A token that a server rejected is set aside for a part of
    /// that time: requests wait.
    Refreshing,
    /// There is a usable token in its refresh window. The next request starts a fetch, unless a backoff is running.
    Stale,
    /// There is no usable token, and the last fetch failed. Requests fail at once until the backoff ends, unless it ends within
    /// [`patience`](crate::TokenSourceBuilder::patience).
    Backoff,
    /// Servers have rejected the token at least three times, and none has accepted it between. Requests are still stamped with
    /// it, because it may be rejected on one route alone.
    Rejected,
}

impl TokenStatus {
    /// Whether there is a usable token, so that a request does not wait. This is also the case in the state
    /// [`Rejected`](TokenState::Rejected).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.usable_until.is_some()
    }

    pub(super) fn missing() -> Self {
        Self { state: TokenState::Missing, usable_until: None, last_error: None, next_try: None }
    }

    pub(super) fn of(view: &SlotView) -> Self {
        let state = match (&view.usable, view.in_flight) {
            (Some(_), _) if view.dead => TokenState::Rejected,
            (_, true) => TokenState::Refreshing,
            (Some(_), false) if view.in_window => TokenState::Stale,
            (Some(_), false) => TokenState::Fresh,
            (None, false) if view.next_try.is_some() => TokenState::Backoff,
            (None, false) => TokenState::Missing,
        };
        Self {
            state,
            usable_until: view.usable.as_ref().map(|token| token.deadlines().usable_until.wall),
            last_error: view.last_error.as_ref().map(Error::kind),
            next_try: view.next_try,
        }
    }
}
