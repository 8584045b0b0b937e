//! What a readiness probe asks.

use std::time::{Duration, SystemTime};

use super::slot::View;
use crate::error::ErrorKind;

/// The state of one key, read without I/O.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenStatus {
    /// Where the key stands.
    pub state: TokenState,
    /// Until when the token is stamped, if there is a usable one.
    pub usable_until: Option<SystemTime>,
    /// What the last token request failed with; `None` after a success.
    pub last_error: Option<ErrorKind>,
    /// How long the issuer is left alone from now on.
    pub next_try: Option<Duration>,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenState {
    /// No token; the next request asks for one.
    Missing,
    /// A usable token.
    Fresh,
    /// A token request is in the air, with or without a usable token meanwhile.
    Refreshing,
    /// A usable token in its refresh window, whose renewal is due or has failed.
    Stale,
    /// No usable token, and the issuer is left alone after a failure.
    Backoff,
}

impl TokenStatus {
    /// Whether a request would be stamped at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.usable_until.is_some()
    }

    pub(super) fn missing() -> Self {
        Self { state: TokenState::Missing, usable_until: None, last_error: None, next_try: None }
    }

    pub(super) fn of(view: &View) -> Self {
        let state = match (&view.usable, view.in_air) {
            (_, true) => TokenState::Refreshing,
            (Some(_), false) if view.stale => TokenState::Stale,
            (Some(_), false) => TokenState::Fresh,
            (None, false) if view.next_try.is_some() => TokenState::Backoff,
            (None, false) => TokenState::Missing,
        };
        Self {
            state,
            usable_until: view.usable.as_ref().map(|token| token.deadlines().usable.wall),
            last_error: view.last_error.as_ref().map(crate::error::Error::kind),
            next_try: view.next_try,
        }
    }
}
