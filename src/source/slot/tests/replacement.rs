//! Rule 21.

use super::*;

/// An early refresh at 900 s has replaced the first token, which is usable until 1 770 s.
fn replaced() -> Play {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("second", 1_800_000), 2);
    play
}

fn keeps_old(play: &Play) -> bool {
    play.slot.rare.as_ref().is_some_and(|rare| rare.replacement.is_some())
}

// R38: rule 21
#[test]
fn a_new_token_that_is_not_known_everywhere_yet_is_tried_after_a_growing_delay() {
    let mut play = replaced();
    let mut at = 900_100;
    for delay in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_eq!(play.at(at).request(), Stamp(2));
        assert_eq!(play.reject(2), Stamp(1), "the request is replayed with the old token");
        assert_eq!(play.reject(2), Stamp(1), "so are the requests that were sent at the same time");
        for time in [at, at + delay - 1] {
            assert_eq!(play.at(time).request(), Stamp(1), "no early refresh, although the token is in its window");
            assert!(play.slot.published(play.now).is_none());
        }
        at += delay;
    }
    assert_eq!(play.at(at).request(), Stamp(2));
    assert_eq!(play.slot.published(play.now).map(Token::generation), Some(2));
    assert_eq!(play.fetches, 2);
    assert!(play.budget_is_full());
}

// R38: rule 21
#[test]
fn the_old_token_is_kept_for_a_minute_and_until_the_new_one_is_accepted() {
    // Whether the new token is accepted; when it is rejected; whether the old token is there.
    let table = [
        (true, 900_001, true),
        (true, 959_999, true),
        (true, 960_000, false),
        (false, 960_000, true),
        (false, 1_769_999, true),
        (false, 1_770_000, false),
        (true, 1_770_000, false),
    ];
    for (accepted, at, kept) in table {
        let mut play = replaced();
        if accepted {
            play.accept();
        }
        assert_eq!(play.at(at).reject(2), if kept { Stamp(1) } else { Fetch }, "accepted {accepted}, at {at} ms");
    }
}

// R38: rule 21
#[test]
fn if_the_old_token_is_rejected_then_the_new_one_is_current_for_good_without_a_fetch() {
    let mut play = replaced();
    assert_eq!(play.reject(2), Stamp(1));
    assert_eq!(play.reject(1), Stamp(2));
    assert_eq!(play.request(), Stamp(2));
    assert!(!keeps_old(&play));
    assert_eq!(play.fetches, 2);
    assert_eq!(play.reject(2), Fetch, "the next rejection is an ordinary one");
}

// R38: rule 21
#[test]
fn a_late_rejection_of_the_old_token_changes_nothing() {
    let mut play = replaced();
    assert_eq!(play.reject(1), Stamp(2));
    assert!(keeps_old(&play));
    assert_eq!(play.reject(2), Stamp(1));
}

// R38: rule 21
#[test]
fn a_request_that_is_rejected_with_both_tokens_shows_nothing_about_the_old_one() {
    for accepted in [false, true] {
        let mut play = Play::with_token(0.0, 1_800);
        if accepted {
            play.accept();
        }
        assert_eq!(play.at(900_000).request(), StampAndFetch(1));
        assert_eq!(play.completes("second", 1_800_000), 2);
        assert_eq!(play.reject(2), Stamp(1));
        play.reject_replay(1);
        assert_eq!(play.request(), Stamp(1));
        assert!(keeps_old(&play));
    }
}

// R38: rule 21
#[test]
fn a_rejected_replay_with_the_new_token_makes_the_old_one_current() {
    let mut play = replaced();
    play.reject_replay(2);
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.at(901_000).request(), Stamp(2));
}

// R38: rule 21
#[test]
fn if_the_old_token_ends_the_new_one_is_current_before_its_next_try() {
    let mut play = replaced();
    assert_eq!(play.at(1_769_800).reject(2), Stamp(1));
    assert_eq!(play.at(1_769_999).request(), Stamp(1));
    assert_eq!(play.at(1_770_000).request(), Stamp(2));
    assert!(!keeps_old(&play));
}

// R38: rule 21
#[test]
fn if_the_new_token_ends_first_the_old_one_stays() {
    // When the new token is rejected: its next try is due before it ends, or after that.
    for rejected in [None, Some(913_000), Some(914_900)] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(900_000).request(), StampAndFetch(1));
        // Usable for 15 s.
        assert_eq!(play.completes("second", 20_000), 2);
        if let Some(at) = rejected {
            assert_eq!(play.at(at).reject(2), Stamp(1));
        }
        assert_eq!(play.at(915_000).request(), StampAndFetch(1), "rejected at {rejected:?} ms");
        assert!(!keeps_old(&play));
    }
}

// R70: rule 21
#[test]
fn a_dead_token_is_not_kept() {
    for (rejections, kept) in [(0, true), (2, true), (3, false)] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.at(900_000).request(), StampAndFetch(1));
        for _ in 0..rejections {
            play.reject_replay(1);
        }
        assert_eq!(play.completes("second", 1_800_000), 2);
        assert_eq!(keeps_old(&play), kept, "{rejections} rejections");
    }
}

