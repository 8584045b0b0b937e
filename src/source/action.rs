//! What a slot returns.

use std::time::Duration;

use crate::error::Error;
use crate::token::Token;

/// What to do for a request that needs a token.
#[derive(Debug)]
pub(super) enum SlotAction {
    /// Stamp this token.
    Stamp(Token),
    /// Stamp this token, and start a fetch.
    StampAndFetch(Token),
    /// Wait for the running fetch.
    Join,
    /// Start a fetch and wait for it.
    Fetch,
    /// Fail: there is no token, and no fetch may start during the backoff.
    Fail(Error),
}

impl SlotAction {
    /// Whether the action starts a fetch or waits for one, which needs a runtime with timers.
    pub(super) fn needs_runtime(&self) -> bool {
        matches!(self, Self::StampAndFetch(_) | Self::Join | Self::Fetch)
    }
}

/// What to do after a rejection.
#[derive(Debug)]
pub(super) enum RejectionOutcome {
    /// The same as for a request that needs a token.
    Proceed(SlotAction),
    /// The budget for refreshes is empty.
    BudgetExhausted,
    /// No fetch may start during the backoff.
    Backoff(Error),
}

/// A snapshot of a slot.
#[derive(Debug)]
pub(super) struct SlotView {
    pub(super) usable: Option<Token>,
    pub(super) in_window: bool,
    pub(super) in_flight: bool,
    pub(super) last_error: Option<Error>,
    pub(super) next_try: Option<Duration>,
}
