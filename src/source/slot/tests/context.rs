//! The context of the next fetch.

use super::*;
use crate::clock::{self, AnyClock};

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
        play.slot.fetch_context(cause, &mut challenges, play.now);
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

/// The secrets of `secrets` that the last fetch wants, if each was minted now and lives half an hour.
fn wanted<'a>(play: &Play, secrets: &[&'a str]) -> Vec<&'a str> {
    let wants = |secret: &&&str| play.wants(secret, 1_800, 0);
    secrets.iter().filter(wants).copied().collect()
}

impl Play {
    /// Whether the last fetch wants a token that lives `lifetime` s and is `age` s old.
    fn wants(&self, secret: &str, lifetime: u64, age: u64) -> bool {
        let token = IssuedToken::bearer(secret).unwrap().expires_in(Duration::from_secs(lifetime));
        self.context_now().wants(&token.with_age(Duration::from_secs(age)))
    }

    /// The context of the last fetch, as its task has it.
    fn context_now(&self) -> FetchContext {
        struct At(Now);
        impl crate::clock::Clock for At {
            fn now(&self) -> Now {
                self.0
            }
        }
        struct Nobody;
        impl crate::provider::FetchObserver for Nobody {
            fn store(&self, _: crate::provider::StoreEvent<'_>) {}
        }
        let clock = AnyClock::Given(std::sync::Arc::new(At(self.now)));
        let observer = std::sync::Weak::<Nobody>::new();
        let deadline = clock::deadline_for_tests();
        self.context.clone().in_task(self.policy.clone(), clock, deadline, observer)
    }
}

// R87, R91
#[test]
fn a_token_without_usable_life_is_not_wanted() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    // The margin of 1 800 s is 30 s.
    assert!(play.wants("a", 1_800, 1_769));
    assert!(!play.wants("a", 1_800, 1_770));
    assert!(!play.wants("a", 1_800, 9_999));
    // The margin of 40 s is 10 s, and a token of 1 s has none.
    assert!(play.wants("a", 40, 29));
    assert!(!play.wants("a", 40, 30));
    assert!(play.wants("a", 1, 0));
    assert!(!play.wants("a", 1, 1));
    play.policy = RefreshPolicy::new().margin(Duration::from_secs(300));
    assert!(play.wants("a", 1_800, 1_499));
    assert!(!play.wants("a", 1_800, 1_500));
}

// R87
#[test]
fn a_token_that_lives_shorter_than_the_caller_needs_is_not_wanted() {
    let mut play = Play::with_accepted(0.0, 1_800);
    let wanted = Wanted::ValidFor(Duration::from_secs(1_750));
    assert_eq!(play.at(100_000).request_for(wanted), Fetch);
    assert!(play.wants("a", 1_800, 50));
    assert!(!play.wants("a", 1_800, 51));
}

// R87
#[test]
fn the_replaced_token_and_an_older_one_are_not_wanted() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    assert_eq!(wanted(&play, &["first", "second"]), ["second"]);
    // The first token was minted 1 000 s ago.
    assert!(play.wants("second", 1_800, 1_000));
    assert!(!play.wants("second", 1_800, 1_001));
}

// R87
#[test]
fn a_rejected_token_is_not_wanted_until_a_server_accepts_it_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.reject(1), Fetch);
    let second = play.completes("second", 1_800_000);
    play.accept();
    assert_eq!(play.at(1_000).reject(second), Fetch);
    assert_eq!(wanted(&play, &["first", "second", "third"]), ["third"]);
}

