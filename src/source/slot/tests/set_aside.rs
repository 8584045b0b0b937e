//! Rule 12.

use super::*;

// R4: rule 12
#[test]
fn a_rejection_joins_the_early_fetch_in_flight() {
    for (draw, window) in [(0.0, 900_000), (1.0, 990_000)] {
        let mut play = Play::with_accepted(draw, 1_800);
        assert_eq!(play.at(window).request(), StampAndFetch(1));
        assert_eq!(play.at(window + 100).reject(1), Join);
        assert_eq!(play.request(), Join, "the rejected token is not stamped");
        assert!(play.budget_is_full(), "the fetch was in flight already");
        assert_eq!(play.at(window + 200).completes("second", 1_800_000), 2);
        assert_eq!(play.request(), Stamp(2));
        assert_eq!(play.fetches, 2);
        assert!(play.slot.rare.as_ref().is_none_or(|rare| rare.replacement.is_none()), "the old token is not kept");
    }
}

/// How the refresh after a rejection fails.
enum Fails {
    With(Error),
    SameToken,
}

// R22, R36, R38: rule 12
#[test]
fn after_a_failed_refresh_the_rejected_token_is_stamped_again() {
    // How the fetch fails; whether it was running before the rejection; the draw; the backoff in ms.
    let table = [
        (Fails::With(down()), false, 0.0, 1_000),
        (Fails::With(down()), false, 1.0, 2_000),
        (Fails::With(down()), true, 0.0, 1_000),
        (Fails::With(wrong_secret()), false, 0.0, 2_500),
        (Fails::With(wrong_secret()), false, 1.0, 5_000),
        (Fails::With(throttled(100)), false, 0.0, 100_000),
        (Fails::With(throttled(100)), false, 1.0, 110_000),
        (Fails::SameToken, false, 0.0, 1_000),
        (Fails::SameToken, false, 1.0, 2_000),
        (Fails::SameToken, true, 0.0, 1_000),
        (Fails::SameToken, true, 1.0, 2_000),
    ];
    for (fails, joined, draw, backoff) in table {
        let mut play = Play::with_accepted(draw, 1_800);
        play.at(1_000_000);
        if joined {
            assert_eq!(play.request(), StampAndFetch(1));
        }
        assert_eq!(play.reject(1), if joined { Join } else { Fetch });
        assert_eq!(play.request(), Join);
        let next = match fails {
            Fails::With(error) => play.fails(error),
            Fails::SameToken => {
                let error = play.completes_with("first", 1_800_000).unwrap_err();
                assert!(error.is_transient());
                next_try(&error)
            }
        };
        assert_eq!(next, backoff);
        assert_eq!(play.request(), Stamp(1));
        assert_eq!(play.at(1_000_000 + backoff - 1).request(), Stamp(1));
        assert_eq!(play.at(1_769_999).usable(), Some(1));
        assert_eq!(play.at(1_770_000).usable(), None, "until usable_until");
    }
}

// R9, R22: rule 12
#[test]
fn after_a_cancelled_fetch_the_rejected_token_is_stamped_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    assert_eq!(play.request(), Join);
    assert!(play.slot.take_fetch(play.fetches).is_some());
    play.slot.cancel(play.now);
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.slot.published(play.now).map(Token::generation), Some(1));
}

// R38: rule 12
#[test]
fn a_rejected_token_is_set_aside_once_per_fetch_and_for_a_limited_time() {
    // For how long it is set aside; when the fetch starts, and when the rejection comes.
    for (set_aside, started, rejected) in
        [(1_000, 1_000, 1_000), (5_000, 1_000, 1_000), (1_000, 900_000, 903_000), (5_000, 900_000, 903_000)]
    {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.set_aside = set_aside;
        if started != rejected {
            assert_eq!(play.at(started).request(), StampAndFetch(1));
        }
        assert_eq!(play.at(rejected).reject(1), if started == rejected { Fetch } else { Join });
        for at in [rejected, rejected + set_aside - 1] {
            assert_eq!(play.at(at).request(), Join);
            assert!(play.slot.published(play.now).is_none());
            assert_eq!(play.slot.set_aside_for(play.now).map(ms), Some(rejected + set_aside - at));
        }
        assert_eq!(play.at(rejected + set_aside).request(), Stamp(1));
        assert_eq!(play.slot.published(play.now).map(Token::generation), Some(1));
        assert_eq!(play.reject(1), Join);
        assert_eq!(play.request(), Stamp(1), "not a second time");
        assert_eq!(play.completes("second", 1_800_000), 2);
        // The next fetch sets its token aside again.
        play.accept();
        assert_eq!(play.reject(2), Fetch);
        assert_eq!(play.request(), Join);
    }
}

