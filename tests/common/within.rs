//! A wait over real sockets that ends: one without end is how a test hangs instead of failing.

use std::future::Future;
use std::time::Duration;

/// A guard, and never the measure of a test.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// What `event` comes to, unless it never does.
pub(crate) async fn within<F: Future>(what: &str, event: F) -> F::Output {
    tokio::time::timeout(GUARD, event).await.unwrap_or_else(|_| panic!("{what}: not within {GUARD:?}"))
}
