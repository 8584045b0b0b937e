//! Rules 1 to 4.

use super::*;

// R35, R38: rule 1
#[test]
fn a_token_is_stamped_renewed_in_its_window_and_waited_for_past_its_usable_end() {
    // Lifetime in s, draw; the first ms of the window and of the end.
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
        assert_eq!(play.at(0).ask(), Stamp(1), "{case}");
        assert_eq!(play.at(window - 1).ask(), Stamp(1), "{case}");
        assert_eq!(play.at(window).ask(), StampAndDepart(1), "{case}");
        assert_eq!(play.at(window).ask(), Stamp(1), "{case}");
        assert_eq!(play.at(end - 1).ask(), Stamp(1), "{case}");
        assert_eq!(play.at(end).ask(), Join, "{case}");
        assert_eq!(play.lands("second", lifetime * 1_000), 2, "{case}");
        assert_eq!(play.ask(), Stamp(2), "{case}");
    }
}

// R40: rule 1
#[test]
fn a_token_without_a_window_is_stamped_to_its_end_and_no_further() {
    for (lifetime, at_expiry, end) in
        [(0, false, 1_000), (1, false, 1_000), (10, true, 7_500), (1_800, true, 1_770_000)]
    {
        for draw in [0.0, 1.0] {
            let mut play = Play::new(draw);
            if at_expiry {
                play.policy = RefreshPolicy::new().at_expiry();
            }
            assert_eq!(play.ask(), Depart);
            assert_eq!(play.lands("first", lifetime * 1_000), 1);
            assert_eq!(play.at(end - 1).ask(), Stamp(1), "{lifetime} s");
            assert_eq!(play.at(end).ask(), Depart, "{lifetime} s");
            assert_eq!(play.flights, 2);
        }
    }
}

// R33, R34: rule 2
#[test]
fn either_clock_ends_a_token_and_a_jump_costs_one_flight_at_most() {
    // By how much each clock jumps, in s; what the next request comes to.
    let table = [
        (0, 0, Stamp(1)),
        (7_200, 7_200, Depart),
        // Suspended for two hours: the monotonic clock stood still.
        (0, 7_200, Depart),
        (7_200, 0, Depart),
        (DAY, 0, Depart),
        (-DAY, 0, Depart),
        (0, DAY, Depart),
        (0, -DAY, Stamp(1)),
        (YEAR, 0, Depart),
        (-YEAR, 0, Depart),
        (0, YEAR, Depart),
        (0, -YEAR, Stamp(1)),
        (YEAR, -YEAR, Depart),
        (-YEAR, YEAR, Depart),
        (0, 950, StampAndDepart(1)),
        (950, 0, StampAndDepart(1)),
        // From 41 s on: a minute before the token was asked for, and more than that.
        (-101, 0, Stamp(1)),
        (-102, 0, Depart),
    ];
    for (mono, wall, said) in table {
        for draw in [0.0, 1.0] {
            let mut play = Play::with_token(draw, 1_800);
            let case = format!("mono {mono} s, wall {wall} s, draw {draw}");
            assert_eq!(play.at(41_000).jump(mono, wall).ask(), said, "{case}");
            if matches!(said, Depart | StampAndDepart(_)) {
                assert_eq!(play.lands("second", 1_800_000), 2, "{case}");
            }
            for _ in 0..100 {
                assert!(matches!(play.ask(), Stamp(_)), "{case}");
            }
            assert!(play.flights <= 2, "{case}: a storm");
        }
    }
}

// R33: rule 2
#[test]
fn a_jump_during_the_flight_leaves_the_token_its_whole_life() {
    for (mono, wall) in [(0, DAY), (0, -DAY), (0, YEAR), (0, -YEAR), (-DAY, 0), (-YEAR, 0), (-YEAR, YEAR), (-DAY, -DAY)]
    {
        for draw in [0.0, 1.0] {
            let case = format!("mono {mono} s, wall {wall} s, draw {draw}");
            let mut play = Play::new(draw);
            assert_eq!(play.at(0).ask(), Depart);
            assert_eq!(play.at(200).jump(mono, wall).lands("first", 1_800_000), 1, "{case}");
            assert_eq!(play.ask(), Stamp(1), "{case}");
            assert_eq!(play.jump(899, 899).ask(), Stamp(1), "{case}");
            assert!(matches!(play.jump(870, 870).ask(), StampAndDepart(1)), "{case}");
            assert_eq!(play.jump(1, 1).ask(), Join, "{case}");
        }
    }
}

// R33, R39: rule 2
#[test]
fn a_monotonic_clock_that_leaps_over_the_flight_costs_a_retry_and_no_rebuild() {
    for leap in [DAY, YEAR] {
        for (draw, pause) in [(0.0, 100), (1.0, 500)] {
            let mut play = Play::new(draw);
            assert_eq!(play.ask(), Depart);
            let error = play.at(200).jump(leap, 0).lands_late_or_not("first", 1_800_000).unwrap_err();
            assert!(error.is_transient());
            assert_eq!(next_try(&error), pause);
            play.now = play.now.after(Duration::from_millis(pause));
            assert_eq!(play.ask(), Depart);
            assert_eq!(play.lands("second", 1_800_000), 2);
            assert_eq!(play.ask(), Stamp(2));
        }
    }
}