// R38: rule 12
#[test]
fn a_set_aside_token_is_not_stamped_again_after_usable_until() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_769_000).reject(1), Fetch);
    assert_eq!(play.at(1_769_999).request(), Join);
    assert_eq!(play.at(1_774_000).request(), Join);
    play.fails(down());
    assert_eq!(play.request(), Fail(100));
}

/// The steps of a row of rejections.
#[derive(Clone, Copy, Debug)]
enum Step {
    Reject,
    Replay,
    Accept,
}
use Step::{Accept, Reject, Replay};

// R70: rules 6, 8 and 12
#[test]
fn three_rejections_without_an_acceptance_confirm_a_token_dead() {
    let table: [(&[Step], bool); 8] = [
        (&[Reject, Reject], false),
        (&[Reject, Reject, Reject], true),
        (&[Reject, Reject, Reject, Reject], true),
        (&[Reject, Replay], false),
        (&[Reject, Reject, Accept, Reject, Reject], false),
        (&[Reject, Reject, Accept, Reject, Reject, Reject], true),
        (&[Reject, Reject, Reject, Accept], false),
        (&[Reject, Reject, Reject, Accept, Reject], false),
    ];
    for (steps, dead) in table {
        // With a running fetch, which sets the token aside; and with a backoff, which does not.
        for backoff in [false, true] {
            let case = format!("{steps:?}, backoff {backoff}");
            let mut play = Play::with_accepted(0.0, 1_800);
            assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
            if backoff {
                play.fails(throttled(1_000));
            }
            for step in steps {
                match step {
                    Reject if backoff => assert!(matches!(play.reject(1), Backoff(_)), "{case}"),
                    Reject => assert_eq!(play.reject(1), Join, "{case}"),
                    Replay => play.reject_replay(1),
                    Accept => play.accept(),
                }
                assert_eq!(play.request(), if backoff { Stamp(1) } else { Join }, "{case}");
            }
            assert_eq!(play.slot.view(play.now).dead, dead, "{case}");
            if !backoff {
                assert_eq!(play.fails(throttled(1_000)), if dead { 60_000 } else { 300_000 }, "{case}");
            }
            assert_eq!(play.request(), Stamp(1), "a dead token is still stamped: {case}");
            play.at(1_059_999);
            let left = if dead { 1 } else { 240_001 };
            assert_eq!(play.slot.view(play.now).next_try.map(ms), Some(left), "{case}");
        }
    }
}

// R70: rule 12
#[test]
fn a_replay_confirms_a_token_dead_too() {
    let mut play = Play::with_token(0.0, 1_800);
    for replays in 1..=3 {
        play.at(1_000 * replays).reject_replay(1);
        assert_eq!(play.request(), Stamp(1));
        assert_eq!(play.slot.view(play.now).dead, replays == 3);
    }
    assert!(play.budget_is_full() && play.fetches == 1, "a rejected replay takes nothing");
    play.accept();
    assert!(!play.slot.view(play.now).dead);
}

// R42, R70: rules 8, 9 and 12
#[test]
fn a_dead_token_is_replaced_after_66_seconds_at_the_latest() {
    for (draw, added) in [(0.0, 0), (1.0, 6_000)] {
        let mut play = Play::with_accepted(draw, 1_800);
        assert_eq!(play.at(100_000).reject(1), Fetch);
        assert_eq!(play.fails(throttled(1_000)), 300_000 + 5 * added);
        assert_eq!(play.reject(1), Backoff(300_000 + 5 * added));
        assert_eq!(play.reject(1), Backoff(60_000 + added));
        assert_eq!(play.at(159_999).reject(1), Backoff(1 + added), "not before Retry-After is over");
        assert_eq!(play.at(160_000).reject(1), Fetch);
        // The rejection of this generation has ended a backoff. The next one lasts until its end.
        assert_eq!(play.fails(throttled(1_000)), 60_000 + added);
        assert_eq!(play.at(219_999 + added).reject(1), Backoff(1));
        assert_eq!(play.at(220_000 + added).reject(1), Fetch);
    }
}

// R70: rules 6 and 12
#[test]
fn beside_a_dead_token_the_floor_of_a_backoff_is_the_one_without_a_token() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.fails(down()), 100);
    assert_eq!(play.at(900_099).request(), Stamp(1));
    assert_eq!(play.at(900_100).request(), StampAndFetch(1), "an early refresh follows the same floor");
}

// R69: rule 12
#[test]
fn a_token_that_is_confirmed_dead_is_not_set_aside_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.reject(1), Join);
    play.fails(throttled(1));
    assert_eq!(play.at(2_100).reject(1), Fetch);
    assert_eq!(play.request(), Stamp(1), "it is still stamped");
    assert!(play.slot.view(play.now).dead);
}
