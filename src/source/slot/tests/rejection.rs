//! Rules 10 to 13.

use super::*;

const BOTH: [Rejection; 2] = [Rejection::Unspecified, Rejection::InvalidToken];

// R4: rule 10
#[test]
fn staggered_rejections_of_one_generation_cost_one_fetch() {
    for rejection in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1, rejection), Fetch);
        for at in 1_001..1_100 {
            assert_eq!(play.at(at).reject(1, rejection), Join);
        }
        assert_eq!(play.at(1_200).completes("second", 1_800_000), 2);
        for at in 1_201..1_300 {
            assert_eq!(play.at(at).reject(1, rejection), Stamp(2), "an older generation changes nothing");
        }
        assert_eq!(play.fetches, 2);
        // One of six is spent.
        play.accept();
        for generation in 2..=6 {
            assert_eq!(play.reject(generation, rejection), Fetch);
            play.completes(&format!("token-{generation}"), 1_800_000);
            play.accept();
        }
        assert_eq!(play.reject(7, rejection), BudgetExhausted);
    }
}

// R4: rule 10
#[test]
fn a_rejection_of_a_token_that_is_not_current_changes_nothing() {
    for rejection in BOTH {
        let mut play = Play::with_accepted(1.0, 1_800);
        for generation in [0, 2, u64::MAX] {
            assert_eq!(play.at(1_000).reject(generation, rejection), Stamp(1));
        }
        assert_eq!(play.at(1_770_000).reject(1, rejection), Fetch, "an expired token is fetched again");
        assert!(play.slot.budget.is_full(play.now.mono), "and costs no budget");
    }
}

// R16, R23: rules 10 and 11
#[test]
fn with_an_empty_budget_the_token_stays_current_and_is_stamped() {
    for rejection in BOTH {
        for draw in [0.0, 1.0] {
            let mut play = Play::with_accepted(draw, 1_800);
            for generation in 1..=6 {
                assert_eq!(play.at(generation * 1_000).reject(generation, rejection), Fetch);
                play.completes(&format!("token-{generation}"), 1_800_000);
                play.accept();
            }
            // The budget was full at 1 s, so one comes back at 11 s.
            assert_eq!(play.at(10_999).reject(7, rejection), BudgetExhausted);
            assert_eq!(play.request(), Stamp(7));
            assert_eq!(play.at(11_000).reject(7, rejection), Fetch);
            play.completes("token-7", 1_800_000);
            play.accept();
            assert_eq!(play.at(20_999).reject(8, rejection), BudgetExhausted);
            assert_eq!(play.at(21_000).reject(8, rejection), Fetch);
        }
    }
}

// R16: rule 10
#[test]
fn a_server_that_rejects_every_token_costs_one_fetch_a_minute() {
    for rejection in BOTH {
        let mut play = Play::with_token(0.0, 1_800);
        let mut fetches = Vec::new();
        for second in 0..600 {
            let Stamp(current) = play.at(second * 1_000).request() else { panic!("not stamped at {second} s") };
            match play.reject(current, rejection) {
                BudgetExhausted => {}
                Fetch => {
                    fetches.push(second);
                    play.completes(&format!("token-{current}"), 1_800_000);
                }
                action => panic!("{action:?} at {second} s"),
            }
        }
        assert_eq!(fetches, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540]);
    }
}

// R23: rule 10
#[test]
fn five_revocations_in_a_minute_cause_five_fetches() {
    for rejection in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        for generation in 1..=5 {
            assert_eq!(play.at(generation * 10_000).reject(generation, rejection), Fetch);
            assert_eq!(play.completes(&format!("token-{generation}"), 1_800_000), generation + 1);
            play.accept();
        }
    }
}

// R4: rule 12
#[test]
fn a_rejection_joins_the_early_fetch_in_flight() {
    for rejection in BOTH {
        for (draw, window) in [(0.0, 900_000), (1.0, 990_000)] {
            let mut play = Play::with_accepted(draw, 1_800);
            assert_eq!(play.at(window).request(), StampAndFetch(1));
            assert_eq!(play.at(window + 100).reject(1, rejection), Join);
            assert_eq!(play.request(), Join, "the rejected token is not stamped");
            assert_eq!(play.at(window + 200).completes("second", 1_800_000), 2);
            assert_eq!(play.request(), Stamp(2));
            assert_eq!(play.fetches, 2);
        }
    }
}

