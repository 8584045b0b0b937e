//! Clocks that a test can move.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tower_bearer_auth::{Clock, Now, SystemClock};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Tokio's time, which a test may stop.
#[expect(clippy::disallowed_methods, reason = "virtual time is tokio's")]
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Measures a duration in tokio's time.
pub(crate) struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(tokio_now())
    }

    pub(crate) fn read(&self) -> Duration {
        tokio_now().duration_since(self.0)
    }
}

/// Both clocks follow tokio's, which the test has paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paused {
    start: tokio::time::Instant,
}

impl Paused {
    /// A clock that measures the time from now on.
    pub(crate) fn start() -> Self {
        Self { start: tokio_now() }
    }

    /// The time since the start.
    pub(crate) fn passed(&self) -> Duration {
        tokio_now().duration_since(self.start)
    }

    /// Advances tokio's time to `at` after the start.
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

/// Both clocks follow tokio's. Each can be shifted.
#[derive(Clone)]
pub(crate) struct TestClock {
    start: tokio::time::Instant,
    shifted: Arc<Mutex<Shifted>>,
}

struct Shifted {
    mono: Instant,
    wall: SystemTime,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        let start = tokio_now();
        // Far from the epoch, so that the clock can be set back by years.
        let shifted = Shifted { mono: start.into_std() + 20 * YEAR, wall: SystemTime::UNIX_EPOCH + 50 * YEAR };
        Self { start, shifted: Arc::new(Mutex::new(shifted)) }
    }

    pub(crate) fn mono_forward(&self, by: Duration) {
        self.shifted.lock().mono += by;
    }

    pub(crate) fn mono_back(&self, by: Duration) {
        self.shifted.lock().mono -= by;
    }

    pub(crate) fn wall_forward(&self, by: Duration) {
        self.shifted.lock().wall += by;
    }

    pub(crate) fn wall_back(&self, by: Duration) {
        self.shifted.lock().wall -= by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let passed = tokio_now().duration_since(self.start);
        let shifted = self.shifted.lock();
        Now { mono: shifted.mono + passed, wall: shifted.wall + passed }
    }
}

/// The system's clock, moved forward by a duration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ahead(pub(crate) Arc<Mutex<Duration>>);

impl Clock for Ahead {
    fn now(&self) -> Now {
        SystemClock.now().after(*self.0.lock())
    }
}

/// Yields until every task has done what it can do now.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}