// R87
#[test]
fn a_token_that_was_invalidated_or_rotated_away_is_not_wanted_and_an_older_one_neither() {
    for forget in [Play::invalidate, Play::rotate] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(100_000).reject(1), Fetch);
        play.completes("second", 1_800_000);
        forget(&mut play);
        assert_eq!(play.at(200_000).request(), Fetch);
        assert!(!play.wants("second", 1_800, 0));
        // `first` was minted before it, and `other` at 100 s.
        assert!(!play.wants("first", 1_800, 200));
        assert!(play.wants("other", 1_800, 100));
        assert!(!play.wants("other", 1_800, 101));
        // A failed fetch changes nothing.
        play.fails(down());
        assert_eq!(play.at(300_000).request(), Fetch);
        assert!(!play.wants("second", 1_800, 0));
        // A new token does.
        let third = play.completes("third", 1_800_000);
        assert_eq!(play.at(1_900_000).request(), StampAndFetch(third));
        assert!(!play.wants("third", 1_800, 0));
        assert!(play.slot.rare.as_ref().is_none_or(|rare| rare.removed_token.is_none()));
    }
}

// R87, rule 21
#[test]
fn the_newer_one_of_two_tokens_that_were_removed_counts() {
    // The new token is tried again after two seconds.
    for invalidated_at in [1_001_000, 1_003_000] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
        let second = play.completes("second", 1_800_000);
        // An API does not know the new token yet, so the old one is current.
        assert_eq!(play.at(1_001_000).reject(second), Stamp(1));
        play.at(invalidated_at).invalidate();
        assert_eq!(play.request(), Fetch);
        assert_eq!(wanted(&play, &["second", "third"]), ["third"]);
        assert!(!play.wants("third", 1_800, 4));
    }
}

// R90
#[test]
fn a_clock_that_stands_still_or_jumps_makes_no_token_older_than_the_replaced_one() {
    // A day passes by the wall clock alone: the machine was suspended.
    let mut play = Play::with_accepted(0.0, 86_400);
    play.at(1_000).jump(0, 3 * DAY / 2);
    assert_eq!(play.request(), Fetch);
    assert!(play.wants("second", 86_400, 3_600));
    // Older than the first token by both clocks.
    assert!(!play.wants("second", 86_400, 2 * 86_400));
}

// R95, rule 7
#[test]
fn a_fetch_knows_whether_a_rotation_caused_it_and_how_often_it_failed() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    assert!(!play.context.is_by_rotation());
    assert_eq!(play.context.permanent_backoff(0.0), Duration::from_millis(2_500));
    play.fails(wrong_secret());
    assert_eq!(play.at(10_000).request(), Fetch);
    assert_eq!(play.context.permanent_backoff(0.0), Duration::from_millis(5_000));
    play.fails(wrong_secret());
    assert_eq!(play.at(20_000).request(), Fetch);
    assert_eq!(play.context.permanent_backoff(0.0), Duration::from_millis(10_000));
    play.rotate();
    play.slot.take_fetch(3);
    assert_eq!(play.at(30_000).request(), Fetch);
    assert!(play.context.is_by_rotation());
    play.fails(wrong_secret());
    assert_eq!(play.at(40_000).request(), Fetch);
    assert!(!play.context.is_by_rotation(), "only the first fetch after it");
}

// R95, rule 6
#[test]
fn the_failure_of_another_process_lasts_as_long_as_there_and_does_not_count() {
    let shared = |ms| down().with_shared_backoff(Duration::from_millis(ms));
    for (draw, least) in [(0.0, 700), (1.0, 770)] {
        let mut play = Play::new(draw);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(shared(700)), least);
    }
    let mut play = Play::new(1.0);
    for _ in 0..5 {
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(shared(0)), 100, "at least 0.1 s");
        play.now = play.now.after(Duration::from_millis(100));
    }
    // The first failure of its own: rule 6 with n = 0.
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.fails(down()), 500);
}

// R95, rule 7
#[test]
fn a_permanent_failure_of_another_process_counts_once() {
    let shared = wrong_secret().with_shared_backoff(Duration::from_millis(3_000));
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.fails(shared), 3_000);
    assert_eq!(play.at(3_000).request(), Fetch);
    assert_eq!(play.fails(wrong_secret()), 5_000);
}
