//! The context of the next fetch.

use super::*;

/// The reason of the next fetch, whether it replaces `secret`, and the number of its challenges. The response that
/// caused it had two challenges.
fn context(play: &Play, secret: &str) -> (FetchReason, bool, usize) {
    let context = play.slot.fetch_context(&mut vec![HeaderValue::from_static("Bearer"); 2]);
    (context.reason(), context.replaces(secret), context.challenges().len())
}

#[test]
fn only_a_fetch_after_a_rejection_gets_challenges() {
    assert_eq!(context(&Play::new(0.0), "first"), (FetchReason::First, false, 0));
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(context(&play, "first"), (FetchReason::Expiring, true, 0));
    assert_eq!(play.at(1_800_000).usable(), None);
    assert_eq!(context(&play, "first"), (FetchReason::Expiring, true, 0));
    assert_eq!(play.at(1_000).reject(1, Rejection::Unspecified), Fetch);
    assert_eq!(context(&play, "first"), (FetchReason::Rejected, true, 2));
    play.forget(true);
    assert_eq!(context(&play, "first"), (FetchReason::Rotated, false, 0));
}

#[test]
fn a_failed_fetch_after_a_rejection_leaves_the_next_one_a_reason() {
    for (rejection, reason) in
        [(Rejection::Unspecified, FetchReason::Expiring), (Rejection::InvalidToken, FetchReason::Rejected)]
    {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.reject(1, rejection), Fetch);
        play.fails(down());
        let (next, replaces, _) = context(&play, "first");
        assert_eq!((next, replaces), (reason, true), "{rejection:?}");
        // A new token ends it.
        assert_eq!(play.at(1_800_000).request(), Fetch);
        let generation = play.completes("second", 1_800_000);
        assert_eq!(play.request(), Stamp(generation));
        assert_eq!(context(&play, "first"), (FetchReason::Expiring, false, 0));
        assert_eq!(context(&play, "second"), (FetchReason::Expiring, true, 0));
    }
}

#[test]
fn a_forgotten_token_is_not_the_rejected_one_any_more() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.reject(1, Rejection::InvalidToken), Fetch);
    play.fails(down());
    play.forget(false);
    assert_eq!(context(&play, "first"), (FetchReason::Rotated, false, 0));
}
