//! Rules 5 to 9.

use super::*;

// R38, R40: rule 5
#[test]
fn a_failed_fetch_removes_no_usable_token() {
    for (draw, window) in [(0.0, 900_000), (1.0, 990_000)] {
        for error in [down(), wrong_secret(), throttled(1_000)] {
            let mut play = Play::with_token(draw, 1_800);
            assert_eq!(play.at(window).request(), StampAndFetch(1));
            play.fails(error);
            assert_eq!(play.request(), Stamp(1), "no fetch during the backoff");
            assert_eq!(play.at(1_769_999).request(), StampAndFetch(1));
            assert_eq!(play.request(), Stamp(1));
            assert_eq!(play.at(1_770_000).request(), Join, "never after usable_until");
        }
    }
}

// R1, R42: rule 5
#[test]
fn without_a_token_callers_get_the_error_at_once_with_the_time_until_the_next_try() {
    // The error, the draw; the backoff in ms.
    let table = [
        (down(), 0.0, 100),
        (down(), 1.0, 500),
        (wrong_secret(), 0.0, 2_500),
        (wrong_secret(), 1.0, 5_000),
        (throttled(10), 0.0, 10_000),
        (throttled(10), 1.0, 11_000),
    ];
    for (error, draw, backoff) in table {
        let kind = error.kind();
        let mut play = Play::new(draw);
        assert_eq!(play.at(0).request(), Fetch);
        assert_eq!(play.request(), Join);
        assert_eq!(play.at(200).fails(error), backoff);
        let SlotAction::Fail(shared) = play.slot.request(Wanted::Usable, play.patience, play.now) else {
            panic!("a fetch during the backoff")
        };
        assert_eq!(shared.kind(), kind);
        assert_eq!(play.at(200 + backoff - 1).request(), Fail(1));
        assert_eq!(play.at(200 + backoff).request(), Fetch);
    }
}

// R42: rule 6
#[test]
fn backoffs_double_for_each_failure_in_a_row_and_start_over_after_a_success() {
    for (draw, backoffs) in [
        (0.0, [100; 9]),
        (0.5, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]),
        (1.0, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]),
    ] {
        let mut play = Play::new(draw);
        let mut now = 0;
        for backoff in backoffs {
            assert_eq!(play.at(now).request(), Fetch);
            assert_eq!(play.fails(down()), backoff, "draw {draw}");
            now += backoff;
        }
        assert_eq!(play.at(now).request(), Fetch);
        play.completes("first", 1_000);
        assert_eq!(play.at(now + 1_000).request(), Fetch);
        assert_eq!(play.fails(down()), backoffs[0], "draw {draw}");
    }
}

// R42, R67: rules 6 and 7
#[test]
fn permanent_errors_have_a_row_of_their_own_and_do_not_end_the_row_of_transient_ones() {
    let mut play = Play::new(1.0);
    let mut now = 0;
    for (error, backoff) in [
        (down(), 500),
        (down(), 1_000),
        (wrong_secret(), 5_000),
        (wrong_secret(), 10_000),
        (wrong_secret(), 20_000),
        (wrong_secret(), 40_000),
        (wrong_secret(), 60_000),
        (wrong_secret(), 60_000),
        // It ends the row of permanent ones.
        (down(), 2_000),
        (wrong_secret(), 5_000),
        (down(), 4_000),
    ] {
        assert_eq!(play.at(now).request(), Fetch);
        assert_eq!(play.fails(error), backoff);
        now += backoff;
    }
    assert_eq!(play.at(now).request(), Fetch);
    play.completes("first", 1_000);
    assert_eq!(play.at(now + 1_000).request(), Fetch);
    assert_eq!(play.fails(wrong_secret()), 5_000, "a success ends both rows");
}

