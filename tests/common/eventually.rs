//! Waiting without end is how a test hangs: these end with a message.

use std::future::Future;
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

/// Waits for what happens over real sockets.
pub(crate) async fn within<F: Future>(what: &str, event: F) -> F::Output {
    tokio::time::timeout(GUARD, event).await.unwrap_or_else(|_| panic!("{what}: not within {GUARD:?}"))
}
