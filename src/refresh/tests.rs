//! The expected numbers are computed by hand from the rules.

mod budget;
mod rejection;
mod retry_after;

use std::time::SystemTime;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn since(start: Now, deadline: Now) -> u128 {
    deadline.mono.duration_since(start.mono).as_millis()
}

/// The start of a window before `usable_until` at the smallest and at the largest draw, `usable_until` and `expires_at`, in ms after the start of the
/// fetch.
fn ends(policy: &RefreshPolicy, lifetime: Option<Duration>) -> (Option<u128>, Option<u128>, u128, u128) {
    let start = Now::for_tests();
    let [early, late] = [0.0, 1.0].map(|draw| policy.deadlines(lifetime, start, start, draw));
    assert_eq!(since(start, early.usable_until), since(start, late.usable_until), "the margin is not random");
    let refresh = |deadlines: &Deadlines| {
        (deadlines.refresh_at != deadlines.usable_until).then(|| since(start, deadlines.refresh_at))
    };
    (refresh(&early), refresh(&late), since(start, early.usable_until), since(start, early.expires_at))
}

// R32: rule 1
#[test]
fn any_lifetime_gives_a_window_a_margin_and_an_expiry() {
    let seconds = Duration::from_secs;
    let table = [
        (None, Some(150_000), Some(165_000), 270_000, 300_000),
        (Some(seconds(0)), Some(150_000), Some(165_000), 270_000, 300_000),
        (Some(Duration::from_nanos(1)), None, None, 1_000, 1_000),
        (Some(ms(1)), None, None, 1_000, 1_000),
        (Some(seconds(1)), None, None, 1_000, 1_000),
        (Some(ms(1_999)), None, None, 1_999, 1_999),
        (Some(seconds(2)), Some(1_000), Some(1_100), 1_500, 2_000),
        (Some(seconds(10)), Some(5_000), Some(5_500), 7_500, 10_000),
        (Some(seconds(59)), Some(29_500), Some(32_450), 44_250, 59_000),
        (Some(seconds(120)), Some(60_000), Some(66_000), 90_000, 120_000),
        (Some(seconds(121)), Some(60_500), Some(66_550), 91_000, 121_000),
        (Some(seconds(1_800)), Some(900_000), Some(990_000), 1_770_000, 1_800_000),
        (Some(seconds(2_400)), Some(1_200_000), Some(1_320_000), 2_370_000, 2_400_000),
        (Some(seconds(3_600)), Some(2_400_000), Some(2_520_000), 3_570_000, 3_600_000),
        (Some(DAY), Some(85_200_000), Some(85_320_000), 86_370_000, 86_400_000),
        (Some(seconds(86_401)), Some(85_200_000), Some(85_320_000), 86_370_000, 86_400_000),
        (Some(seconds(1_000_000_000_000_000_000)), Some(85_200_000), Some(85_320_000), 86_370_000, 86_400_000),
        (Some(seconds(u64::MAX)), Some(85_200_000), Some(85_320_000), 86_370_000, 86_400_000),
        (Some(Duration::MAX), Some(85_200_000), Some(85_320_000), 86_370_000, 86_400_000),
    ];
    for (lifetime, earliest, latest, usable, expires_at) in table {
        assert_eq!(
            ends(&RefreshPolicy::new(), lifetime),
            (earliest, latest, usable, expires_at),
            "lifetime {lifetime:?}"
        );
    }
}

