//! The wall clock that the servers' tokens are judged by.

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::{Clock as _, SystemClock};

/// The time since the epoch.
pub(crate) fn since_epoch() -> Duration {
    SystemClock.now().wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}
