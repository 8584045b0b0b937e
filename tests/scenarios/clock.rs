//! The clock of the sources. It follows the virtual time of the first runtime.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tower_bearer_auth::{Clock, Now};

use crate::support::time::{YEAR, tokio_now};
use crate::units::Shift;
use crate::user_code;

#[derive(Clone)]
pub(crate) struct VirtualClock {
    start: tokio::time::Instant,
    state: Arc<Mutex<State>>,
}

struct State {
    mono: Instant,
    wall: SystemTime,
    /// The time while another runtime runs, which has virtual time of its own.
    stopped_at: Option<Duration>,
}

/// The wall clock at the start.
pub(crate) fn wall_start() -> SystemTime {
    SystemTime::UNIX_EPOCH + 50 * YEAR
}

impl VirtualClock {
    pub(crate) fn start() -> Self {
        let start = tokio_now();
        let state = State { mono: start.into_std() + 20 * YEAR, wall: wall_start(), stopped_at: None };
        Self { start, state: Arc::new(Mutex::new(state)) }
    }

    /// The time since the start of the scenario. No shift changes it.
    pub(crate) fn passed(&self) -> Duration {
        self.state.lock().stopped_at.unwrap_or_else(|| tokio_now().duration_since(self.start))
    }

    /// Waits until `at` after the start.
    pub(crate) async fn wait_until(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }

    pub(crate) fn shift(&self, mono: Option<Shift>, wall: Option<Shift>) {
        let mut state = self.state.lock();
        if let Some(Shift { back, by }) = mono {
            state.mono = if back { state.mono - by } else { state.mono + by };
        }
        if let Some(Shift { back, by }) = wall {
            state.wall = if back { state.wall - by } else { state.wall + by };
        }
    }

    /// Stops while another runtime runs.
    pub(crate) fn stop(&self) {
        let now = self.passed();
        self.state.lock().stopped_at = Some(now);
    }

    pub(crate) fn resume(&self) {
        self.state.lock().stopped_at = None;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        user_code::clock_is_read();
        let passed = self.passed();
        let state = self.state.lock();
        Now { mono: state.mono + passed, wall: state.wall + passed }
    }
}