/// How the refresh after a rejection fails.
enum Fails {
    With(Error),
    SameToken,
}

// R22, R36, R38: rule 12
#[test]
fn after_a_failed_refresh_an_invalid_token_is_gone_and_any_other_rejected_token_is_put_back() {
    // How the fetch fails; whether it was running before the rejection; the backoff in ms with a token, and without.
    let table = [
        (Fails::With(down()), false, 0.0, 1_000, 100),
        (Fails::With(down()), false, 1.0, 2_000, 500),
        (Fails::With(down()), true, 0.0, 1_000, 100),
        (Fails::With(wrong_secret()), false, 0.0, 2_500, 2_500),
        (Fails::With(wrong_secret()), false, 1.0, 5_000, 5_000),
        (Fails::With(throttled(100)), false, 0.0, 100_000, 60_000),
        (Fails::With(throttled(100)), false, 1.0, 110_000, 66_000),
        (Fails::SameToken, false, 0.0, 1_000, 100),
        (Fails::SameToken, false, 1.0, 2_000, 500),
        (Fails::SameToken, true, 0.0, 1_000, 100),
        (Fails::SameToken, true, 1.0, 2_000, 500),
    ];
    for rejection in BOTH {
        for (fails, joined, draw, with_token, without_token) in &table {
            let mut play = Play::with_accepted(*draw, 1_800);
            play.at(1_000_000);
            if *joined {
                assert_eq!(play.request(), StampAndFetch(1));
            }
            assert_eq!(play.reject(1, rejection), if *joined { Join } else { Fetch });
            let backoff = match fails {
                Fails::With(error) => play.fails(error.clone()),
                Fails::SameToken => {
                    let error = play.completes_with("first", 1_800_000).unwrap_err();
                    assert!(error.is_transient());
                    next_try(&error)
                }
            };
            if rejection == Rejection::Unspecified {
                assert_eq!(backoff, *with_token);
                assert_eq!(play.request(), Stamp(1));
                assert_eq!(play.at(1_769_999).usable(), Some(1));
                assert_eq!(play.at(1_770_000).usable(), None, "until usable_until");
            } else {
                assert_eq!(backoff, *without_token);
                assert_eq!(play.request(), Fail(backoff));
                assert_eq!(play.at(1_000_000 + backoff).request(), Fetch);
            }
        }
    }
}

// R22: rule 12
#[test]
fn one_rejection_as_invalid_among_unspecified_ones_is_enough() {
    for joined in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.at(1_000_000);
        if joined {
            assert_eq!(play.request(), StampAndFetch(1));
        }
        assert_eq!(play.reject(1, Rejection::Unspecified), if joined { Join } else { Fetch });
        assert_eq!(play.reject(1, Rejection::InvalidToken), Join);
        assert_eq!(play.reject(1, Rejection::Unspecified), Join);
        play.fails(down());
        assert_eq!(play.request(), Fail(100), "the token is known to be invalid");
    }
}

// R36: rule 12
#[test]
fn a_fetch_that_no_rejection_started_may_return_a_secret_that_was_rejected_before() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1, Rejection::InvalidToken), Fetch);
    play.completes_with("first", 1_800_000).unwrap_err();
    assert_eq!(play.at(1_100).request(), Fetch);
    assert_eq!(play.completes("first", 1_800_000), 3);
    assert_eq!(play.request(), Stamp(3));
}

// R9, R22: rule 12
#[test]
fn after_a_cancelled_fetch_the_rejected_token_is_still_not_stamped() {
    for rejection in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1, rejection), Fetch);
        assert!(play.slot.take_fetch(play.fetches).is_some());
        assert_eq!(play.request(), Fetch, "the rejected token is not stamped");
        play.completes_with("first", 1_800_000).unwrap_err();
        assert_eq!(play.request(), if rejection == Rejection::Unspecified { Stamp(1) } else { Fail(100) });
    }
}

// R16: rules 10 and 13
#[test]
fn an_early_refresh_that_returns_the_same_token_keeps_it_accepted() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("first", 1_800_000), 1);
    assert!(play.slot.current().is_some_and(Token::is_accepted));
    for generation in [1, 3] {
        assert_eq!(play.reject(generation, Rejection::Unspecified), Fetch, "it costs one of six, and not all of them");
        play.completes(&format!("after-{generation}"), 1_800_000);
        play.accept();
    }
}