// R52: rule 1
#[test]
fn a_configured_window_or_margin_is_at_most_half_of_the_lifetime_and_at_expiry_keeps_the_margin() {
    let policy = RefreshPolicy::new;
    let table = [
        (policy().window(ms(60_000)), 1_800, Some(1_740_000), Some(1_746_000), 1_770_000),
        (policy().window(ms(60_000)), 10, Some(5_000), Some(5_500), 7_500),
        (policy().window(Duration::ZERO), 1_800, None, None, 1_770_000),
        (policy().window(Duration::MAX), 1_800, Some(900_000), Some(990_000), 1_770_000),
        // Longer than 20 min: up to half of the lifetime.
        (policy().window(Duration::from_secs(12 * 3_600)), 86_400, Some(43_200_000), Some(47_520_000), 86_370_000),
        (policy().window(Duration::from_secs(1_201)), 86_400, Some(85_199_000), Some(85_319_100), 86_370_000),
        (policy().window(Duration::from_secs(12 * 3_600)), 3_600, Some(1_800_000), Some(1_980_000), 3_570_000),
        // The margin: shorter and longer than the default, up to half of the lifetime.
        (policy().margin(Duration::ZERO), 1_800, Some(900_000), Some(990_000), 1_800_000),
        (policy().margin(ms(60_000)), 1_800, Some(900_000), Some(990_000), 1_740_000),
        (policy().margin(ms(900_000)), 1_800, None, None, 900_000),
        (policy().margin(ms(900_001)), 1_800, None, None, 900_000),
        (policy().margin(ms(60_000)), 10, None, None, 5_000),
        (policy().margin(ms(60_000)).at_expiry(), 1_800, None, None, 1_740_000),
        (policy().margin(ms(60_000)), 1, None, None, 1_000),
        (policy().at_expiry(), 1_800, None, None, 1_770_000),
        (policy().at_expiry(), 10, None, None, 7_500),
        (policy().at_expiry(), 1, None, None, 1_000),
        (policy().at_expiry().window(ms(60_000)), 1_800, Some(1_740_000), Some(1_746_000), 1_770_000),
    ];
    for (policy, lifetime, earliest, latest, usable) in table {
        let expires_at = u128::from(lifetime) * 1_000;
        assert_eq!(
            ends(&policy, Some(Duration::from_secs(lifetime))),
            (earliest, latest, usable, expires_at),
            "{policy:?}, {lifetime} s"
        );
    }
}

// R35: rule 1
#[test]
fn a_token_of_two_seconds_or_more_is_used_for_at_least_half_of_its_lifetime() {
    for lifetime in 2..=86_400 {
        let (refresh, _, usable, expires_at) = ends(&RefreshPolicy::new(), Some(Duration::from_secs(lifetime)));
        assert!(refresh.is_some_and(|at| 2 * at >= expires_at), "{lifetime} s: refreshed at {refresh:?} ms");
        assert!(2 * usable >= expires_at, "{lifetime} s: usable for {usable} ms");
    }
}

// R33, R34: rule 2
#[test]
fn a_wall_clock_that_jumps_during_the_fetch_does_not_change_the_lifetime() {
    let start = Now::for_tests();
    let forward = |by: Duration| start.wall + by;
    let back = |by: Duration| start.wall - by;
    // The duration of the fetch by the monotonic clock; the wall clock at its end; the time from which the wall
    // deadline of the token is counted.
    let table = [
        (ms(200), forward(ms(200)), start.wall),
        (ms(200), forward(ms(1_200)), start.wall),
        (ms(200), forward(ms(1_201)), forward(ms(1_001))),
        (ms(1_200), forward(ms(200)), start.wall),
        (ms(1_201), forward(ms(200)), back(ms(1_001))),
        (ms(200), back(ms(800)), start.wall),
        (ms(200), back(ms(801)), back(ms(1_001))),
        (ms(200), forward(DAY), forward(DAY - ms(200))),
        (ms(200), back(DAY), back(DAY + ms(200))),
        (ms(200), forward(YEAR), forward(YEAR - ms(200))),
        (ms(200), back(YEAR), back(YEAR + ms(200))),
    ];
    for (mono, wall, counted_from) in table {
        let arrived = Now { mono: start.mono + mono, wall };
        let deadlines = RefreshPolicy::new().deadlines(Some(ms(1_800_000)), start, arrived, 0.0);
        let case = format!("a fetch of {mono:?}, {wall:?} at its end");
        assert_eq!(deadlines.usable_until.wall, counted_from + ms(1_770_000), "{case}");
        assert_eq!(deadlines.usable_until.mono, start.mono + ms(1_770_000), "{case}");
    }
}

