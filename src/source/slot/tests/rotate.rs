//! Rule 14: rotations in quick succession, and in a fetch.

use super::forget::ends;
use super::*;

fn progress(play: &Play) -> Option<Progress> {
    play.slot.in_flight().map(InFlight::progress)
}

// R50: rule 14
#[test]
fn a_rotation_during_a_fetch_that_a_rotation_began_acts_as_an_invalidation() {
    for at in [500, 1_000, 2_000] {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.rotate();
        assert_eq!(play.at(10).request(), Fetch);
        play.at(at).rotate();
        assert_eq!(play.woken(), [0; 0], "a slow issuer serves the callers that wait");
        assert_eq!(play.at(at + 1_000).request(), LookAgain(None));
        assert_eq!(progress(&play), Some(Progress::Outdated), "nor is it cancelled later, second rotation at {at} ms");
        assert!(play.completes_with("second", 1_800_000).unwrap().is_for_waiters_only());
        // The second rotation takes effect now, and begins the next fetch.
        assert_eq!(play.request(), Fetch);
        play.woken();
        play.at(at + 1_100).rotate();
        assert_eq!(play.woken(), [0; 0]);
        assert_eq!(progress(&play), Some(Progress::Outdated));
    }
}

// R50: rule 14
#[test]
fn the_next_fetch_after_a_rotation_does_not_wait_for_the_second_of_an_invalidation() {
    let mut play = Play::with_token(0.0, 1_800);
    play.invalidate();
    assert_eq!(play.request(), Fetch);
    play.at(200).completes("second", 1_800_000);
    play.at(300).invalidate();
    assert_eq!(play.request(), LookAgain(Some(700)));
    play.at(400).rotate();
    assert_eq!(play.request(), Fetch);
}

// R67: rule 14
#[test]
fn a_rotation_ends_every_backoff_and_a_second_one_within_a_second_does_so_when_it_is_over() {
    for error in [down(), wrong_secret(), throttled(60)] {
        let mut play = Play::new(1.0);
        assert_eq!(play.request(), Fetch);
        play.fails(error.clone());
        play.at(100).rotate();
        assert_eq!(play.request(), Fetch, "{error:?}");
        // The secret was still wrong.
        play.at(200).fails(error.clone());
        play.at(900).rotate();
        // An invalidation ends the backoff of the first one.
        if error.retry_after().is_some() || !error.is_transient() {
            assert!(matches!(play.request(), Fail(_)), "as an invalidation: {error:?}");
            assert!(matches!(play.at(1_099).request(), Fail(_)), "{error:?}");
        }
        assert_eq!(play.at(1_100).request(), Fetch, "{error:?}");
        play.rotate();
        assert_eq!(play.slot.in_flight().map(InFlight::progress), Some(Progress::Outdated), "a rotation began it");
    }
}

// R50: rule 14
#[test]
fn a_second_rotation_within_a_second_cancels_an_outdated_fetch_when_the_second_is_over() {
    let mut play = Play::with_accepted(0.0, 1_800);
    play.at(1_000).rotate();
    assert_eq!(play.request(), Fetch);
    play.at(1_100).completes("second", 1_800_000);
    assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
    play.at(1_500).rotate();
    assert_eq!(play.woken(), [0; 0]);
    assert_eq!(play.at(1_999).request(), LookAgain(None));
    assert_eq!(play.slot.in_flight().map(InFlight::progress), Some(Progress::Outdated));
    assert_eq!(play.at(2_000).request(), LookAgain(None));
    assert_eq!(play.woken(), [3], "its waiters");
    ends(&mut play);
    assert_eq!(play.request(), Fetch);
}

// R50: rule 14
#[test]
fn a_fetch_that_began_after_the_second_rotation_is_not_cancelled() {
    let mut play = Play::with_accepted(0.0, 1_800);
    play.at(1_000).rotate();
    play.at(1_500).rotate();
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(2_000).request(), Join);
    assert_eq!(play.at(2_100).completes("second", 1_800_000), 2);
    assert_eq!(play.request(), Stamp(2));
    assert_eq!(play.at(3_000).request(), Stamp(2));
}

// R67: rule 14
#[test]
fn the_failure_of_an_outdated_fetch_does_not_outlive_the_rotation_that_is_due() {
    let mut play = Play::with_accepted(0.0, 1_800);
    play.at(1_000).rotate();
    assert_eq!(play.request(), Fetch);
    play.completes("second", 1_800_000);
    assert_eq!(play.at(1_100).request_for(Wanted::Refreshed), Fetch);
    play.at(1_500).rotate();
    // The fetch used the old credentials. Its end is the first look at the key after the second is over.
    play.at(2_100).fails(wrong_secret());
    assert_eq!(play.request(), Fetch);
}

// R67: rule 14
#[test]
fn a_rotation_by_the_running_fetch_itself_does_not_cancel_it() {
    for rotation in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
        if rotation {
            play.slot.rotate(Some(2), play.now);
        } else {
            play.slot.invalidate(Some(2), play.now);
        }
        assert_eq!(play.request(), Join);
        assert_eq!(play.at(1_000_200).completes("second", 1_800_000), 2);
        // No rotation began the next fetch, so the next rotation cancels it.
        assert_eq!(play.at(2_000_000).request(), StampAndFetch(2));
        play.rotate();
        assert_eq!(play.woken(), [3]);
    }
}
