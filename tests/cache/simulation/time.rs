//! Two clocks that the simulation sets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tower_bearer_auth::{Clock, Now, SystemClock};

/// The readings of both clocks, and the time that has passed, in ms since the start of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) mono: i64,
    pub(crate) wall: i64,
    pub(crate) real: i64,
}

impl Moment {
    /// Whether either clock has reached `deadline`.
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.mono >= deadline.mono || self.wall >= deadline.wall
    }
}

#[derive(Clone)]
pub(crate) struct Clocks {
    zero: Now,
    now: Arc<Mutex<Moment>>,
}

impl Clocks {
    pub(crate) fn new() -> Self {
        const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
        let zero = Now { mono: SystemClock.now().mono + TEN_YEARS, wall: SystemTime::UNIX_EPOCH + 5 * TEN_YEARS };
        Self { zero, now: Arc::new(Mutex::new(Moment { mono: 0, wall: 0, real: 0 })) }
    }

    pub(crate) fn read(&self) -> Moment {
        *self.now.lock()
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.jump(ms, ms);
        self.now.lock().real += ms;
    }

    pub(crate) fn jump(&self, mono: i64, wall: i64) {
        let mut now = self.now.lock();
        now.mono += mono;
        now.wall += wall;
    }
}

impl Clock for Clocks {
    fn now(&self) -> Now {
        let Moment { mono, wall, .. } = self.read();
        let moved = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Now {
            mono: if mono < 0 { self.zero.mono - moved(mono) } else { self.zero.mono + moved(mono) },
            wall: if wall < 0 { self.zero.wall - moved(wall) } else { self.zero.wall + moved(wall) },
        }
    }
}