// R67: rule 7
#[test]
fn an_hour_of_wrong_credentials_costs_a_few_dozen_token_requests_and_a_rotation_ends_the_backoff() {
    for (draw, most) in [(0.0, 123), (1.0, 64)] {
        // The backoffs at draw 0 are 2.5, 5, 10, 20 and then 30 s; at draw 1 they are twice as long.
        let mut play = Play::new(draw);
        let mut fetches = 0;
        for at in (0..3_600_000).step_by(100) {
            if play.at(at).request() == Fetch {
                fetches += 1;
                play.fails(wrong_secret());
            }
        }
        assert!(fetches <= most, "{fetches} token requests, draw {draw}");
        play.rotate();
        assert_eq!(play.request(), Fetch, "at once after a rotation");
        assert_eq!(play.fails(wrong_secret()), if draw == 0.0 { 2_500 } else { 5_000 }, "and the row starts over");
    }
}

// R38, R44: rule 6
#[test]
fn an_outage_in_the_window_causes_no_endless_series_of_ever_shorter_backoffs() {
    // A token of 1 800 s, and a request every ms: the ms of each fetch until usable_until.
    let latest = {
        let mut times = vec![990_000, 992_000, 994_000, 996_000, 1_000_000, 1_008_000, 1_024_000];
        times.extend((1..=23).map(|n| 1_024_000 + n * 30_000));
        times.extend([1_742_000, 1_756_000, 1_763_000, 1_766_500, 1_768_500]);
        times
    };
    let earliest: Vec<u64> = (900..1_770).map(|second| second * 1_000).collect();
    for (draw, expected) in [(0.0, earliest), (1.0, latest)] {
        let mut play = Play::with_token(draw, 1_800);
        let mut fetches = Vec::new();
        for at in 890_000..1_770_000 {
            match play.at(at).request() {
                Stamp(1) => {}
                StampAndFetch(1) => {
                    fetches.push(at);
                    play.fails(down());
                }
                action => panic!("{action:?} at {at} ms"),
            }
        }
        assert_eq!(fetches, expected, "draw {draw}");
    }
}

// R38, R42: rules 6 and 8
#[test]
fn a_backoff_that_started_beside_a_token_is_shorter_when_the_token_has_expired() {
    // The failure; ms at which it happens, beside a token usable until 1 770 000; the draw; ms of the next try.
    let table = [
        // With a token the minimum is 1 to 2 s. Without one, the backoff is half of the 800 ms left, or 100 ms.
        (down(), 1_767_000, 0.0, 1_768_000),
        (down(), 1_767_000, 1.0, 1_769_000),
        (down(), 1_769_200, 1.0, 1_770_000),
        (down(), 1_769_999, 0.0, 1_770_099),
        (wrong_secret(), 1_769_000, 0.0, 1_771_500),
        (wrong_secret(), 1_769_000, 1.0, 1_774_000),
        (throttled(20), 1_760_000, 0.0, 1_780_000),
        (throttled(20), 1_760_000, 1.0, 1_782_000),
        (throttled(1_000), 1_750_000, 0.0, 1_810_000),
        (throttled(1_000), 1_750_000, 1.0, 1_816_000),
        // The 60 s, and the 6 s that are added, have passed when the token stops being usable.
        (throttled(1_000), 1_600_000, 0.0, 1_770_000),
        (throttled(1_000), 1_600_000, 1.0, 1_770_000),
        (throttled(u64::MAX), 1_600_000, 1.0, 1_770_000),
        // The 300 s have passed before it stops being usable.
        (throttled(1_000), 1_400_000, 0.0, 1_700_000),
        (throttled(1_000), 1_400_000, 1.0, 1_730_000),
        (throttled(200), 1_400_000, 0.0, 1_600_000),
        (throttled(200), 1_400_000, 1.0, 1_620_000),
    ];
    for (error, at, draw, next) in table {
        let case = format!("{error:?} at {at} ms, draw {draw}");
        let mut play = Play::with_token(draw, 1_800);
        assert_eq!(play.at(at).request(), StampAndFetch(1), "{case}");
        play.fails(error);
        let before = play.at(next - 1).request();
        let then = play.at(next).request();
        if next < 1_770_000 {
            assert_eq!((before, then), (Stamp(1), StampAndFetch(1)), "{case}");
        } else {
            assert_eq!(before, if next == 1_770_000 { Stamp(1) } else { Fail(1) }, "{case}");
            assert_eq!(then, Fetch, "{case}");
        }
    }
}