// R38: rule 21
#[test]
fn a_refresh_on_demand_keeps_the_old_token_and_a_rejected_or_expired_one_is_not_kept() {
    for wanted in [Wanted::Refreshed, Wanted::ValidFor(Duration::from_secs(1_790))] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(100_000).request_for(wanted), Fetch);
        assert_eq!(play.completes("second", 1_800_000), 2);
        assert!(keeps_old(&play));
        assert_eq!(play.reject(2), Stamp(1));
    }
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(100_000).reject(1), Fetch);
    play.completes("second", 1_800_000);
    assert!(!keeps_old(&play));
    play.accept();
    assert_eq!(play.at(1_870_000).request(), Fetch);
    play.completes("third", 1_800_000);
    assert!(!keeps_old(&play));
}

// R38: rules 19 and 21
#[test]
fn while_tokens_alternate_only_a_dead_old_token_makes_the_new_one_current_for_good() {
    let mut play = Play::with_accepted(0.0, 1_800);
    play.at(100_000).reject_replay(1);
    assert_eq!(play.reject(1), Fetch);
    assert_eq!(play.completes("second", 1_800_000), 2);
    assert!(keeps_old(&play));
    assert_eq!(play.reject(2), Stamp(1));
    assert_eq!(play.reject(1), BudgetExhausted);
    assert_eq!(play.reject(1), BudgetExhausted);
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.reject(1), Stamp(2), "the third in a row");
    assert!(!keeps_old(&play));
    assert_eq!(play.fetches, 2);
}

// R38: rule 21
#[test]
fn of_two_old_tokens_the_accepted_one_is_kept() {
    for accepted in [false, true] {
        let mut play = replaced();
        if accepted {
            play.accept();
        }
        assert_eq!(play.at(930_000).request_for(Wanted::Refreshed), Fetch);
        assert_eq!(play.completes("third", 1_800_000), 3);
        assert_eq!(play.reject(3), Stamp(if accepted { 2 } else { 1 }));
    }
}

// R70: rules 12 and 21
#[test]
fn the_rejections_of_one_token_do_not_confirm_another_one_dead() {
    let mut play = replaced();
    for at in [900_100, 902_000, 905_000] {
        assert_eq!(play.at(at).request(), Stamp(2));
        assert_eq!(play.reject(2), Stamp(1));
    }
    play.reject_replay(1);
    assert!(!play.slot.view(play.now).dead);
}

// R38: rule 21
#[test]
fn a_new_token_that_waits_for_its_try_is_not_kept_beside_a_newer_one() {
    let mut play = Play::with_token(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("second", 1_800_000), 2);
    assert_eq!(play.reject(2), Stamp(1));
    assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.completes("third", 1_800_000), 3);
    assert_eq!(play.reject(3), Stamp(1));
}

// R50: rules 14 and 21
#[test]
fn neither_a_kept_token_nor_one_that_waits_for_its_try_is_stamped_after_a_rotation() {
    for rotation in [false, true] {
        for rejected in [false, true] {
            let mut play = replaced();
            if rejected {
                assert_eq!(play.reject(2), Stamp(1));
            }
            if rotation {
                play.rotate()
            } else {
                play.invalidate()
            }
            assert!(!keeps_old(&play));
            assert_eq!(play.at(905_000).request(), Fetch);
            assert_eq!(play.completes("third", 1_800_000), 3);
            assert_eq!(play.reject(3), Fetch, "there is no older token");
        }
    }
}

// R31: rule 21
#[test]
fn a_sweep_drops_the_kept_token_of_an_idle_key() {
    let mut play = replaced();
    play.accept();
    play.at(959_999);
    play.slot.prune(play.now);
    assert!(keeps_old(&play));
    play.at(960_000);
    play.slot.prune(play.now);
    assert!(play.slot.rare.is_none());
}

// R65: rule 21
#[test]
fn if_both_tokens_are_rejected_a_fetch_starts_after_the_new_one_was_tried_twice() {
    let mut play = Play::with_accepted(0.0, 86_400);
    assert_eq!(play.at(1_000).request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.completes("second", 86_400_000), 2);
    // Both are revoked now. There is a request a minute.
    for minute in 1..=2 {
        assert_eq!(play.at(minute * 60_000).request(), Stamp(2), "its try is due");
        assert_eq!(play.reject(2), Stamp(1));
        play.reject_replay(1);
    }
    assert_eq!(play.at(180_000).request(), Stamp(2));
    assert_eq!(play.reject(2), Fetch);
    assert_eq!(play.completes("third", 86_400_000), 3);
    assert_eq!(play.request(), Stamp(3));
}

// R64, R65: rules 19 and 21
#[test]
fn with_a_throttle_a_rejected_old_token_makes_an_accepted_new_one_current() {
    for accepted in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.reject_replay(1);
        play.accept();
        assert_eq!(play.at(100_000).reject(1), Fetch, "throttled, so the old token is kept");
        assert_eq!(play.completes("second", 1_800_000), 2);
        if accepted {
            play.accept();
        }
        assert_eq!(play.at(100_100).reject(2), Stamp(1));
        assert_eq!(play.reject(1), if accepted { Stamp(2) } else { BudgetExhausted });
        assert_eq!(play.request(), Stamp(if accepted { 2 } else { 1 }));
    }
}
