//! Rule 19.

use super::*;

/// New tokens do not end the rejections. The last fetch was at 0 s. It is 100 s now.
fn throttle(draw: f64) -> Play {
    let mut play = Play::with_accepted(draw, 86_400);
    play.at(100_000).reject_replay(1);
    assert!(is_alternating(&mut play));
    play
}

fn is_alternating(play: &mut Play) -> bool {
    play.slot.view(play.now);
    play.slot.rare.as_ref().is_some_and(|rare| rare.rejections.throttle.is_some())
}

// Rule 19
#[test]
fn the_state_begins_when_one_token_is_rejected_with_a_replay_and_accepted_otherwise() {
    let accept: fn(&mut Play) = |play| play.accept();
    let replay: fn(&mut Play) = |play| play.reject_replay(1);
    let reject: fn(&mut Play) = |play| assert!(matches!(play.reject(1), Fetch | Join));
    let old_replay: fn(&mut Play) = |play| play.reject_replay(0);
    let table = [
        (vec![replay, replay, reject], false),
        (vec![accept, reject, reject], false),
        (vec![accept, old_replay], false),
        (vec![accept, replay], true),
        // The acceptance shows at the next rejection.
        (vec![replay, accept], false),
        (vec![replay, accept, reject], true),
        (vec![accept, reject, replay], true),
    ];
    for (number, (steps, begins)) in table.into_iter().enumerate() {
        let mut play = Play::with_token(0.0, 1_800);
        play.at(100_000);
        steps.iter().for_each(|step| step(&mut play));
        assert_eq!(is_alternating(&mut play), begins, "case {number}");
    }
}

// Rule 19
#[test]
fn an_acceptance_before_the_next_refresh_begins_the_state_too() {
    let mut play = Play::with_token(0.0, 1_800);
    play.at(100_000).reject_replay(1);
    play.accept();
    assert_eq!(play.at(900_000).request(), StampAndFetch(1));
    assert_eq!(play.completes("second", 1_800_000), 2);
    assert!(is_alternating(&mut play));
}

// Rule 19
#[test]
fn the_replay_and_the_acceptance_must_be_of_one_token() {
    let mut play = Play::with_token(0.0, 1_800);
    play.at(100_000).reject_replay(1);
    assert_eq!(play.reject(1), Fetch);
    assert_eq!(play.completes("second", 1_800_000), 2);
    play.accept();
    assert_eq!(play.at(200_000).reject(2), Fetch);
    assert!(!is_alternating(&mut play));
}

// R16: rule 19
#[test]
fn the_interval_between_fetches_doubles_up_to_ten_minutes_and_the_token_is_stamped() {
    let mut play = throttle(0.0);
    let mut fetches = Vec::new();
    for at in (100_000..3_200_000).step_by(1_000).flat_map(|second| [second - 1, second]) {
        if at < 100_000 {
            continue;
        }
        // A good route accepts the token, and another one rejects it.
        play.at(at).accept();
        match play.reject(1) {
            BudgetExhausted => assert_eq!(play.request(), Stamp(1)),
            Fetch => {
                fetches.push(at);
                assert_eq!(play.request(), Stamp(1), "nobody else waits");
                assert_eq!(play.reject(1), Join);
                assert_eq!(play.request(), Stamp(1), "nobody else waits");
                play.fails(down());
            }
            Backoff(_) => assert!(at - fetches.last().unwrap() < 1_000),
            action => panic!("{action:?} at {at} ms"),
        }
    }
    // 10 s after 0 s, and then 20, 40, 80, 160, 320, 600, 600, 600 s after the one before.
    let expected = [100, 120, 160, 240, 400, 720, 1_320, 1_920, 2_520, 3_120];
    assert_eq!(fetches, expected.map(|second| second * 1_000));
}

// R36: rules 4 and 19
#[test]
fn an_issuer_that_returns_a_rejected_secret_begins_the_state() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    play.at(1_500).completes_with("first", 1_800_000).unwrap_err();
    play.accept();
    // The interval counts from the begin of that fetch.
    assert_eq!(play.at(10_999).reject(1), BudgetExhausted);
    assert_eq!(play.at(11_000).reject(1), Fetch);
    assert_eq!(play.request(), Stamp(1), "nobody else waits");
    play.completes_with("first", 1_800_000).unwrap_err();
    assert_eq!(play.at(30_999).reject(1), BudgetExhausted);
    assert_eq!(play.at(31_000).reject(1), Fetch);
}

// Rule 19
#[test]
fn the_interval_counts_from_any_fetch() {
    let mut play = throttle(0.0);
    assert_eq!(play.at(105_000).request_for(Wanted::Refreshed), Fetch);
    play.fails(down());
    play.accept();
    assert_eq!(play.at(114_999).reject(1), BudgetExhausted);
    assert_eq!(play.at(115_000).reject(1), Fetch);
}

