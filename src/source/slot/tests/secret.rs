//! Rule 4, the part about secrets.

use super::*;

/// Something that starts a fetch: its name, and the action of the slot.
struct Start(&'static str, fn(&mut Play) -> Action, Action);

// R36: rule 4
#[test]
fn a_rejected_secret_is_never_adopted_whichever_fetch_returns_it() {
    let starts = [
        Start("a rejection", |play| play.reject(1), Fetch),
        Start("an early refresh", |play| play.at(1_000_000).request(), StampAndFetch(1)),
        Start("a refresh on demand", |play| play.request_for(Wanted::Refreshed), Fetch),
    ];
    for Start(name, start, action) in starts {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1), Fetch);
        play.fails(down());
        play.at(100_000);
        assert_eq!(start(&mut play), action, "{name}");
        let error = play.completes_with("first", 1_800_000).unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{name}");
        assert!(play.slot.rare.as_ref().unwrap().rejections.throttle.is_some(), "{name}: rule 19 applies");
        assert_eq!(play.request(), Stamp(1), "{name}");
    }
}

// R36: rules 4 and 14
#[test]
fn an_invalidation_forgets_no_rejected_secret_and_a_rotation_forgets_all() {
    for rotation in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1), Fetch);
        play.fails(down());
        if rotation {
            play.rotate()
        } else {
            play.invalidate()
        }
        assert_eq!(play.request(), Fetch);
        let result = play.completes_with("first", 1_800_000);
        assert_eq!(result.is_ok(), rotation);
        assert_eq!(play.request(), if rotation { Stamp(3) } else { Fail(100) });
    }
}

// R36: rule 4
#[test]
fn a_secret_that_was_accepted_since_its_rejection_may_be_adopted() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    play.fails(down());
    play.accept();
    play.invalidate();
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.completes("first", 1_800_000), 3);
    assert_eq!(play.request(), Stamp(3));
}

// R36, R39: rule 4
#[test]
fn an_issuer_that_returns_one_secret_forever_is_not_shut_out_forever_by_one_rejection() {
    let mut play = Play::with_token(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    play.completes_with("first", 1_800_000).unwrap_err();
    assert_eq!(play.at(1_769_999).request_for(Wanted::Refreshed), Fetch);
    play.completes_with("first", 1_800_000).unwrap_err();
    // The rejected token is no longer stamped. What has its secret is better than nothing.
    assert_eq!(play.at(1_770_100).request(), Fetch);
    assert_eq!(play.completes("first", 1_800_000), 4);
    assert_eq!(play.request(), Stamp(4));
}

// R36: rule 4
#[test]
fn eight_rejected_secrets_are_remembered() {
    for rejected in [8_u64, 9] {
        let mut play = Play::with_accepted(0.0, 86_400);
        for generation in 1..=rejected {
            assert_eq!(play.at(generation * 20_000).reject(generation), Fetch);
            play.completes(&format!("after-{generation}"), 86_400_000);
            play.accept();
        }
        play.at(300_000).invalidate();
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.completes_with("first", 86_400_000).is_err(), rejected == 8, "the oldest is forgotten first");
    }
}

// R16: rules 10 and 13
#[test]
fn an_early_refresh_that_returns_the_same_token_keeps_it_accepted() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("first", 1_800_000), 1);
    assert!(play.slot.current.as_ref().is_some_and(Token::is_accepted));
    for generation in [1, 3] {
        assert_eq!(play.reject(generation), Fetch, "it costs one of six, and not all of them");
        play.completes(&format!("after-{generation}"), 1_800_000);
        play.accept();
    }
}

// R36: rule 4
#[test]
fn a_rejected_token_is_replaced_by_one_that_is_hardly_usable() {
    for joined in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.at(1_000_000);
        if joined {
            assert_eq!(play.request(), StampAndFetch(1));
        }
        assert_eq!(play.reject(1), if joined { Join } else { Fetch });
        // Usable for 9 999 ms.
        assert_eq!(play.completes("second", 13_332), 2);
        assert_eq!(play.request(), Stamp(2));
    }
}

// R36: rules 4 and 22
#[test]
fn a_new_token_on_demand_ends_the_backoff_after_an_early_refresh() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    // The next early refresh would be at 1 335 s.
    assert_eq!(play.completes("first", 1_800_000), 1);
    assert_eq!(play.at(1_000_000).request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.completes("second", 300_000), 3);
    assert_eq!(play.at(1_149_999).request(), Stamp(3));
    assert_eq!(play.at(1_150_000).request(), StampAndFetch(3));
}

// R36: rules 4 and 12
#[test]
fn a_token_that_is_accepted_while_it_is_replaced_is_kept_if_the_issuer_returns_it() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    play.accept();
    assert_eq!(play.completes("first", 1_800_000), 1, "one stray rejection; the generation and the end stay");
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.at(1_770_000).request(), Fetch);
}
