//! Rules 5 to 9.

use super::*;

// R38, R40: rule 5
#[test]
fn a_failed_flight_takes_no_usable_token_away() {
    for (draw, window) in [(0.0, 900_000), (1.0, 990_000)] {
        for error in [down(), wrong_secret(), throttled(1_000)] {
            let mut play = Play::with_token(draw, 1_800);
            assert_eq!(play.at(window).ask(), StampAndDepart(1));
            play.fails(error);
            assert_eq!(play.ask(), Stamp(1), "no flight during the pause");
            assert_eq!(play.at(1_769_999).ask(), StampAndDepart(1));
            assert_eq!(play.ask(), Stamp(1));
            assert_eq!(play.at(1_770_000).ask(), Join, "never past the usable end");
        }
    }
}

// R1, R42: rule 5
#[test]
fn without_a_token_callers_get_the_error_at_once_with_the_time_of_the_next_try() {
    // The error, the draw; ms of the pause.
    let table = [
        (down(), 0.0, 100),
        (down(), 1.0, 500),
        (wrong_secret(), 0.0, 2_500),
        (wrong_secret(), 1.0, 5_000),
        (throttled(10), 0.0, 10_000),
        (throttled(10), 1.0, 11_000),
    ];
    for (error, draw, pause) in table {
        let kind = error.kind();
        let mut play = Play::new(draw);
        assert_eq!(play.at(0).ask(), Depart);
        assert_eq!(play.ask(), Join);
        assert_eq!(play.at(200).fails(error), pause);
        let Next::Fail(shared) = play.slot.request(play.now) else { panic!("a flight during the pause") };
        assert_eq!(shared.kind(), kind);
        assert_eq!(play.at(200 + pause - 1).ask(), Fail(1));
        assert_eq!(play.at(200 + pause).ask(), Depart);
    }
}

// R42: rule 6
#[test]
fn pauses_double_for_each_failure_in_a_row_and_begin_anew_after_a_success() {
    for (draw, pauses) in [
        (0.0, [100; 9]),
        (0.5, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]),
        (1.0, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]),
    ] {
        let mut play = Play::new(draw);
        let mut now = 0;
        for pause in pauses {
            assert_eq!(play.at(now).ask(), Depart);
            assert_eq!(play.fails(down()), pause, "draw {draw}");
            now += pause;
        }
        assert_eq!(play.at(now).ask(), Depart);
        play.lands("first", 1_000);
        assert_eq!(play.at(now + 1_000).ask(), Depart);
        assert_eq!(play.fails(down()), pauses[0], "draw {draw}");
    }
}

// R42: rules 6 and 7
#[test]
fn a_permanent_error_neither_counts_as_a_transient_one_nor_forgets_them() {
    let mut play = Play::new(1.0);
    let mut now = 0;
    for (error, pause) in
        [(down(), 500), (down(), 1_000), (wrong_secret(), 5_000), (wrong_secret(), 5_000), (down(), 2_000)]
    {
        assert_eq!(play.at(now).ask(), Depart);
        assert_eq!(play.fails(error), pause);
        now += pause;
    }
}

// R38, R44: rule 6
#[test]
fn an_outage_in_the_window_is_no_endless_series_of_ever_shorter_pauses() {
    // A token of 1 800 s, and a request every ms: the ms of each flight until the usable end.
    let latest = {
        let mut times = vec![990_000, 991_000, 992_000, 994_000, 998_000, 1_006_000, 1_022_000];
        times.extend((1..=23).map(|n| 1_022_000 + n * 30_000));
        times.extend([1_741_000, 1_755_500, 1_762_750, 1_766_375, 1_768_188, 1_769_188]);
        times
    };
    let earliest: Vec<u64> = (900..1_770).map(|second| second * 1_000).collect();
    for (draw, expected) in [(0.0, earliest), (1.0, latest)] {
        let mut play = Play::with_token(draw, 1_800);
        let mut flights = Vec::new();
        for at in 890_000..1_770_000 {
            match play.at(at).ask() {
                Stamp(1) => {}
                StampAndDepart(1) => {
                    flights.push(at);
                    play.fails(down());
                }
                said => panic!("{said:?} at {at} ms"),
            }
        }
        assert_eq!(flights, expected, "draw {draw}");
    }
}