// R33, R42: rule 2
#[test]
fn pauses_run_on_the_monotonic_clock_alone() {
    for wall in [DAY, -DAY, YEAR, -YEAR] {
        let mut play = Play::new(0.0);
        assert_eq!(play.ask(), Depart);
        assert_eq!(play.fails(wrong_secret()), 2_500);
        assert_eq!(play.jump(0, wall).ask(), Fail(2_500), "wall {wall} s");
        assert_eq!(play.jump(2, 0).ask(), Fail(500), "wall {wall} s");
        assert_eq!(play.jump(1, 0).ask(), Depart, "wall {wall} s");
    }
    for mono in [DAY, -DAY, YEAR, -YEAR] {
        let mut play = Play::new(1.0);
        assert_eq!(play.ask(), Depart);
        assert_eq!(play.fails(throttled(60)), 60_000);
        assert_eq!(play.jump(mono, 0).ask(), Depart, "mono {mono} s");
    }
}

// R7, R40: rule 3
#[test]
fn a_token_that_lands_late_serves_its_waiters_and_one_that_lands_dead_fails() {
    // Lifetime in s, ms of the flight; late or not, or dead.
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
        (0, 999, Some(false)),
        (0, 1_000, None),
    ];
    for (lifetime, flight, late) in table {
        for (draw, pause) in [(0.0, 100), (1.0, 500)] {
            let case = format!("{lifetime} s after {flight} ms, draw {draw}");
            let mut play = Play::new(draw);
            assert_eq!(play.ask(), Depart);
            let landed = play.at(flight).lands_late_or_not("first", lifetime * 1_000);
            assert_eq!(landed.as_ref().ok().map(Token::is_late), late, "{case}");
            let next = play.ask();
            match late {
                Some(false) if lifetime < 2 => assert_eq!(next, Stamp(1), "{case}"),
                Some(false) => assert_eq!(next, StampAndDepart(1), "{case}"),
                // No one else gets it, and it is no failure.
                Some(true) => assert_eq!(next, Depart, "{case}"),
                None => {
                    let error = landed.unwrap_err();
                    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{case}");
                    assert_eq!(next, Fail(pause), "{case}");
                }
            }
        }
    }
}

// R38: rules 3 and 5
#[test]
fn a_late_or_dead_token_does_not_replace_one_that_works() {
    // The second token lives 10 s and is in the air for so many ms.
    for (flight, fails) in [(7_500, false), (9_999, false), (10_000, true)] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.at(900_000).ask(), StampAndDepart(1));
        let landed = play.at(900_000 + flight).lands_late_or_not("second", 10_000);
        assert_eq!(landed.is_err(), fails, "{flight} ms");
        if let Ok(token) = landed {
            assert_eq!((token.generation(), token.is_late()), (1, false), "{flight} ms");
        }
        assert_eq!(play.ask(), Stamp(1), "{flight} ms");
        assert_eq!(play.at(1_769_999).ask(), StampAndDepart(1), "{flight} ms");
    }
}

// R36, R52: rules 4 and 17
#[test]
fn an_issuer_that_repeats_its_token_is_asked_a_handful_of_times() {
    // Lifetime in s, draw; the ms at which a request that comes every 5 ms sets off a flight. Each halves what is left
    // of the usable life, but waits 10 s at least.
    let table: [(u64, f64, &[u64]); 4] = [
        (300, 0.0, &[150_000, 210_000, 240_000, 255_000, 265_000]),
        (300, 1.0, &[165_000, 217_500, 243_750, 256_875, 266_875]),
        (1_800, 0.0, &[900_000, 1_335_000, 1_552_500, 1_661_250, 1_715_625, 1_742_815, 1_756_410, 1_766_410]),
        (1_800, 1.0, &[990_000, 1_380_000, 1_575_000, 1_672_500, 1_721_250, 1_745_625, 1_757_815, 1_767_815]),
    ];
    for (lifetime, draw, expected) in table {
        let mut play = Play::with_token(draw, lifetime);
        let mut flights = Vec::new();
        for at in (0..lifetime * 1_000 - 30_000).step_by(5) {
            match play.at(at).ask() {
                Stamp(1) => {}
                StampAndDepart(1) => {
                    flights.push(at);
                    assert_eq!(play.lands("first", lifetime * 1_000), 1, "generation and end stay");
                }
                said => panic!("{said:?} at {at} ms"),
            }
        }
        assert_eq!(flights, expected, "{lifetime} s, draw {draw}");
        assert_eq!(play.at(lifetime * 1_000 - 30_000).ask(), Depart, "the end stays");
    }
}

// R36: rule 4
#[test]
fn a_shorter_token_is_adopted_unless_it_is_hardly_usable() {
    // Ms at which another token lands beside one that is usable until 1 770 000; ms that it lives, of which a quarter
    // is its margin; the ms of the next try where it is not adopted.
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
            assert_eq!(play.at(at).ask(), StampAndDepart(1), "{case}");
            assert_eq!(play.lands("second", lives), if next.is_some() { 1 } else { 2 }, "{case}");
            if let Some(next) = next {
                assert_eq!(play.at(next - 1).ask(), Stamp(1), "{case}");
                let expected = if next < 1_770_000 { StampAndDepart(1) } else { Depart };
                assert_eq!(play.at(next).ask(), expected, "{case}");
            }
        }
    }
}

// R36: rule 4
#[test]
fn a_token_that_replaces_a_repeated_one_ends_the_early_pause() {
    let mut play = Play::with_token(0.0, 1_800);
    assert_eq!(play.at(900_000).ask(), StampAndDepart(1));
    assert_eq!(play.lands("first", 1_800_000), 1);
    assert_eq!(play.at(1_335_000).ask(), StampAndDepart(1));
    assert_eq!(play.lands("second", 300_000), 3);
    assert_eq!(play.at(1_484_999).ask(), Stamp(3));
    assert_eq!(play.at(1_485_000).ask(), StampAndDepart(3));
}
