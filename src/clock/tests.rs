use std::cell::Cell;
use std::time::Duration;

use super::{MAX_WALL_AGE, Now, recent};

const HOUR: Duration = Duration::from_secs(3600);

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