// R33: rule 2
#[test]
fn a_monotonic_clock_set_back_during_the_fetch_causes_no_expired_token() {
    let start = Now::for_tests();
    for by in [ms(1), ms(61_000), DAY, YEAR] {
        let arrived = Now { mono: start.mono - by, wall: start.wall + ms(200) };
        let deadlines = RefreshPolicy::new().deadlines(Some(ms(1_800_000)), start, arrived, 0.0);
        assert_eq!(deadlines.fetched_at.mono, arrived.mono, "set back by {by:?}");
        assert_eq!(deadlines.usable_until.mono, arrived.mono + ms(1_770_000), "set back by {by:?}");
    }
}

// R42: rule 6
#[test]
fn a_transient_backoff_doubles_up_to_a_maximum_and_is_at_most_half_of_the_rest_of_the_token() {
    let left = |ms| Some(Duration::from_millis(ms));
    // Failures before this one, the rest of the token, the draw; the backoff with a token and without one.
    let table = [
        (0, None, 0.0, 1_000, 100),
        (0, None, 1.0, 2_000, 500),
        (1, None, 1.0, 2_000, 1_000),
        (2, None, 1.0, 2_000, 2_000),
        (3, None, 0.5, 2_000, 2_000),
        (5, None, 1.0, 16_000, 16_000),
        (6, None, 1.0, 30_000, 30_000),
        (6, None, 0.0, 1_000, 100),
        (7, None, 1.0, 30_000, 30_000),
        (31, None, 1.0, 30_000, 30_000),
        (32, None, 1.0, 30_000, 30_000),
        (u32::MAX, None, 1.0, 30_000, 30_000),
        (u32::MAX, None, 0.0, 1_000, 100),
        (6, left(60_000), 1.0, 30_000, 30_000),
        (6, left(59_000), 1.0, 29_500, 29_500),
        (6, left(10_000), 1.0, 5_000, 5_000),
        (6, left(1_000), 1.0, 2_000, 500),
        (6, left(100), 1.0, 2_000, 100),
        (6, left(0), 1.0, 2_000, 100),
        (6, Some(Duration::MAX), 1.0, 30_000, 30_000),
    ];
    for (failures, usable_for, draw, with_token, without_token) in table {
        assert_eq!(
            Backoff::transient(failures, usable_for, draw),
            Backoff {
                with_token: ms(with_token),
                with_dead_token: ms(without_token),
                without_token: ms(without_token)
            },
            "{failures} failures, {usable_for:?} left, draw {draw}"
        );
    }
}

// R67: rule 7
#[test]
fn the_backoff_after_a_permanent_error_doubles_up_to_a_minute_and_is_random() {
    // Permanent failures in a row before this one; the shortest and the longest backoff.
    let table = [
        (0, 2_500, 5_000),
        (1, 5_000, 10_000),
        (2, 10_000, 20_000),
        (3, 20_000, 40_000),
        (4, 30_000, 60_000),
        (5, 30_000, 60_000),
        (31, 30_000, 60_000),
        (32, 30_000, 60_000),
        (u32::MAX, 30_000, 60_000),
    ];
    for (failures, shortest, longest) in table {
        for (draw, backoff) in [(0.0, shortest), (0.5, (shortest + longest) / 2), (1.0, longest)] {
            let [with_token, with_dead_token, without_token] = [ms(backoff); 3];
            let expected = Backoff { with_token, with_dead_token, without_token };
            assert_eq!(Backoff::permanent(failures, draw), expected, "{failures} failures, draw {draw}");
        }
    }
}

