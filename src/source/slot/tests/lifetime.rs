//! Rules 1 to 4.

use super::*;

// R35, R38: rule 1
#[test]
fn a_token_is_stamped_until_usable_until_and_refreshed_in_its_window() {
    // Lifetime in s, draw; the ms at which the window starts and of usable_until.
    let table = [
        (2, 0.0, 1_000, 1_500),
        (2, 1.0, 1_100, 1_500),
        (10, 0.0, 5_000, 7_500),
        (10, 1.0, 5_500, 7_500),
        (1_800, 0.0, 900_000, 1_770_000),
        (1_800, 1.0, 990_000, 1_770_000),
        (86_400, 0.0, 85_200_000, 86_370_000),
        (86_400, 1.0, 85_320_000, 86_370_000),
    ];
    for (lifetime, draw, window, end) in table {
        let case = format!("{lifetime} s, draw {draw}");
        let mut play = Play::with_token(draw, lifetime);
        assert_eq!(play.at(0).request(), Stamp(1), "{case}");
        assert_eq!(play.at(window - 1).request(), Stamp(1), "{case}");
        assert_eq!(play.at(window).request(), StampAndFetch(1), "{case}");
        assert_eq!(play.at(window).request(), Stamp(1), "{case}");
        assert_eq!(play.at(end - 1).request(), Stamp(1), "{case}");
        assert_eq!(play.at(end).request(), Join, "{case}");
        assert_eq!(play.completes("second", lifetime * 1_000), 2, "{case}");
        assert_eq!(play.request(), Stamp(2), "{case}");
    }
}

// R40: rule 1
#[test]
fn a_token_without_a_window_is_stamped_until_usable_until() {
    for (lifetime, at_expiry, end) in [(1, false, 1_000), (10, true, 7_500), (1_800, true, 1_770_000)] {
        for draw in [0.0, 1.0] {
            let mut play = Play::new(draw);
            if at_expiry {
                play.policy = RefreshPolicy::new().at_expiry();
            }
            assert_eq!(play.request(), Fetch);
            assert_eq!(play.completes("first", lifetime * 1_000), 1);
            assert_eq!(play.at(end - 1).request(), Stamp(1), "{lifetime} s");
            assert_eq!(play.at(end).request(), Fetch, "{lifetime} s");
            assert_eq!(play.fetches, 2);
        }
    }
}

// R33, R34: rule 2
#[test]
fn a_token_expires_by_either_clock_and_a_jump_costs_one_fetch_at_most() {
    // By how much each clock jumps, in s; the action for the next request.
    let table = [
        (0, 0, Stamp(1)),
        (7_200, 7_200, Fetch),
        // Suspended for two hours: the monotonic clock stopped.
        (0, 7_200, Fetch),
        (7_200, 0, Fetch),
        (DAY, 0, Fetch),
        (-DAY, 0, Fetch),
        (0, DAY, Fetch),
        (0, -DAY, Stamp(1)),
        (YEAR, 0, Fetch),
        (-YEAR, 0, Fetch),
        (0, YEAR, Fetch),
        (0, -YEAR, Stamp(1)),
        (YEAR, -YEAR, Fetch),
        (-YEAR, YEAR, Fetch),
        (0, 950, StampAndFetch(1)),
        (950, 0, StampAndFetch(1)),
        // From 41 s on: to a minute before the fetch, and to more than that.
        (-101, 0, Stamp(1)),
        (-102, 0, Fetch),
    ];
    for (mono, wall, action) in table {
        for draw in [0.0, 1.0] {
            let mut play = Play::with_token(draw, 1_800);
            let case = format!("mono {mono} s, wall {wall} s, draw {draw}");
            assert_eq!(play.at(41_000).jump(mono, wall).request(), action, "{case}");
            if matches!(action, Fetch | StampAndFetch(_)) {
                assert_eq!(play.completes("second", 1_800_000), 2, "{case}");
            }
            for _ in 0..100 {
                assert!(matches!(play.request(), Stamp(_)), "{case}");
            }
            assert!(play.fetches <= 2, "{case}: a storm");
        }
    }
}

