//! Rule 14. More about rotations is in `rotate.rs`.

use super::*;

/// `rotate` or `invalidate`.
fn forget(play: &mut Play, rotation: bool) {
    if rotation {
        play.rotate();
    } else {
        play.invalidate();
    }
}

/// The task of the cancelled fetch ends.
pub(super) fn ends(play: &mut Play) {
    let fetch = play.slot.take_fetch(play.fetches).expect("a fetch is running");
    assert_eq!(fetch.progress(), Progress::Discarded);
}

/// The outdated fetch returns a token.
fn completes_for_waiters(play: &mut Play, secret: &str) {
    assert!(play.completes_with(secret, 1_800_000).unwrap().is_for_waiters_only());
}

// R50: rule 14
#[test]
fn a_token_from_before_a_rotation_is_never_stamped_after_it() {
    for rotation in [false, true] {
        for at in [1_000, 1_000_000] {
            let mut play = Play::with_accepted(0.0, 1_800);
            let in_flight = play.at(at).request() == StampAndFetch(1);
            forget(&mut play, rotation);
            assert_eq!((play.usable(), play.slot.published(play.now).is_none()), (None, true));
            assert_eq!(play.slot.in_flight().is_some(), in_flight, "without a waiter no fetch starts");
            if in_flight {
                assert_eq!(play.request(), LookAgain(None), "there is one fetch at a time");
                if rotation { ends(&mut play) } else { completes_for_waiters(&mut play, "second") }
            }
            assert_eq!(play.request(), Fetch);
            assert_eq!(play.request(), Join);
        }
    }
}

// R50: rules 12 and 14
#[test]
fn after_a_rotation_during_a_refresh_the_rejected_token_is_not_put_back() {
    for rotation in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1), Fetch);
        forget(&mut play, rotation);
        if rotation {
            ends(&mut play)
        } else {
            completes_for_waiters(&mut play, "second")
        }
        assert_eq!(play.at(6_001).usable(), None, "nor when the time is over for which it was set aside");
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(down()), 100);
        assert_eq!(play.request(), Fail(100), "the old token does not come back");
        assert_eq!(play.at(7_100).request(), Fetch);
        // What was rejected with the old credentials says nothing about a token with the new ones.
        assert_eq!(play.completes_with("first", 1_800_000).is_ok(), rotation);
    }
}

// R50: rule 14
#[test]
fn an_invalidation_does_not_cancel_the_fetch_which_serves_the_callers_that_wait() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    play.at(100).invalidate();
    assert_eq!(play.woken(), [0; 0], "the handle of the fetch is not among them");
    assert_eq!(play.slot.in_flight().map(InFlight::progress), Some(Progress::Outdated));
    assert_eq!(play.request(), LookAgain(None), "a later caller waits for the next fetch");
    play.look_again(77);
    completes_for_waiters(play.at(200), "first");
    assert_eq!(play.woken(), [77]);
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(400).completes("second", 1_800_000), 2);
    assert_eq!(play.request(), Stamp(2));
}

// R50: rule 14
#[test]
fn a_rotation_cancels_the_fetch_and_moves_its_waiters_to_the_next_one() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    play.at(100).rotate();
    assert_eq!(play.woken(), [1], "the handle of the fetch");
    assert_eq!(play.slot.in_flight().map(InFlight::progress), Some(Progress::Discarded));
    assert_eq!(play.request(), LookAgain(None), "the cancelled fetch has not ended");
    play.look_again(77);
    ends(play.at(200));
    assert_eq!(play.woken(), [77]);
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(400).completes("second", 1_800_000), 1);
}

