//! A clock that runs faster than the machine's. The timers of tokio do not, so waits take as long as ever.

use std::time::{Duration, Instant, SystemTime};

use tower_bearer_auth::{Clock, Now};

#[derive(Clone, Copy)]
pub(crate) struct FastClock {
    began: Instant,
    wall: SystemTime,
    speed: u32,
}

impl FastClock {
    pub(crate) fn new(speed: u32) -> Self {
        Self { began: Instant::now(), wall: SystemTime::now(), speed }
    }

    /// The time since the clock was made, in nanoseconds of this clock.
    pub(crate) fn nanos(&self) -> u64 {
        self.passed().as_nanos() as u64
    }

    fn passed(&self) -> Duration {
        self.began.elapsed() * self.speed
    }
}

impl Clock for FastClock {
    fn now(&self) -> Now {
        let passed = self.passed();
        Now { mono: self.began + passed, wall: self.wall + passed }
    }
}
