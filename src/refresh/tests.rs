//! The expected numbers are written out from the rules by hand.

mod budget;

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

/// Refresh at the earliest and at the latest draw, usable end and nominal end, in ms after the fetch began.
fn ends(policy: &RefreshPolicy, lifetime: Option<Duration>) -> (Option<u128>, Option<u128>, u128, u128) {
    let start = Now::for_tests();
    let [early, late] = [0.0, 1.0].map(|draw| policy.deadlines(lifetime, start, start, draw));
    assert_eq!(since(start, early.usable), since(start, late.usable), "the margin is not drawn");
    let refresh = |deadlines: &Deadlines| deadlines.refresh.map(|at| since(start, at));
    (refresh(&early), refresh(&late), since(start, early.usable), since(start, early.nominal))
}

// R32: rule 1
#[test]
fn any_lifetime_gives_a_window_a_margin_and_an_end() {
    let seconds = Duration::from_secs;
    let table = [
        (None, Some(150_000), Some(165_000), 270_000, 300_000),
        (Some(seconds(0)), None, None, 1_000, 1_000),
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
    for (lifetime, earliest, latest, usable, nominal) in table {
        assert_eq!(ends(&RefreshPolicy::new(), lifetime), (earliest, latest, usable, nominal), "lifetime {lifetime:?}");
    }
}

// R52: rule 1
#[test]
fn a_configured_window_only_narrows_and_refresh_at_expiry_keeps_the_margin() {
    let policy = RefreshPolicy::new;
    let table = [
        (policy().window(ms(60_000)), 1_800, Some(1_740_000), Some(1_746_000), 1_770_000),
        (policy().window(ms(60_000)), 10, Some(5_000), Some(5_500), 7_500),
        (policy().window(Duration::ZERO), 1_800, Some(1_800_000), Some(1_800_000), 1_770_000),
        (policy().window(Duration::MAX), 1_800, Some(900_000), Some(990_000), 1_770_000),
        (policy().at_expiry(), 1_800, None, None, 1_770_000),
        (policy().at_expiry(), 10, None, None, 7_500),
        (policy().at_expiry(), 1, None, None, 1_000),
        (policy().at_expiry().window(ms(60_000)), 1_800, Some(1_740_000), Some(1_746_000), 1_770_000),
    ];
    for (policy, lifetime, earliest, latest, usable) in table {
        let nominal = u128::from(lifetime) * 1_000;
        assert_eq!(
            ends(&policy, Some(Duration::from_secs(lifetime))),
            (earliest, latest, usable, nominal),
            "{policy:?}, {lifetime} s"
        );
    }
}

// R35: rule 1
#[test]
fn every_lifetime_from_two_seconds_is_reused_for_at_least_half_of_it() {
    for lifetime in 2..=86_400 {
        let (refresh, _, usable, nominal) = ends(&RefreshPolicy::new(), Some(Duration::from_secs(lifetime)));
        assert!(refresh.is_some_and(|at| 2 * at >= nominal), "{lifetime} s: refreshed at {refresh:?} ms");
        assert!(2 * usable >= nominal, "{lifetime} s: usable for {usable} ms");
    }
}

// R33, R34: rule 2
#[test]
fn a_wall_clock_that_jumps_during_the_flight_neither_shortens_nor_stretches_the_token() {
    let start = Now::for_tests();
    let forward = |by: Duration| start.wall + by;
    let back = |by: Duration| start.wall - by;
    // How long the flight took by the monotonic clock; what the wall clock says at its end; from where the wall deadline
    // of the token is counted.
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
        let landed = Now { mono: start.mono + mono, wall };
        let deadlines = RefreshPolicy::new().deadlines(Some(ms(1_800_000)), start, landed, 0.0);
        let case = format!("{mono:?} of flight, {wall:?} at its end");
        assert_eq!(deadlines.usable.wall, counted_from + ms(1_770_000), "{case}");
        assert_eq!(deadlines.usable.mono, start.mono + ms(1_770_000), "{case}");
    }
}

// R33: rule 2
#[test]
fn a_monotonic_clock_set_back_during_the_flight_does_not_bear_an_expired_token() {
    let start = Now::for_tests();
    for by in [ms(1), ms(61_000), DAY, YEAR] {
        let landed = Now { mono: start.mono - by, wall: start.wall + ms(200) };
        let deadlines = RefreshPolicy::new().deadlines(Some(ms(1_800_000)), start, landed, 0.0);
        assert_eq!(deadlines.began.mono, landed.mono, "set back by {by:?}");
        assert_eq!(deadlines.usable.mono, landed.mono + ms(1_770_000), "set back by {by:?}");
    }
}

