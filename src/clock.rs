//! Clocks. Only this file reads the clocks of the operating system.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A source of time for a [`TokenSource`](crate::TokenSource).
///
/// Implement it to control the lifetimes of tokens in a test. Sleeps and timeouts do not use it: they are tokio's.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks. A source calls this for every request, so it must be fast and must not block.
    fn now(&self) -> Now;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Now {
        C::now(self)
    }
}

/// One reading of the monotonic clock and of the wall clock.
///
/// A deadline is such a pair too. It has passed when **either** clock has reached it: the monotonic clock may stop
/// while a machine is suspended, and the wall clock jumps when someone sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time. It does not go back, and it may stop while the machine is suspended.
    pub mono: Instant,
    /// Wall-clock time. It may jump in both directions.
    pub wall: SystemTime,
}

impl Now {
    /// The pair that is `duration` later. If the result cannot be represented, the pair stays as it is, so that a
    /// deadline made from it has passed.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self {
            mono: self.mono.checked_add(duration).unwrap_or(self.mono),
            wall: self.wall.checked_add(duration).unwrap_or(self.wall),
        }
    }

    /// The pair that is `duration` earlier. A reading that cannot be represented stays as it is.
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self {
            mono: self.mono.checked_sub(duration).unwrap_or(self.mono),
            wall: self.wall.checked_sub(duration).unwrap_or(self.wall),
        }
    }

    /// Whether both clocks read earlier than in `other`. The monotonic clock may have stopped in between, and the wall clock
    /// may have been set.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.mono < other.mono && self.wall < other.wall
    }

    /// The time since `earlier`, by the clock that measures more.
    #[cfg(feature = "shared")]
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        self.mono.saturating_duration_since(earlier.mono).max(wall)
    }

    /// The earlier reading of each clock.
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self { mono: self.mono.min(other.mono), wall: self.wall.min(other.wall) }
    }

    /// Whether either clock has reached `deadline`.
    #[must_use]
    #[inline]
    pub fn reached(&self, deadline: &Self) -> bool {
        self.mono >= deadline.mono || self.wall >= deadline.wall
    }

    /// The time until `deadline`, by the clock that reaches it first. Zero if it has passed.
    #[must_use]
    pub fn until(&self, deadline: &Self) -> Duration {
        let mono = deadline.mono.saturating_duration_since(self.mono);
        let wall = deadline.wall.duration_since(self.wall).unwrap_or(Duration::ZERO);
        mono.min(wall)
    }
}

/// The clocks of the operating system. The monotonic clock is tokio's, which a test can stop with `tokio::time::pause`.
#[derive(Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Now {
        Now { mono: monotonic(), wall: wall() }
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

/// A request extension: the layer waits for the tokens of this request until this time at most.
///
/// The limit is for all waits of the request together. [`max_wait`](crate::TokenSourceBuilder::max_wait) limits them too. A request
/// that has no token at its deadline fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), and the fetch continues. If it
/// has one, it is sent, even if its task is polled later. If the deadline passes while a rejected request waits for a new token,
/// the caller gets the rejection.
///
/// A request without a token does not wait for the end of a backoff that ends after its deadline. It fails at once, with the error
/// of the last fetch.
///
/// The deadline does not end a send. For that, put a timeout outside of the layer, for example `tower::timeout`: it drops the
/// request at any point, and its error does not tell whether the request was sent.
///
/// A gRPC request needs no extension: its `grpc-timeout` header is a deadline too. If it has both, the earlier one counts.
///
/// The time is that of tokio's clock. A clone of the request, for example for a retry, has the same deadline.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer_auth::Deadline;
///
/// let deadline = Deadline::after(Duration::from_millis(200));
/// let request = http::Request::get("https://api.example.com/").extension(deadline).body(());
/// # drop(request);
/// ```
#[doc(alias("grpc-timeout", "timeout"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// `None` if the time is so far away that it cannot be represented.
    at: Option<Instant>,
}

impl Deadline {
    /// The deadline that is `time` from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        SentAt::now().deadline(time)
    }

    /// The time that is left; zero if the deadline has passed.
    pub(crate) fn left(self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(monotonic()))
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.at, other.at) {
            (Some(this), Some(that)) => Self { at: Some(this.min(that)) },
            (this, that) => Self { at: this.or(that) },
        }
    }
}

/// When a request was sent, by tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentAt(Instant);

impl SentAt {
    pub(crate) fn now() -> Self {
        Self(monotonic())
    }

    /// The deadline of a request that may take this time.
    pub(crate) fn deadline(self, timeout: Duration) -> Deadline {
        Deadline { at: self.0.checked_add(timeout) }
    }
}

