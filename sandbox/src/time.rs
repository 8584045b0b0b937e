//! The wall clock that the servers check tokens against.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since the epoch.
#[expect(clippy::disallowed_methods, reason = "this is the only function of the sandbox that reads a clock")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
