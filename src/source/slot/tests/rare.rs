//! The memory of a slot: what most slots do not need is dropped when it has no effect any more.

use super::*;

fn pruned(play: &mut Play, at: u64) -> bool {
    play.at(at);
    play.slot.prune(play.now);
    play.slot.rare.is_none()
}

// R31: all rules
#[test]
fn a_slot_with_a_good_token_and_no_history_has_no_second_allocation() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.request(), Stamp(1));
    play.woken();
    play.slot.view(play.now);
    assert!(play.slot.rare.is_none());
}

// R31: rules 5, 14, 17 and 18
#[test]
fn after_a_success_nothing_of_the_failures_before_it_is_left() {
    let table = [
        Event("a failure", |play| {
            play.fails(down());
        }),
        Event("a permanent failure", |play| {
            play.fails(wrong_secret());
        }),
        Event("a cancelled fetch", |play| {
            play.slot.take_fetch(play.fetches).unwrap();
            play.slot.cancel(play.now);
        }),
        Event("callers that waited", |play| {
            play.fails(down());
            play.look_again(77);
        }),
    ];
    for Event(name, event) in table {
        let mut play = Play::new(0.0);
        assert_eq!(play.request(), Fetch);
        event(&mut play);
        assert!(play.slot.rare.is_some(), "{name}");
        assert_eq!(play.at(10_000).request(), Fetch, "{name}");
        play.completes("first", 1_800_000);
        let removed = play.slot.take_removed();
        assert_eq!(removed.errors.len(), usize::from(name != "a cancelled fetch"), "{name}");
        assert!(play.slot.rare.is_none(), "{name}");
    }
}

// R31: rules 4, 10, 14, 19, 21 and 22
#[test]
fn what_has_no_effect_any_more_is_pruned() {
    // What happens from 1 s on; the last ms at which it has an effect.
    let table = [
        (
            Event("a rejected secret, while its token would be stamped", |play| {
                assert_eq!(play.reject(1), Fetch);
                play.completes("second", 1_800_000);
            }),
            1_769_999,
        ),
        (
            Event("a budget", |play| {
                assert_eq!(play.reject(1), Fetch);
                play.slot.current.as_ref().unwrap().accept();
                play.completes("second", 1_800_000);
            }),
            10_999,
        ),
        (
            Event("a throttle", |play| {
                play.reject_replay(1);
                play.accept();
            }),
            600_999,
        ),
        (
            Event("a replaced token", |play| {
                assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
                play.completes("second", 1_800_000);
                play.accept();
            }),
            60_999,
        ),
        (
            Event("a fetch on demand", |play| {
                assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
                play.fails(down());
                play.rotate();
                assert_eq!(play.request(), Fetch);
                play.completes("second", 1_800_000);
            }),
            10_999,
        ),
        (
            Event("a rotation", |play| {
                play.rotate();
                assert_eq!(play.request(), Fetch);
                play.completes("second", 1_800_000);
            }),
            1_999,
        ),
        (
            Event("an invalidation", |play| {
                play.invalidate();
                assert_eq!(play.request(), Fetch);
                play.completes("second", 1_800_000);
            }),
            1_999,
        ),
        (
            Event("an early refresh without a better token", |play| {
                assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
                assert_eq!(play.completes("first", 1_800_000), 1);
                // Half of the rest, which is 1 769 s.
            }),
            885_499,
        ),
    ];
    for (Event(name, event), last) in table {
        let mut play = Play::with_accepted(0.0, 1_800);
        event(play.at(1_000));
        play.woken();
        assert!(!pruned(&mut play, last), "{name}");
        assert!(pruned(&mut play, last + 1), "{name}");
    }
}

// R31: rule 22
#[test]
fn a_success_prunes_what_was_there_before_it() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).request_for(Wanted::Refreshed), Fetch);
    play.completes("first", 1_800_000);
    assert_eq!(play.at(1_770_000).request(), Fetch);
    assert!(play.slot.rare.is_some());
    play.completes("second", 1_800_000);
    assert!(play.slot.rare.is_none());
}

// R31: rule 14
#[test]
fn a_rotation_by_the_running_fetch_leaves_nothing_behind() {
    for rotation in [false, true] {
        let mut play = Play::new(0.0);
        assert_eq!(play.request(), Fetch);
        if rotation {
            play.slot.rotate(Some(1), play.now);
        } else {
            play.slot.invalidate(Some(1), play.now);
        }
        play.completes("first", 1_800_000);
        play.woken();
        assert!(pruned(&mut play, 1_000), "rotation {rotation}");
    }
}

// R31: rule 4
#[test]
fn a_server_that_rejects_every_token_fills_no_memory() {
    let mut play = Play::with_accepted(0.0, 86_400);
    let mut current = 1;
    for step in 1..100 {
        assert_eq!(play.at(step * 60_000).reject(current), Fetch);
        current = play.completes(&format!("token-{step}"), 86_400_000);
    }
    assert_eq!(play.slot.rare.as_ref().unwrap().rejections.remembered(), 8);
}
