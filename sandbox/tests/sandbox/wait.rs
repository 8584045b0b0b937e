//! Waits with a deadline, so that a broken test fails instead of hanging.

use std::future::Future;
use std::time::{Duration, Instant};

/// The deadline, in real time. No test measures it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Lets other tasks run until `condition` holds.
#[expect(clippy::disallowed_methods, reason = "a deadline in real time")]
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::task::yield_now().await;
    }
}

/// Waits for `event`.
pub(crate) async fn within<F: Future>(what: &str, event: F) -> F::Output {
    tokio::time::timeout(DEADLINE, event).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}
