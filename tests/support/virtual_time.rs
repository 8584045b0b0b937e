//! A clock for tests in virtual time.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tower_bearer_auth::{Clock, Now};

/// Both clocks follow tokio's, which the test has paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paused {
    start: Instant,
}

impl Paused {
    /// Counts from here on.
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the test's own")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// How much has passed since the start.
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the test's own")]
    pub(crate) fn passed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Goes on to `at` after the start.
    pub(crate) async fn go_to(&self, at: Duration) {
        tokio::time::advance(at.saturating_sub(self.passed())).await;
    }
}

impl Clock for Paused {
    fn now(&self) -> Now {
        let passed = self.passed();
        Now {
            mono: self.start.into_std() + passed,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) + passed,
        }
    }
}
