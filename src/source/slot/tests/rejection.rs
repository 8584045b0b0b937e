//! Rules 10 to 13.

use super::*;

// R4: rule 10
#[test]
fn staggered_rejections_of_one_generation_cost_one_fetch() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    for at in 1_001..1_100 {
        assert_eq!(play.at(at).reject(1), Join);
    }
    assert_eq!(play.at(1_200).completes("second", 1_800_000), 2);
    for at in 1_201..1_300 {
        assert_eq!(play.at(at).reject(1), Stamp(2), "an older generation changes nothing");
    }
    assert_eq!(play.fetches, 2);
    // One of six is spent.
    play.accept();
    for generation in 2..=6 {
        assert_eq!(play.reject(generation), Fetch);
        play.completes(&format!("token-{generation}"), 1_800_000);
        play.accept();
    }
    assert_eq!(play.reject(7), BudgetExhausted);
}

// R4: rule 10
#[test]
fn a_rejection_of_a_token_that_is_not_current_changes_nothing() {
    let mut play = Play::with_accepted(1.0, 1_800);
    for generation in [0, 2, u64::MAX] {
        assert_eq!(play.at(1_000).reject(generation), Stamp(1));
    }
    assert_eq!(play.at(1_770_000).reject(1), Fetch, "an expired token is fetched again");
    assert!(play.budget_is_full(), "and costs no budget");
}

// R16, R23: rules 10 and 11
#[test]
fn with_an_empty_budget_the_token_stays_current_and_is_stamped() {
    for draw in [0.0, 1.0] {
        let mut play = Play::with_accepted(draw, 1_800);
        for generation in 1..=6 {
            assert_eq!(play.at(generation * 1_000).reject(generation), Fetch);
            play.completes(&format!("token-{generation}"), 1_800_000);
            play.accept();
        }
        // The budget was full at 1 s, so one comes back at 11 s.
        assert_eq!(play.at(10_999).reject(7), BudgetExhausted);
        assert_eq!(play.request(), Stamp(7));
        assert_eq!(play.at(11_000).reject(7), Fetch);
        play.completes("token-7", 1_800_000);
        play.accept();
        assert_eq!(play.at(20_999).reject(8), BudgetExhausted);
        assert_eq!(play.at(21_000).reject(8), Fetch);
    }
}

// R16: rule 10
#[test]
fn a_server_that_rejects_every_token_costs_one_fetch_a_minute() {
    let mut play = Play::with_token(0.0, 1_800);
    let mut fetches = Vec::new();
    for second in 0..600 {
        let Stamp(current) = play.at(second * 1_000).request() else { panic!("not stamped at {second} s") };
        match play.reject(current) {
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

// R23: rule 10
#[test]
fn five_revocations_in_a_minute_cause_five_fetches() {
    let mut play = Play::with_accepted(0.0, 1_800);
    for generation in 1..=5 {
        assert_eq!(play.at(generation * 10_000).reject(generation), Fetch);
        assert_eq!(play.completes(&format!("token-{generation}"), 1_800_000), generation + 1);
        play.accept();
    }
}