#[inline]
#[expect(clippy::disallowed_methods, reason = "only this file reads the time")]
fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "only this file reads the time")]
fn wall() -> SystemTime {
    SystemTime::now()
}

/// The time since a timer of this length was started. A timer may fire late, so this may be more than its length. Timers use
/// tokio's clock, and not the clock of a source.
pub(crate) fn since_start_of_timer(deadline: tokio::time::Instant, length: Duration) -> Duration {
    let (deadline, now) = (deadline.into_std(), SystemClock.now().mono);
    length
        .saturating_add(now.saturating_duration_since(deadline))
        .saturating_sub(deadline.saturating_duration_since(now))
}

/// The time until a timer fires.
pub(crate) fn until_timer(deadline: tokio::time::Instant) -> Duration {
    deadline.into_std().saturating_duration_since(SystemClock.now().mono)
}

/// The clock of a source. The system clock has a variant of its own, because a dynamic call per request would cost
/// more.
#[derive(Clone, Default)]
pub(crate) enum AnyClock {
    #[default]
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

    /// The same as `now`, but the reading of the wall clock may be up to 10 ms old. For the cached path.
    // Inlined for the same reason as `recent_with_tick`.
    #[inline(always)]
    pub(crate) fn recent(&self) -> Now {
        self.recent_with_tick().0
    }

    /// The same as `recent`, and the tick of that reading. A use at least 10 ms later has a greater tick. There is no tick
    /// with a clock of the source's own: each use then takes the next one.
    // Without inlining, each request takes 4 instructions more.
    #[inline(always)]
    pub(crate) fn recent_with_tick(&self) -> (Now, Option<u64>) {
        match self {
            // On some platforms the value is not available while a thread ends.
            Self::System => LAST_WALL
                .try_with(|last| recent(last, monotonic(), wall))
                .map_or_else(|_| (SystemClock.now(), None), |(now, tick)| (now, Some(tick))),
            // One call reads both clocks, so there is nothing to save.
            Self::Given(clock) => (clock.now(), None),
        }
    }
}

/// The next tick: a number that orders the uses of keys for eviction. It is process-wide, because all sources of a thread share
/// its last reading.
static NEXT_TICK: AtomicU64 = AtomicU64::new(1);

/// A tick greater than all before it.
#[cold]
pub(crate) fn next_tick() -> u64 {
    NEXT_TICK.fetch_add(1, Ordering::Relaxed)
}

/// How old a reading of the wall clock may be, by the monotonic clock.
const MAX_WALL_AGE: Duration = Duration::from_millis(10);

/// A reading of the wall clock, and when it may be used.
#[derive(Clone, Copy)]
struct LastWall {
    wall: SystemTime,
    from: Instant,
    until: Instant,
    /// The tick of uses with this reading.
    tick: u64,
}

// The initial value is constant and there is no destructor, so an access needs no function call.
thread_local!(static LAST_WALL: Cell<Option<LastWall>> = const { Cell::new(None) });

/// Reads the wall clock only if the last reading is too old. A reading takes about a tenth of the time of a stamped request.
// Inlined for the same reason as `recent_with_tick`.
#[inline(always)]
fn recent(last: &Cell<Option<LastWall>>, mono: Instant, wall: impl FnOnce() -> SystemTime) -> (Now, u64) {
    match last.get() {
        // The clock of another runtime with paused time may be behind that of the last call.
        Some(last) if last.from <= mono && mono < last.until => (Now { mono, wall: last.wall }, last.tick),
        _ => read_wall(last, mono, wall),
    }
}

#[cold]
fn read_wall(last: &Cell<Option<LastWall>>, mono: Instant, wall: impl FnOnce() -> SystemTime) -> (Now, u64) {
    let (wall, tick) = (wall(), next_tick());
    last.set(mono.checked_add(MAX_WALL_AGE).map(|until| LastWall { wall, from: mono, until, tick }));
    (Now { mono, wall }, tick)
}

/// The deadline of a timer that no test waits for.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an `Instant` can only come from the clock")]
pub(crate) fn deadline_for_tests() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
impl Now {
    /// A time that can go years back and forward without an overflow.
    #[expect(clippy::disallowed_methods, reason = "an `Instant` can only come from the clock")]
    pub(crate) fn for_tests() -> Self {
        let years = Duration::from_secs(4 * 365 * 24 * 60 * 60);
        Self { mono: Instant::now() + years, wall: SystemTime::UNIX_EPOCH + 14 * years }
    }
}

#[cfg(test)]
mod tests;
