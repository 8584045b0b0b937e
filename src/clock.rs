//! The only file that may ask for the time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Where the time comes from. Sleeps and timeouts are tokio's and do not pass through here.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Now {
        C::now(self)
    }
}

/// One reading of the monotonic and of the wall clock.
///
/// A deadline is a pair as well, and has passed when **either** clock says so: the monotonic clock stands still while
/// a machine is suspended, and the wall clock jumps when somebody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time that never goes back, and may stand still in suspend.
    pub mono: Instant,
    /// Time of day, which may jump.
    pub wall: SystemTime,
}

impl Now {
    /// The pair that lies `duration` after this one. On overflow the pair stays: a deadline that has passed.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self {
            mono: self.mono.checked_add(duration).unwrap_or(self.mono),
            wall: self.wall.checked_add(duration).unwrap_or(self.wall),
        }
    }

    /// By each clock the earlier of both.
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self { mono: self.mono.min(other.mono), wall: self.wall.min(other.wall) }
    }

    /// Whether either clock has reached the deadline.
    #[must_use]
    #[inline]
    pub fn reached(&self, deadline: &Self) -> bool {
        self.mono >= deadline.mono || self.wall >= deadline.wall
    }

    /// How long it is until the deadline, by the clock that gets there first; zero once it has passed.
    #[must_use]
    pub fn until(&self, deadline: &Self) -> Duration {
        let mono = deadline.mono.saturating_duration_since(self.mono);
        let wall = deadline.wall.duration_since(self.wall).unwrap_or(Duration::ZERO);
        mono.min(wall)
    }
}

/// The operating system's clocks; the monotonic one is tokio's, which a test can pause.
#[derive(Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for the time")]
    fn now(&self) -> Now {
        Now { mono: tokio::time::Instant::now().into_std(), wall: SystemTime::now() }
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

/// The clock of a source. The system's is called by its name, since it is asked for every request.
#[derive(Clone)]
pub(crate) enum AnyClock {
    System,
    Given(Arc<dyn Clock>),
}

impl AnyClock {
    #[inline]
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => SystemClock.now(),
            Self::Given(clock) => clock.now(),
        }
    }
}

#[cfg(test)]
impl Now {
    /// A moment with years of room on both sides.
    #[expect(clippy::disallowed_methods, reason = "an instant cannot be made out of nothing")]
    pub(crate) fn for_tests() -> Self {
        let years = Duration::from_secs(4 * 365 * 24 * 60 * 60);
        Self { mono: Instant::now() + years, wall: SystemTime::UNIX_EPOCH + 14 * years }
    }
}