// R36: rule 4
#[test]
fn an_early_refresh_with_the_same_token_causes_a_backoff_of_half_of_the_rest() {
    for (left, backoff) in [(870_000, 435_000), (20_002, 10_001), (20_000, 10_000), (19_000, 10_000), (0, 10_000)] {
        assert_eq!(early_backoff(ms(left)), ms(backoff), "{left} ms left");
    }
    let table =
        [(9_999, 10_000, true), (10_000, 60_000, false), (9_000, 9_000, false), (9_000, 8_999, false), (0, 1, true)];
    for (new, current, short) in table {
        assert_eq!(too_short(ms(new), ms(current)), short, "{new} ms against {current} ms");
    }
}

// R32: rule 6 and 7
#[test]
fn a_draw_outside_of_its_range_gives_no_duration_outside_of_its_range() {
    let start = Now::for_tests();
    let refresh = |draw| since(start, RefreshPolicy::new().deadlines(Some(ms(10_000)), start, start, draw).refresh_at);
    for (draw, at, backoff, permanent) in [
        (f64::NAN, 5_000, 100, 2_500),
        (f64::NEG_INFINITY, 5_000, 100, 2_500),
        (-1.0, 5_000, 100, 2_500),
        (2.0, 5_500, 30_000, 5_000),
        (f64::INFINITY, 5_500, 30_000, 5_000),
    ] {
        assert_eq!(refresh(draw), at, "draw {draw}");
        assert_eq!(Backoff::transient(9, None, draw).without_token, ms(backoff), "draw {draw}");
        assert_eq!(Backoff::permanent(0, draw).without_token, ms(permanent), "draw {draw}");
    }
}

// R33: rule 2
#[test]
fn a_backoff_ends_when_the_clock_is_set_back_but_not_when_two_threads_differ() {
    let start = Now::for_tests().mono;
    let table = [
        (start, 10_000),
        (start + ms(1), 9_999),
        (start + ms(10_000), 0),
        (start + YEAR, 0),
        (start - ms(60_000), 10_000),
        (start - ms(60_001), 0),
        (start - YEAR, 0),
    ];
    for (now, left) in table {
        assert_eq!(remaining(start, ms(10_000), now), ms(left));
        assert_eq!(passed(start, ms(10_000), now), left == 0);
    }
}

// R32, R33: rules 1 and 2
#[test]
fn clocks_at_the_ends_of_their_ranges_cause_no_panic() {
    let middle = Now::for_tests();
    let ends_of_mono = {
        let (mut first, mut last) = (middle.mono, middle.mono);
        for step in (0..64).rev().map(|bit| Duration::from_secs(1 << bit)) {
            first = first.checked_sub(step).unwrap_or(first);
            last = last.checked_add(step).unwrap_or(last);
        }
        [first, middle.mono, last]
    };
    let ends_of_wall = {
        let (mut first, mut last) = (SystemTime::UNIX_EPOCH, middle.wall);
        for step in (0..64).rev().map(|bit| Duration::from_secs(1 << bit)) {
            first = first.checked_sub(step).unwrap_or(first);
            last = last.checked_add(step).unwrap_or(last);
        }
        [first, middle.wall, last]
    };
    let moments: Vec<Now> =
        ends_of_mono.iter().flat_map(|mono| ends_of_wall.map(|wall| Now { mono: *mono, wall })).collect();
    for started in &moments {
        for arrived in &moments {
            for lifetime in [None, Some(Duration::ZERO), Some(ms(1_999)), Some(ms(10_000)), Some(Duration::MAX)] {
                let deadlines = RefreshPolicy::new().deadlines(lifetime, *started, *arrived, 1.0);
                let left = arrived.until(&deadlines.usable_until);
                assert!(left <= DAY, "{started:?} to {arrived:?}: usable for {left:?}");
            }
            let mut budget = Budget::full(started.mono);
            assert!(budget.take(false, arrived.mono), "a full budget stays full");
            let left = remaining(started.mono, DAY, arrived.mono);
            assert!(left <= DAY);
        }
    }
}
