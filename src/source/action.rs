//! What a slot returns.

use std::time::Duration;

use crate::clock::Now;
use crate::error::{Error, ErrorKind};
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
    Fetch(FetchCause),
    /// Look the token up again after this time, or when the slot wakes its waiters. `None`: only when it wakes them.
    LookAgain(Option<Duration>),
    /// Fail: there is no token, and no fetch may start during the backoff.
    Fail(Error),
}

/// Why a slot wants a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchCause {
    /// There is no usable token.
    NoToken,
    /// The token is in its refresh window.
    Early,
    /// The current token was rejected. It is set aside for this long while the fetch runs.
    Rejection { set_aside: Duration },
    /// The current token was rejected, and new tokens do not end the rejections. It stays.
    ThrottledRejection,
    /// A caller wants a new token.
    OnDemand(Demand),
}

/// The method that wants a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Refresh,
    ValidFor(Duration),
}

/// Which token a caller wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Any usable one.
    Usable,
    /// A new one.
    Refreshed,
    /// One with this much time left until it expires.
    ValidFor(Duration),
}

/// How long a caller waits for the end of a backoff.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The longest time from the start of the first failed fetch to the end of the backoff. `None`: no limit.
    pub(super) limit: Option<Duration>,
    /// What is left of the time that the caller waits at all.
    pub(super) max_wait: Duration,
}

impl Patience {
    /// Whether the caller waits after this error at all.
    pub(super) fn allows(&self, error: &Error) -> bool {
        error.is_transient() && error.kind() != ErrorKind::Panicked && self.limit != Some(Duration::ZERO)
    }
}

impl Wanted {
    /// The method that may start a fetch although there is a usable token.
    pub(super) fn demand(self) -> Option<Demand> {
        match self {
            Self::Usable => None,
            Self::Refreshed => Some(Demand::Refresh),
            Self::ValidFor(time) => Some(Demand::ValidFor(time)),
        }
    }

    /// Whether `token`, which is usable, is what the caller wants.
    pub(super) fn is_met_by(self, token: &Token, now: Now) -> bool {
        match self {
            Self::Usable => true,
            Self::Refreshed => false,
            Self::ValidFor(time) => now.until(&token.deadlines().expires_at) >= time,
        }
    }
}

impl SlotAction {
    /// Whether the action starts a fetch or waits, which needs a runtime with timers.
    pub(super) fn needs_runtime(&self) -> bool {
        !matches!(self, Self::Stamp(_) | Self::Fail(_))
    }
}

/// What to do after a rejection.
#[derive(Debug)]
pub(super) enum RejectionOutcome {
    /// The rejected token was current. Do this to replace it.
    Replace(SlotAction),
    /// The rejected token was not current. Do the same as for a request that needs a token.
    NotCurrent(SlotAction),
    /// Too many refreshes after rejections: the budget is empty, or the throttle allows none yet.
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
    /// Whether the token is confirmed dead.
    pub(super) dead: bool,
    pub(super) last_error: Option<Error>,
    pub(super) next_try: Option<Duration>,
}