// R33: rule 2
#[test]
fn a_jump_during_the_fetch_does_not_shorten_the_lifetime_of_the_token() {
    for (mono, wall) in [(0, DAY), (0, -DAY), (0, YEAR), (0, -YEAR), (-DAY, 0), (-YEAR, 0), (-YEAR, YEAR), (-DAY, -DAY)]
    {
        for draw in [0.0, 1.0] {
            let case = format!("mono {mono} s, wall {wall} s, draw {draw}");
            let mut play = Play::new(draw);
            assert_eq!(play.at(0).request(), Fetch);
            assert_eq!(play.at(200).jump(mono, wall).completes("first", 1_800_000), 1, "{case}");
            assert_eq!(play.request(), Stamp(1), "{case}");
            assert_eq!(play.jump(899, 899).request(), Stamp(1), "{case}");
            assert!(matches!(play.jump(870, 870).request(), StampAndFetch(1)), "{case}");
            assert_eq!(play.jump(1, 1).request(), Join, "{case}");
        }
    }
}

// R33, R39: rule 2
#[test]
fn a_monotonic_clock_that_jumps_forward_during_the_fetch_costs_one_retry() {
    for leap in [DAY, YEAR] {
        for (draw, backoff) in [(0.0, 100), (1.0, 500)] {
            let mut play = Play::new(draw);
            assert_eq!(play.request(), Fetch);
            let error = play.at(200).jump(leap, 0).completes_with("first", 1_800_000).unwrap_err();
            assert!(error.is_transient());
            assert_eq!(next_try(&error), backoff);
            play.now = play.now.after(Duration::from_millis(backoff));
            assert_eq!(play.request(), Fetch);
            assert_eq!(play.completes("second", 1_800_000), 2);
            assert_eq!(play.request(), Stamp(2));
        }
    }
}

// R33, R42: rule 2
#[test]
fn backoffs_use_the_monotonic_clock_alone() {
    for wall in [DAY, -DAY, YEAR, -YEAR] {
        let mut play = Play::new(0.0);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(wrong_secret()), 2_500);
        assert_eq!(play.jump(0, wall).request(), Fail(2_500), "wall {wall} s");
        assert_eq!(play.jump(2, 0).request(), Fail(500), "wall {wall} s");
        assert_eq!(play.jump(1, 0).request(), Fetch, "wall {wall} s");
    }
    for mono in [DAY, -DAY, YEAR, -YEAR] {
        let mut play = Play::new(1.0);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(throttled(60)), 66_000);
        assert_eq!(play.jump(mono, 0).request(), Fetch, "mono {mono} s");
    }
}

// R7, R40: rule 3
#[test]
fn a_token_that_arrives_after_usable_until_serves_its_waiters_and_an_expired_one_fails() {
    // Lifetime in s; duration of the fetch in ms; whether the token is for its waiters only, or None if it has expired.
    let table = [
        (10, 7_499, Some(false)),
        (10, 7_500, Some(true)),
        (10, 9_999, Some(true)),
        (10, 10_000, None),
        (1_800, 1_769_999, Some(false)),
        (1_800, 1_770_000, Some(true)),
        (1_800, 1_800_000, None),
        (1, 999, Some(false)),
        (1, 1_000, None),
        // Zero is the default lifetime.
        (0, 269_999, Some(false)),
        (0, 270_000, Some(true)),
        (0, 300_000, None),
    ];
    for (lifetime, took, for_waiters_only) in table {
        for (draw, backoff) in [(0.0, 100), (1.0, 500)] {
            let case = format!("{lifetime} s after {took} ms, draw {draw}");
            let mut play = Play::new(draw);
            assert_eq!(play.request(), Fetch);
            let result = play.at(took).completes_with("first", lifetime * 1_000);
            assert_eq!(result.as_ref().ok().map(Token::is_for_waiters_only), for_waiters_only, "{case}");
            let next = play.request();
            match for_waiters_only {
                Some(false) if lifetime == 1 => assert_eq!(next, Stamp(1), "{case}"),
                Some(false) => assert_eq!(next, StampAndFetch(1), "{case}"),
                // Only its waiters get it, and it is not a failure.
                Some(true) => assert_eq!(next, Fetch, "{case}"),
                None => {
                    let error = result.unwrap_err();
                    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{case}");
                    assert_eq!(next, Fail(backoff), "{case}");
                }
            }
        }
    }
}

