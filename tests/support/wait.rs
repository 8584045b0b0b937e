//! Waits with a limit, so that a test fails instead of hanging.

use std::future::Future;
use std::time::{Duration, Instant};

/// The limit, in real time. No test measures it.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// Lets the other tasks run until `condition` is true. It works in real time and in paused time.
#[expect(
    clippy::disallowed_methods,
    reason = "paused time stands still while a task spins, so the guard is in real time"
)]
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < GUARD, "{what}: not within {GUARD:?}");
        tokio::task::yield_now().await;
    }
}

/// Returns the output of `event`. Panics if it does not complete within the limit.
pub(crate) async fn within<F: Future>(what: &str, event: F) -> F::Output {
    tokio::time::timeout(GUARD, event).await.unwrap_or_else(|_| panic!("{what}: not within {GUARD:?}"))
}
