//! The context of the next fetch.

use super::*;

/// The reason of the last fetch, whether it replaces `secret`, and the number of its challenges. The response that caused
/// it had two challenges.
fn context(play: &Play, secret: &str) -> (FetchReason, bool, usize) {
    (play.context.reason(), play.context.replaces(secret), play.context.challenges().len())
}

// Rule 23
#[test]
fn only_a_fetch_after_a_rejection_gets_challenges() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(context(&play, "first"), (FetchReason::First, false, 0));
    assert_eq!(play.at(1_000).reject(1), Fetch);
    assert_eq!(context(&play, "first"), (FetchReason::Rejected, true, 2));
    play.completes("second", 1_800_000);
    assert_eq!(play.at(2_000).request_for(Wanted::Refreshed), Fetch);
    assert_eq!(context(&play, "second"), (FetchReason::OnDemand, true, 0));
    play.completes("third", 1_800_000);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(3));
    assert_eq!(context(&play, "third"), (FetchReason::Expiring, true, 0));
    play.fails(down());
    assert_eq!(play.at(1_800_000).request(), Fetch);
    assert_eq!(context(&play, "third"), (FetchReason::Expiring, true, 0));
    play.completes("fourth", 1_800_000);
    play.rotate();
    assert_eq!(play.request(), Fetch);
    assert_eq!(context(&play, "fourth"), (FetchReason::Rotated, false, 0));
    play.completes("fifth", 1_800_000);
    play.at(1_900_000).invalidate();
    assert_eq!(play.request(), Fetch);
    assert_eq!(context(&play, "fifth"), (FetchReason::Rotated, false, 0));
}

// Rule 23
#[test]
fn the_fetch_for_an_alternating_token_is_one_after_a_rejection() {
    let mut play = Play::with_accepted(0.0, 1_800);
    play.at(100_000).reject_replay(1);
    assert_eq!(play.reject(1), Fetch);
    assert_eq!(context(&play, "first"), (FetchReason::Rejected, true, 2));
}

// Rule 23
#[test]
fn the_challenges_stay_with_the_caller_if_the_fetch_does_not_get_them() {
    let play = Play::with_accepted(0.0, 1_800);
    for (cause, left) in [
        (FetchCause::NoToken, 2),
        (FetchCause::Early, 2),
        (FetchCause::OnDemand(Demand::Refresh), 2),
        (FetchCause::Rejection { set_aside: Duration::ZERO }, 0),
        (FetchCause::ThrottledRejection, 0),
    ] {
        let mut challenges = vec![HeaderValue::from_static("Bearer"); 2];
        play.slot.fetch_context(cause, &mut challenges);
        assert_eq!(challenges.len(), left, "{cause:?}");
    }
}

// Rule 23
#[test]
fn a_failed_fetch_after_a_rejection_leaves_the_next_one_a_reason() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.reject(1), Fetch);
    play.fails(down());
    // The token is stamped again, and its window begins.
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    assert_eq!(context(&play, "first"), (FetchReason::Expiring, true, 0));
    play.fails(down());
    assert_eq!(play.at(1_002_000).reject(1), Fetch);
    assert_eq!(context(&play, "first"), (FetchReason::Rejected, true, 2));
    // A new token ends it.
    let generation = play.completes("second", 1_800_000);
    assert_eq!(play.request(), Stamp(generation));
    assert_eq!(play.at(2_000_000).request(), StampAndFetch(generation));
    assert_eq!(context(&play, "first"), (FetchReason::Expiring, false, 0));
    assert_eq!(context(&play, "second"), (FetchReason::Expiring, true, 0));
}

// Rule 23
#[test]
fn a_forgotten_token_is_not_the_rejected_one_any_more() {
    for rotation in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.reject(1), Fetch);
        play.fails(down());
        if rotation {
            play.rotate()
        } else {
            play.invalidate()
        }
        assert_eq!(play.request(), Fetch);
        assert_eq!(context(&play, "first"), (FetchReason::Rotated, false, 0));
    }
}