// R38: rules 3 and 5
#[test]
fn a_late_or_expired_token_does_not_replace_a_usable_one() {
    // The second token lives 10 s, and its fetch takes so many ms.
    for (took, fails) in [(7_500, false), (9_999, false), (10_000, true)] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.at(900_000).request(), StampAndFetch(1));
        let result = play.at(900_000 + took).completes_with("second", 10_000);
        assert_eq!(result.is_err(), fails, "{took} ms");
        if let Ok(token) = result {
            assert_eq!((token.generation(), token.is_for_waiters_only()), (1, false), "{took} ms");
        }
        assert_eq!(play.request(), Stamp(1), "{took} ms");
        assert_eq!(play.at(1_769_999).request(), StampAndFetch(1), "{took} ms");
    }
}

// R36, R52: rules 4 and 17
#[test]
fn an_issuer_that_returns_the_same_token_again_gets_a_handful_of_token_requests() {
    // Lifetime in s, draw; the ms at which a request starts a fetch, with a request every 5 ms. Each backoff is half of
    // the rest of the usable time, and at least 10 s.
    let table: [(u64, f64, &[u64]); 4] = [
        (300, 0.0, &[150_000, 210_000, 240_000, 255_000, 265_000]),
        (300, 1.0, &[165_000, 217_500, 243_750, 256_875, 266_875]),
        (1_800, 0.0, &[900_000, 1_335_000, 1_552_500, 1_661_250, 1_715_625, 1_742_815, 1_756_410, 1_766_410]),
        (1_800, 1.0, &[990_000, 1_380_000, 1_575_000, 1_672_500, 1_721_250, 1_745_625, 1_757_815, 1_767_815]),
    ];
    for (lifetime, draw, expected) in table {
        let mut play = Play::with_token(draw, lifetime);
        let mut fetches = Vec::new();
        for at in (0..lifetime * 1_000 - 30_000).step_by(5) {
            match play.at(at).request() {
                Stamp(1) => {}
                StampAndFetch(1) => {
                    fetches.push(at);
                    assert_eq!(play.completes("first", lifetime * 1_000), 1, "generation and expiry stay");
                }
                action => panic!("{action:?} at {at} ms"),
            }
        }
        assert_eq!(fetches, expected, "{lifetime} s, draw {draw}");
        assert_eq!(play.at(lifetime * 1_000 - 30_000).request(), Fetch, "usable_until stays");
    }
}

// R36: rule 4
#[test]
fn a_shorter_token_replaces_the_current_one_unless_it_is_hardly_usable() {
    // Ms at which another token arrives, beside one that is usable until 1 770 000; its lifetime in ms, of which a
    // quarter is its margin; the ms of the next try if it does not replace the current one.
    let table = [
        (1_000_000, 60_000, None),
        (1_000_000, 13_336, None),
        (1_000_000, 13_332, Some(1_385_000)),
        (1_000_000, 1_000, Some(1_385_000)),
        (1_755_000, 1_000, Some(1_765_000)),
        (1_760_000, 13_332, Some(1_770_000)),
        (1_760_004, 13_332, None),
        (1_769_999, 1_000, None),
    ];
    for (at, lives, next) in table {
        for draw in [0.0, 1.0] {
            let case = format!("a token of {lives} ms at {at} ms, draw {draw}");
            let mut play = Play::with_token(draw, 1_800);
            assert_eq!(play.at(at).request(), StampAndFetch(1), "{case}");
            assert_eq!(play.completes("second", lives), if next.is_some() { 1 } else { 2 }, "{case}");
            if let Some(next) = next {
                assert_eq!(play.at(next - 1).request(), Stamp(1), "{case}");
                let expected = if next < 1_770_000 { StampAndFetch(1) } else { Fetch };
                assert_eq!(play.at(next).request(), expected, "{case}");
            }
        }
    }
}

// R36: rule 4
#[test]
fn a_new_token_ends_the_backoff_after_an_early_refresh() {
    let mut play = Play::with_token(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("first", 1_800_000), 1);
    assert_eq!(play.at(1_335_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("second", 300_000), 3);
    assert_eq!(play.at(1_484_999).request(), Stamp(3));
    assert_eq!(play.at(1_485_000).request(), StampAndFetch(3));
}