// R39: rules 5 to 9
#[test]
fn after_any_error_the_first_call_after_the_backoff_starts_a_fetch() {
    let kinds = [
        ErrorKind::InvalidCredentials,
        ErrorKind::InvalidRequest,
        ErrorKind::Throttled,
        ErrorKind::Unavailable,
        ErrorKind::Tls,
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
                assert!(matches!(play.at(start).request(), Fetch | StampAndFetch(1)));
                let backoff = play.fails(Error::new(kind, "failed"));
                assert!(backoff <= 5_000, "{kind:?} causes a backoff of {backoff} ms");
                assert!(matches!(play.at(start + backoff).request(), Fetch | StampAndFetch(1)), "{kind:?}");
                let generation = play.completes("second", 1_800_000);
                assert_eq!(play.request(), Stamp(generation), "{kind:?}");
                let view = play.slot.view(play.now);
                assert!(view.last_error.is_none() && view.next_try.is_none() && !view.in_window, "{kind:?}");
            }
        }
    }
}

// R42: rule 9
#[test]
fn a_rejection_ends_a_transient_backoff_once_per_generation() {
    for (draw, backoff) in [(0.0, 1_000), (1.0, 2_000)] {
        let mut play = Play::with_accepted(draw, 1_800);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
        play.fails(down());
        assert_eq!(play.request(), Stamp(1));
        assert_eq!(play.reject(1), Fetch, "the rejection ends the backoff");
        assert_eq!(play.slot.view(play.now).next_try, None);
        play.fails(down());
        assert_eq!(play.reject(1), Backoff(backoff), "and not a second time");
        assert_eq!(play.request(), Stamp(1));
    }
}

// R42: rule 9
#[test]
fn a_rejection_of_the_next_generation_may_end_a_backoff_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    for generation in [1, 3] {
        play.now = play.now.after(Duration::from_secs(1_000));
        assert_eq!(play.request(), StampAndFetch(generation));
        play.fails(down());
        assert_eq!(play.reject(generation), Fetch);
        assert_eq!(play.completes(&format!("after-{generation}"), 1_800_000), generation + 2);
        play.accept();
    }
}

// R42: rule 9
#[test]
fn a_rejection_ends_no_backoff_after_a_permanent_error_and_none_before_a_retry_after_is_over() {
    // The failure; the draw; the backoff in ms; after how many ms a rejection ends it.
    let table = [
        (wrong_secret(), 0.0, 2_500, 2_500),
        (wrong_secret(), 1.0, 5_000, 5_000),
        (throttled(0), 0.0, 1_000, 0_u64),
        (throttled(0), 1.0, 2_000, 0),
        (throttled(1), 1.0, 2_000, 1_000),
        (throttled(20), 0.0, 20_000, 20_000),
        (throttled(20), 1.0, 22_000, 20_000),
        (throttled(300), 1.0, 330_000, 300_000),
        (throttled(1_000), 1.0, 330_000, 300_000),
    ];
    for (error, draw, backoff, ended) in table {
        let case = format!("{error:?}, draw {draw}");
        let mut play = Play::with_accepted(draw, 1_800);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1), "{case}");
        assert_eq!(play.fails(error.clone()), backoff, "{case}");
        for before in [0, ended / 2, ended.saturating_sub(1)].into_iter().filter(|before| *before < ended) {
            assert_eq!(play.at(1_000_000 + before).reject(1), Backoff(backoff - before), "{case}");
            // Otherwise the token would be confirmed dead.
            play.accept();
        }
        assert_eq!(play.request(), Stamp(1), "the token stays: {case}");
        assert!(play.budget_is_full(), "no rejection has cost any budget: {case}");
        assert_eq!(play.at(1_000_000 + ended).reject(1), Fetch, "{case}");
    }
}
