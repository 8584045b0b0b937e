use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{AnyClock, Clock, LAST_WALL, LastWall, MAX_WALL_AGE, Now, next_tick};

const HOUR: Duration = Duration::from_secs(3600);

fn recent(last: &Cell<Option<LastWall>>, mono: Instant, wall: impl FnOnce() -> SystemTime) -> Now {
    super::recent(last, mono, wall).0
}

// R34: the monotonic clock stops while a machine is suspended.
#[test]
fn after_a_suspension_an_old_reading_of_the_wall_clock_is_used_for_10_ms_only() {
    assert_eq!(MAX_WALL_AGE, Duration::from_millis(10));
    let (start, last) = (Now::for_tests(), Cell::new(None));
    let expires = start.after(HOUR);
    assert_eq!(recent(&last, start.mono, || start.wall), start);
    // The machine is suspended here.
    let resumed = start.wall + 2 * HOUR;
    let just_before = start.mono + MAX_WALL_AGE - Duration::from_nanos(1);
    let before = recent(&last, just_before, || panic!("the wall clock is read again"));
    assert_eq!(before, Now { mono: just_before, wall: start.wall });
    assert!(!before.reached(&expires));
    let after = recent(&last, start.mono + MAX_WALL_AGE, || resumed);
    assert_eq!(after.wall, resumed);
    assert!(after.reached(&expires));
}

// R33
#[test]
fn a_monotonic_clock_that_was_set_back_does_not_prolong_the_use_of_a_reading() {
    let (start, last) = (Now::for_tests(), Cell::new(None));
    recent(&last, start.mono, || start.wall);
    let (behind, later) = (start.before(HOUR).mono, start.wall + HOUR);
    assert_eq!(recent(&last, behind, || later).wall, later);
    assert_eq!(recent(&last, behind, || panic!("the wall clock is read again")).wall, later);
}

#[test]
fn the_readings_of_a_busy_thread_are_not_older_than_10_ms() {
    let (start, last, reads) = (Now::for_tests(), Cell::new(None), Cell::new(0));
    for ms in 0..100 {
        let time = Duration::from_millis(ms);
        let now = recent(&last, start.mono + time, || {
            reads.set(reads.get() + 1);
            start.wall + time
        });
        assert!(start.wall + time < now.wall + MAX_WALL_AGE, "after {ms} ms");
    }
    assert_eq!(reads.get(), 10);
}

// R31: a key that another thread has used since would be evicted instead of one that nobody uses.
#[test]
fn a_use_10_ms_later_has_a_greater_tick_than_the_uses_of_other_threads() {
    let (start, thread, other) = (Now::for_tests(), Cell::new(None), Cell::new(None));
    let tick = |last, time| super::recent(last, start.mono + time, || start.wall).1;
    let first = tick(&thread, Duration::ZERO);
    assert_eq!(
        tick(&thread, MAX_WALL_AGE - Duration::from_nanos(1)),
        first,
        "a tick for each request is a shared write"
    );
    let of_other = tick(&other, Duration::ZERO);
    let outside = next_tick();
    assert!(first < of_other && of_other < outside);
    assert!(outside < tick(&thread, MAX_WALL_AGE));
}

// R34: the same for the clock of a source, in tokio's time.
#[tokio::test(start_paused = true)]
async fn a_source_reads_the_wall_clock_again_10_ms_after_a_suspension() {
    let clock = AnyClock::System;
    clock.recent();
    // As if the machine had been suspended for an hour since this reading.
    let read = LAST_WALL.get().unwrap();
    let suspended_at = read.wall - HOUR;
    LAST_WALL.set(Some(LastWall { wall: suspended_at, ..read }));
    tokio::time::advance(MAX_WALL_AGE - Duration::from_millis(1)).await;
    assert_eq!(clock.recent().wall, suspended_at);
    assert!(clock.now().wall > suspended_at, "a lookup in the slot reads the wall clock");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(clock.recent().wall > suspended_at);
}

/// A clock that always shows the same time.
struct At(Now);

impl Clock for At {
    fn now(&self) -> Now {
        self.0
    }
}

// R34: two sources in one thread, each with a clock of its own.
#[tokio::test(start_paused = true)]
async fn a_source_uses_no_reading_of_the_clock_of_another_source() {
    let system = AnyClock::System.recent();
    let ahead = Now { mono: system.mono, wall: system.wall + HOUR };
    let given = AnyClock::Given(Arc::new(At(ahead)));
    assert_eq!(given.recent(), ahead);
    assert_eq!(AnyClock::System.recent(), system);
    // The same if the given clock is read first.
    LAST_WALL.set(None);
    assert_eq!(given.recent(), ahead);
    assert!(AnyClock::System.recent().wall < ahead.wall);
}

// R33: a runtime with paused time may be ahead of the other runtimes of its thread.
#[test]
fn a_runtime_uses_no_reading_of_a_runtime_whose_clock_is_ahead() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (ahead, behind) = (runtime(), runtime());
    ahead.block_on(async {
        tokio::time::advance(HOUR).await;
        AnyClock::System.recent();
    });
    let read = LAST_WALL.get().unwrap();
    let old = read.wall - HOUR;
    LAST_WALL.set(Some(LastWall { wall: old, ..read }));
    behind.block_on(async {
        assert!(AnyClock::System.recent().wall > old);
    });
}