// R38, R42: rules 6 and 8
#[test]
fn a_pause_drawn_beside_a_token_is_shorter_when_the_token_has_ended() {
    // The failure, ms at which it comes beside a token usable until 1 770 000, the draw; ms of the first try after.
    let table = [
        // The floor of a second is for who has a token; half of the 800 ms left, or 100 ms, for who has none.
        (down(), 1_769_200, 1.0, 1_770_000),
        (down(), 1_769_999, 0.0, 1_770_099),
        (wrong_secret(), 1_769_000, 0.0, 1_771_500),
        (wrong_secret(), 1_769_000, 1.0, 1_774_000),
        (throttled(20), 1_760_000, 0.0, 1_780_000),
        (throttled(20), 1_760_000, 1.0, 1_782_000),
        (throttled(1_000), 1_750_000, 0.0, 1_810_000),
        (throttled(1_000), 1_750_000, 1.0, 1_810_000),
        // The 60 s are over when the token ends.
        (throttled(1_000), 1_600_000, 0.0, 1_770_000),
        (throttled(1_000), 1_600_000, 1.0, 1_770_000),
        (throttled(u64::MAX), 1_600_000, 1.0, 1_770_000),
        // The 300 s are over before it ends.
        (throttled(1_000), 1_400_000, 0.0, 1_700_000),
        (throttled(1_000), 1_400_000, 1.0, 1_700_000),
        (throttled(200), 1_400_000, 0.0, 1_600_000),
        (throttled(200), 1_400_000, 1.0, 1_620_000),
    ];
    for (error, at, draw, next) in table {
        let case = format!("{error:?} at {at} ms, draw {draw}");
        let mut play = Play::with_token(draw, 1_800);
        assert_eq!(play.at(at).ask(), StampAndDepart(1), "{case}");
        play.fails(error);
        let before = play.at(next - 1).ask();
        let then = play.at(next).ask();
        if next < 1_770_000 {
            assert_eq!((before, then), (Stamp(1), StampAndDepart(1)), "{case}");
        } else {
            assert_eq!(before, if next == 1_770_000 { Stamp(1) } else { Fail(1) }, "{case}");
            assert_eq!(then, Depart, "{case}");
        }
    }
}

// R39: rules 5 to 9
#[test]
fn after_any_error_the_first_call_past_the_pause_starts_afresh() {
    let kinds = [
        ErrorKind::InvalidCredentials,
        ErrorKind::InvalidCredentials,
        ErrorKind::InvalidRequest,
        ErrorKind::Throttled,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::MalformedResponse,
        ErrorKind::UnsupportedTokenType,
        ErrorKind::NoRuntime,
        ErrorKind::Reentrant,
        ErrorKind::Panicked,
        ErrorKind::Config,
        ErrorKind::Other,
    ];
    for kind in kinds {
        for draw in [0.0, 1.0] {
            for with_token in [false, true] {
                let mut play = if with_token { Play::with_token(draw, 1_800) } else { Play::new(draw) };
                let start = if with_token { 1_000_000 } else { 0 };
                assert!(matches!(play.at(start).ask(), Depart | StampAndDepart(1)));
                let pause = play.fails(Error::new(kind, "failed"));
                assert!(pause <= 5_000, "{kind:?} is remembered for {pause} ms");
                assert!(matches!(play.at(start + pause).ask(), Depart | StampAndDepart(1)), "{kind:?}");
                let generation = play.lands("second", 1_800_000);
                assert_eq!(play.ask(), Stamp(generation), "{kind:?}");
                let view = play.slot.view(play.now);
                assert!(view.last_error.is_none() && view.next_try.is_none() && !view.stale, "{kind:?}");
            }
        }
    }
}

// R42: rule 9
#[test]
fn a_refusal_ends_a_transient_pause_once_per_generation() {
    for draw in [0.0, 1.0] {
        for refusal in [Rejection::Unspecified, Rejection::InvalidToken] {
            let mut play = Play::with_accepted(draw, 1_800);
            assert_eq!(play.at(1_000_000).ask(), StampAndDepart(1));
            play.fails(down());
            assert_eq!(play.ask(), Stamp(1));
            assert_eq!(play.refuse(1, refusal), Depart, "the refusal ends the pause");
            play.fails(down());
            match refusal {
                Rejection::Unspecified => {
                    assert_eq!(play.refuse(1, refusal), CoolingDown(1_000), "but not a second time")
                }
                _ => assert!(matches!(play.ask(), Fail(_)), "an explicitly refused token is gone"),
            }
        }
    }
}

// R42: rule 9
#[test]
fn the_next_generation_may_end_a_pause_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    for generation in [1, 3] {
        play.now = play.now.after(Duration::from_secs(1_000));
        assert_eq!(play.ask(), StampAndDepart(generation));
        play.fails(down());
        assert_eq!(play.refuse(generation, Rejection::Unspecified), Depart);
        assert_eq!(play.lands(&format!("after-{generation}"), 1_800_000), generation + 2);
        play.accept();
    }
}

// R42: rule 9
#[test]
fn a_refusal_ends_neither_a_permanent_error_nor_a_retry_after() {
    let table = [
        (wrong_secret(), 0.0, 2_500),
        (wrong_secret(), 1.0, 5_000),
        (throttled(0), 0.0, 1_000),
        (throttled(20), 0.0, 20_000),
        (throttled(20), 1.0, 22_000),
        (throttled(1_000), 1.0, 300_000),
    ];
    for (error, draw, pause) in table {
        let mut play = Play::with_accepted(draw, 1_800);
        assert_eq!(play.at(1_000_000).ask(), StampAndDepart(1));
        assert_eq!(play.fails(error), pause);
        for refusal in [Rejection::Unspecified, Rejection::InvalidToken] {
            assert_eq!(play.at(1_000_000).refuse(1, refusal), CoolingDown(pause));
            assert_eq!(play.at(1_000_000 + pause - 1).refuse(1, refusal), CoolingDown(1));
        }
        assert_eq!(play.ask(), Stamp(1), "the token stays meanwhile");
        // None of it cost anything.
        for _ in 0..6 {
            assert!(play.slot.budget.take(true, play.now.mono));
        }
    }
}