// R42: rule 14
#[test]
fn fetches_that_invalidations_cause_start_once_a_second_against_an_issuer_of_any_speed() {
    for (issuer, most) in [(0, 11), (200, 11), (1_500, 8)] {
        let mut play = Play::new(0.0);
        let mut fetches: Vec<u64> = Vec::new();
        let mut served = 0;
        for at in 0..10_000 {
            if play.at(at).slot.in_flight().is_some() && at >= fetches.last().unwrap() + issuer {
                play.completes_with(&format!("at-{at}"), 1_800_000).unwrap();
                served += 1;
            }
            // Ten times a second.
            if at % 100 == 50 {
                play.invalidate();
            }
            if play.request() == Fetch {
                fetches.push(at);
            }
            play.woken();
        }
        assert!(fetches.len() <= most && served >= most - 2, "{fetches:?}, issuer {issuer} ms");
        assert!(fetches.windows(2).skip(1).all(|pair| pair[1] - pair[0] >= 1_000), "{fetches:?}, issuer {issuer} ms");
    }
}

// R42: rule 14
#[test]
fn an_invalidation_ends_a_transient_backoff_once_a_second() {
    let mut play = Play::new(1.0);
    for backoff in [500, 1_000, 2_000, 4_000, 8_000] {
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(down()), backoff);
        play.now = play.now.after(Duration::from_millis(backoff));
    }
    assert_eq!(play.at(100_000).request(), Fetch);
    assert_eq!(play.fails(down()), 16_000);
    play.invalidate();
    assert_eq!(play.request(), Fetch, "ended");
    assert_eq!(play.at(100_100).fails(down()), 30_000);
    play.at(100_999).invalidate();
    assert_eq!(play.request(), Fail(29_101), "not ended");
    play.at(101_000).invalidate();
    assert_eq!(play.request(), Fetch, "ended");
}

// R42: rule 14
#[test]
fn an_invalidation_without_a_backoff_leaves_the_next_one_free_to_end_one() {
    let mut play = Play::with_token(1.0, 1_800);
    play.invalidate();
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(200).fails(down()), 500);
    play.at(300).invalidate();
    assert_eq!(
        play.request(),
        LookAgain(Some(700)),
        "the backoff has ended, and a second since the last fetch is not over"
    );
    assert_eq!(play.at(1_000).request(), Fetch);
}

// R42, R67: rule 14
#[test]
fn an_invalidation_ends_neither_a_permanent_backoff_nor_a_retry_after() {
    for (error, backoff) in [(wrong_secret(), 2_500), (throttled(3), 3_000)] {
        let mut play = Play::new(0.0);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(error), backoff);
        for at in [0, 1_000, 2_000, backoff - 1] {
            play.at(at).invalidate();
            assert_eq!(play.request(), Fail(backoff - at));
        }
        assert_eq!(play.at(backoff).request(), Fetch);
    }
}

// R42: rule 14
#[test]
fn a_loop_of_invalidations_costs_a_failing_issuer_one_request_a_second() {
    for (error, expected) in [(down(), vec![0, 1_000, 2_000, 3_000, 4_000, 5_000]), (wrong_secret(), vec![0, 5_000])] {
        let mut play = Play::new(1.0);
        let mut fetches = Vec::new();
        for at in 0..=5_000 {
            play.at(at).invalidate();
            if play.request() == Fetch {
                fetches.push(at);
                play.fails(error.clone());
            }
        }
        assert_eq!(fetches, expected);
    }
}

// R9, R42: rule 14
#[test]
fn an_invalidation_or_a_rotation_ends_the_backoff_after_cancelled_fetches() {
    for rotation in [false, true] {
        let mut play = Play::new(1.0);
        for _ in 0..2 {
            assert_eq!(play.request(), Fetch);
            play.slot.take_fetch(play.fetches).unwrap();
            play.slot.cancel(play.now);
        }
        assert_eq!(play.request(), Fail(1_000));
        forget(&mut play, rotation);
        assert_eq!(play.request(), Fetch);
    }
}

// R52: rule 14
#[test]
fn neither_a_rotation_nor_an_invalidation_fills_the_budget() {
    for rotation in [false, true] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.reject(1), Fetch);
        play.completes("second", 1_800_000);
        forget(&mut play, rotation);
        assert_eq!(play.request(), Fetch);
        play.completes("third", 1_800_000);
        assert_eq!(play.reject(3), BudgetExhausted);
    }
}
