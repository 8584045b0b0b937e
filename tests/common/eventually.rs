//! A spin that ends: one without end is how a test hangs instead of failing.

use std::time::{Duration, Instant};

/// A guard in real time, and never the measure of a test.
const GUARD: Duration = Duration::from_secs(60);

/// Lets the other tasks run until `holds`, in real time and in paused time alike.
#[expect(
    clippy::disallowed_methods,
    reason = "paused time stands still while a task spins, so the guard is in real time"
)]
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < GUARD, "{what}: not within {GUARD:?}");
        tokio::task::yield_now().await;
    }
}