// R42: rule 6
#[test]
fn a_transient_pause_doubles_up_to_a_cap_is_cut_to_half_of_the_life_left_and_has_a_floor() {
    let left = |ms| Some(Duration::from_millis(ms));
    // Failures before this one, what is left of the token, the draw; the pause with a token and without one.
    let table = [
        (0, None, 0.0, 1_000, 100),
        (0, None, 1.0, 1_000, 500),
        (1, None, 1.0, 1_000, 1_000),
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
        (6, left(1_000), 1.0, 1_000, 500),
        (6, left(100), 1.0, 1_000, 100),
        (6, left(0), 1.0, 1_000, 100),
        (6, Some(Duration::MAX), 1.0, 30_000, 30_000),
    ];
    for (failures, usable_for, draw, with_token, without_token) in table {
        assert_eq!(
            Pause::transient(failures, usable_for, draw),
            Pause { with_token: ms(with_token), without_token: ms(without_token) },
            "{failures} failures, {usable_for:?} left, draw {draw}"
        );
    }
}

// R42: rule 7
#[test]
fn a_permanent_error_is_remembered_for_seconds_and_not_in_step() {
    for (draw, pause) in [(0.0, 2_500), (0.5, 3_750), (1.0, 5_000)] {
        assert_eq!(Pause::permanent(draw), Pause { with_token: ms(pause), without_token: ms(pause) });
    }
}

// R42: rule 8
#[test]
fn retry_after_is_a_floor_with_a_tenth_added_and_a_cap() {
    let seconds = Duration::from_secs;
    let first = |draw| Pause::transient(0, None, draw);
    let table = [
        (first(0.0), seconds(0), 0.0, 1_000, 100),
        (first(1.0), seconds(0), 1.0, 1_000, 500),
        (first(0.0), seconds(5), 0.0, 5_000, 5_000),
        (first(1.0), seconds(5), 1.0, 5_500, 5_500),
        (first(0.0), seconds(60), 0.0, 60_000, 60_000),
        (first(1.0), seconds(60), 1.0, 66_000, 60_000),
        (first(0.0), seconds(100), 0.0, 100_000, 60_000),
        (first(1.0), seconds(100), 1.0, 110_000, 60_000),
        (first(1.0), seconds(280), 1.0, 300_000, 60_000),
        (first(0.0), seconds(300), 0.0, 300_000, 60_000),
        (first(0.0), seconds(u64::MAX), 0.0, 300_000, 60_000),
        (first(1.0), Duration::MAX, 1.0, 300_000, 60_000),
        (Pause::transient(6, None, 1.0), seconds(5), 1.0, 30_000, 30_000),
        (Pause::permanent(0.0), seconds(3), 0.0, 3_000, 3_000),
        (Pause::permanent(1.0), seconds(3), 1.0, 5_000, 5_000),
    ];
    for (drawn, asked, draw, with_token, without_token) in table {
        assert_eq!(
            drawn.at_least(asked, draw),
            Pause { with_token: ms(with_token), without_token: ms(without_token) },
            "{drawn:?}, the issuer asked for {asked:?}, draw {draw}"
        );
    }
}

// R36: rule 4
#[test]
fn an_issuer_that_repeats_itself_is_asked_again_after_half_of_what_is_left() {
    for (left, pause) in [(870_000, 435_000), (20_002, 10_001), (20_000, 10_000), (19_000, 10_000), (0, 10_000)] {
        assert_eq!(early_pause(ms(left)), ms(pause), "{left} ms left");
    }
    let table =
        [(9_999, 10_000, true), (10_000, 60_000, false), (9_000, 9_000, false), (9_000, 8_999, false), (0, 1, true)];
    for (new, current, short) in table {
        assert_eq!(too_short(ms(new), ms(current)), short, "{new} ms against {current} ms");
    }
}

// R32: rule 6 and 7
#[test]
fn a_draw_out_of_its_range_is_no_number_out_of_range() {
    let start = Now::for_tests();
    let refresh =
        |draw| RefreshPolicy::new().deadlines(Some(ms(10_000)), start, start, draw).refresh.map(|at| since(start, at));
    for (draw, at, pause, permanent) in [
        (f64::NAN, 5_000, 100, 2_500),
        (f64::NEG_INFINITY, 5_000, 100, 2_500),
        (-1.0, 5_000, 100, 2_500),
        (2.0, 5_500, 30_000, 5_000),
        (f64::INFINITY, 5_500, 30_000, 5_000),
    ] {
        assert_eq!(refresh(draw), Some(at), "draw {draw}");
        assert_eq!(Pause::transient(9, None, draw).without_token, ms(pause), "draw {draw}");
        assert_eq!(Pause::permanent(draw).without_token, ms(permanent), "draw {draw}");
    }
}

// R33: rule 2
#[test]
fn a_pause_ends_when_the_clock_is_set_back_and_survives_two_threads_that_differ() {
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
fn clocks_at_the_ends_of_their_ranges_make_no_panic() {
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
    for began in &moments {
        for landed in &moments {
            for lifetime in [None, Some(Duration::ZERO), Some(ms(1_999)), Some(ms(10_000)), Some(Duration::MAX)] {
                let deadlines = RefreshPolicy::new().deadlines(lifetime, *began, *landed, 1.0);
                let left = landed.until(&deadlines.usable);
                assert!(left <= DAY, "{began:?} to {landed:?}: usable for {left:?}");
            }
            let mut budget = Budget::full(began.mono);
            assert!(budget.take(false, landed.mono), "a full bucket is full at any time");
            let left = remaining(began.mono, DAY, landed.mono);
            assert!(left <= DAY);
        }
    }
}