// Rule 19
#[test]
fn the_state_ends_after_ten_minutes_without_a_rejection() {
    let mut play = throttle(0.0);
    play.at(200_000).accept();
    assert_eq!(play.reject(1), Fetch);
    play.fails(down());
    play.accept();
    assert!(is_alternating(play.at(799_999)));
    assert!(!is_alternating(play.at(800_000)));
    assert_eq!(play.reject(1), Fetch);
    assert_eq!(play.request(), Join, "the token is set aside");
}

// R23: rule 19
#[test]
fn a_revocation_in_the_state_causes_a_fetch_at_once_but_only_every_80_seconds() {
    let mut play = throttle(0.0);
    assert_eq!(play.reject(1), Fetch);
    play.fails(down());
    // From here on every response rejects the token, every 100 ms. This is the third in a row.
    let mut fetches = Vec::new();
    for at in (101_000..300_000).step_by(100) {
        if play.at(at).reject(1) == Fetch {
            fetches.push(at);
            play.fails(down());
        }
    }
    // The tenth in a row; 20 s and 40 s later the interval is over, then the 80 s, and then both.
    assert_eq!(fetches, [101_700, 121_700, 161_700, 181_700, 261_700]);
}

// R23: rule 19
#[test]
fn a_token_that_is_dead_for_five_seconds_is_renewed_although_few_requests_show_it() {
    let mut play = throttle(0.0);
    assert_eq!(play.reject(1), Fetch);
    play.fails(down());
    assert_eq!(play.at(101_000).reject(1), BudgetExhausted, "the third in a row confirms it");
    assert_eq!(play.at(105_999).reject(1), BudgetExhausted);
    for (at, action) in [
        (106_000, Fetch),
        // The interval is 20 s now, then 40 s and 80 s.
        (125_999, BudgetExhausted),
        (126_000, Fetch),
        (166_000, Fetch),
        (185_999, BudgetExhausted),
        (186_000, Fetch),
    ] {
        assert_eq!(play.at(at).reject(1), action, "at {at} ms");
        if action == Fetch {
            play.fails(down());
        }
    }
}

// Rule 19
#[test]
fn a_row_must_be_three_times_as_long_as_the_longest_one_that_an_acceptance_has_ended() {
    // What happens between the acceptance that ends a row of 4 and the next rejection.
    let table = [Event("nothing", |_| {}), Event("a sweep", |play| play.slot.prune(play.now))];
    for Event(name, between) in table {
        let mut play = throttle(0.0);
        assert_eq!(play.reject(1), Fetch);
        play.fails(down());
        play.accept();
        play.at(101_000);
        for _ in 0..4 {
            assert_eq!(play.reject(1), BudgetExhausted);
        }
        play.accept();
        between(&mut play);
        for row in 1..12 {
            assert_eq!(play.reject(1), BudgetExhausted, "{row} in a row, {name}");
        }
        assert_eq!(play.reject(1), Fetch, "{name}");
    }
}

// Rule 19
#[test]
fn a_long_row_that_an_acceptance_has_ended_counts_after_the_next_refresh_too() {
    let mut play = throttle(0.0);
    assert_eq!(play.reject(1), Fetch);
    play.fails(down());
    play.accept();
    play.at(101_000);
    for _ in 0..4 {
        assert_eq!(play.reject(1), BudgetExhausted);
    }
    play.accept();
    assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.completes("second", 86_400_000), 3);
    // After a minute the old token is not kept any more.
    play.at(170_000).accept();
    assert_eq!(play.reject(3), Fetch);
    play.fails(down());
    play.at(171_000).accept();
    for row in 1..12 {
        assert_eq!(play.reject(3), BudgetExhausted, "{row} in a row");
    }
    assert_eq!(play.reject(3), Fetch);
}

// R16: rules 10 and 19
#[test]
fn an_empty_budget_prevents_a_fetch_in_the_state_too() {
    let mut play = Play::with_accepted(0.0, 86_400);
    for generation in 1..=6 {
        assert_eq!(play.at(100_000).reject(generation), Fetch);
        play.completes(&format!("after-{generation}"), 86_400_000);
        play.accept();
    }
    play.at(105_000).reject_replay(7);
    for _ in 2..12 {
        assert_eq!(play.reject(7), BudgetExhausted, "the tenth in a row would cause a fetch");
    }
    assert_eq!(play.at(109_999).reject(7), BudgetExhausted);
    assert_eq!(play.at(110_000).reject(7), Fetch);
}
