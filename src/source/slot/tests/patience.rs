//! Rule 18.

use super::*;

/// A slot without a token, whose callers have the patience of 2 s.
fn patient(draw: f64) -> Play {
    let mut play = Play::new(draw);
    play.patience.limit = Some(Duration::from_secs(2));
    play
}

// R42: rule 18
#[test]
fn callers_wait_through_the_short_backoffs_of_two_seconds() {
    let mut play = patient(0.5);
    // When a fetch starts and fails; the backoff after it; whether callers wait.
    for (started, failed, backoff, waits) in
        [(0, 200, 250, true), (450, 650, 500, true), (1_150, 1_350, 1_000, false), (2_350, 2_550, 2_000, false)]
    {
        assert_eq!(play.at(started).request(), Fetch);
        assert_eq!(play.at(failed).fails(down()), backoff);
        assert_eq!(play.request(), if waits { LookAgain(Some(backoff)) } else { Fail(backoff) });
        assert_eq!(play.at(failed + backoff - 1).request(), if waits { LookAgain(Some(1)) } else { Fail(1) });
    }
}

// R42: rule 18
#[test]
fn the_patience_counts_from_the_begin_of_the_first_failed_fetch_to_the_end_of_the_backoff() {
    for (failed, action) in [(1_500, LookAgain(Some(500))), (1_501, Fail(500))] {
        let mut play = patient(1.0);
        assert_eq!(play.request(), Fetch);
        play.at(failed).fails(down());
        assert_eq!(play.request(), action);
    }
}

// R42: rule 18
#[test]
fn a_caller_waits_through_no_backoff_that_ends_after_its_max_wait() {
    let mut play = patient(1.0);
    assert_eq!(play.request(), Fetch);
    play.fails(down());
    for (max_wait, action) in [(499, Fail(500)), (500, LookAgain(Some(500)))] {
        play.patience.max_wait = Duration::from_millis(max_wait);
        assert_eq!(play.request(), action);
    }
}

// R1, R42: rule 18
#[test]
fn some_failures_are_not_waited_for_and_no_patience_turns_it_off() {
    let panicked = || Error::new(ErrorKind::Panicked, "panicked");
    let (two, none) = (Some(Duration::from_secs(2)), Some(Duration::ZERO));
    // The failure; the patience; what a caller does at draw 0.
    let table = [
        (down(), two, LookAgain(Some(100))),
        (down(), none, Fail(100)),
        (throttled(1), two, LookAgain(Some(1_000))),
        (throttled(2), two, LookAgain(Some(2_000))),
        (throttled(3), two, Fail(3_000)),
        // Without a limit, as for a warm-up: for the whole of max_wait, which is 15 s.
        (throttled(15), None, LookAgain(Some(15_000))),
        (throttled(16), None, Fail(16_000)),
        (panicked(), two, Fail(100)),
        (panicked(), None, Fail(100)),
        (wrong_secret(), Some(Duration::from_secs(60)), Fail(2_500)),
        (wrong_secret(), None, Fail(2_500)),
    ];
    for (error, limit, action) in table {
        let case = format!("{error:?}, {limit:?}");
        let mut play = patient(0.0);
        play.patience.limit = limit;
        assert_eq!(play.request(), Fetch);
        play.fails(error);
        assert_eq!(play.request(), action, "{case}");
    }
}

// R42: rule 18
#[test]
fn a_run_of_failures_ends_with_a_success_or_after_two_quiet_seconds() {
    // When the second fetch starts, which fails at once: the first backoff ends at 0.5 s, the second one lasts 1 s.
    for (at, action) in
        [(500, LookAgain(Some(1_000))), (1_001, Fail(1_000)), (2_500, Fail(1_000)), (2_501, LookAgain(Some(1_000)))]
    {
        let mut play = patient(1.0);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(down()), 500);
        assert_eq!(play.at(at).request(), Fetch);
        assert_eq!(play.fails(down()), 1_000);
        assert_eq!(play.request(), action, "at {at} ms");
    }
    let mut play = patient(1.0);
    assert_eq!(play.request(), Fetch);
    play.fails(down());
    assert_eq!(play.at(1_900).request(), Fetch);
    play.completes("first", 1_000);
    assert_eq!(play.at(2_900).request(), Fetch);
    play.fails(down());
    assert_eq!(play.request(), LookAgain(Some(500)));
}

// R42: rules 14 and 18
#[test]
fn an_invalidation_that_ends_a_backoff_does_not_begin_a_new_run_of_failures() {
    // When the second fetch fails, which starts at 100 ms; its backoff is 1 s.
    for (failed, action) in [(1_000, LookAgain(Some(1_000))), (1_050, Fail(1_000))] {
        let mut play = patient(1.0);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(down()), 500);
        play.at(100).invalidate();
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.at(failed).fails(down()), 1_000);
        assert_eq!(play.request(), action);
    }
}

// R42: rules 9 and 18
#[test]
fn a_rejection_that_ends_a_backoff_does_not_begin_a_new_run_of_failures() {
    let mut play = patient(1.0);
    assert_eq!(play.request(), Fetch);
    play.completes("first", 10_000);
    play.accept();
    assert_eq!(play.at(5_500).request(), StampAndFetch(1));
    assert_eq!(play.fails(down()), 2_000);
    assert_eq!(play.at(6_500).reject(1), Fetch);
    // The token has ended. From the rejection to the end of this backoff it is 2 s.
    assert_eq!(play.at(7_500).fails(down()), 1_000);
    assert_eq!(play.request(), Fail(1_000), "the run began at 5 500 ms");
}

// R42: rule 18
#[test]
fn a_caller_with_a_usable_token_does_not_wait() {
    let mut play = Play::with_token(0.0, 1_800);
    play.patience.limit = Some(Duration::from_secs(2));
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    play.fails(down());
    assert_eq!(play.request(), Stamp(1));
}

// R9: rules 14 and 18
#[test]
fn whatever_ends_a_backoff_wakes_the_callers_that_wait_for_it() {
    let table = [
        Event("an invalidation", Play::invalidate),
        Event("a rotation", Play::rotate),
        Event("the end of the next fetch", |play| {
            assert_eq!(play.at(500).request(), Fetch);
            play.completes("first", 1_000);
        }),
    ];
    for Event(name, event) in table {
        let mut play = patient(1.0);
        assert_eq!(play.request(), Fetch);
        play.fails(down());
        assert_eq!(play.request(), LookAgain(Some(500)));
        assert_eq!(play.look_again(77), 77);
        assert_eq!(play.look_again(78), 77, "one handle for all of them");
        event(&mut play);
        assert_eq!(play.woken(), [77], "{name}");
    }
}
