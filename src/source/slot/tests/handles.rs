//! Rules 14 to 17, the parts that concern the slot.

use super::*;

// R50: rule 14
#[test]
fn a_token_from_before_a_rotation_is_never_stamped_after_it() {
    for credentials_changed in [true, false] {
        for at in [1_000, 1_000_000] {
            let mut play = Play::with_accepted(0.0, 1_800);
            let in_flight = play.at(at).request() == StampAndFetch(1);
            let stale = play.forget(credentials_changed);
            assert_eq!(stale.is_some(), in_flight, "its waiters start a new fetch");
            assert!(play.slot.in_flight().is_none(), "without a waiter no fetch starts");
            assert_eq!(play.slot.take_fetch(play.fetches), None, "the stale fetch changes nothing");
            assert_eq!(play.request(), Fetch);
            assert_eq!(play.request(), Join);
        }
    }
}

// R50: rules 12 and 14
#[test]
fn after_a_rotation_during_a_refresh_the_rejected_token_is_not_put_back() {
    for credentials_changed in [true, false] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).reject(1, Rejection::Unspecified), Fetch);
        assert!(play.forget(credentials_changed).is_some());
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.fails(down()), 100);
        assert_eq!(play.request(), Fail(100), "the old token does not come back");
        assert_eq!(play.at(1_100).request(), Fetch);
        assert_eq!(play.completes("first", 1_800_000), 3, "a new token with the same secret is a normal token");
    }
}

// R42, R50: rule 14
#[test]
fn invalidations_clear_the_last_failure_once_a_second_and_rotations_always() {
    for (draw, backoff) in [(0.0, 2_500), (1.0, 5_000)] {
        let mut play = Play::new(draw);
        // Ms; whether it is a rotation; whether the last failure is cleared.
        for (at, rotation, cleared) in [
            (0, false, true),
            (1, false, false),
            (999, false, false),
            (1_000, false, true),
            (1_001, true, true),
            (1_002, true, true),
            (1_003, false, false),
            (2_001, false, false),
            (2_002, false, true),
        ] {
            if play.at(at).request() == Fetch {
                assert_eq!(play.fails(wrong_secret()), backoff);
            }
            assert!(matches!(play.request(), Fail(_)), "at {at} ms");
            assert_eq!(play.forget(rotation), None);
            assert_eq!(play.slot.failure.is_none(), cleared, "at {at} ms");
        }
    }
}

// R42: rule 14
#[test]
fn a_loop_of_invalidations_costs_a_failing_issuer_one_request_a_second() {
    let mut play = Play::new(1.0);
    let mut fetches = Vec::new();
    for at in 0..5_000 {
        play.at(at).forget(false);
        if play.request() == Fetch {
            fetches.push(at);
            play.fails(wrong_secret());
        }
    }
    assert_eq!(fetches, [0, 1_000, 2_000, 3_000, 4_000]);
}

// R52: rule 14
#[test]
fn neither_a_rotation_nor_an_invalidation_fills_the_budget() {
    for credentials_changed in [true, false] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.reject(1, Rejection::Unspecified), Fetch);
        play.completes("second", 1_800_000);
        play.forget(credentials_changed);
        assert_eq!(play.request(), Fetch);
        play.completes("third", 1_800_000);
        assert_eq!(play.reject(3, Rejection::Unspecified), BudgetExhausted);
    }
}

// R9: rule 15
#[test]
fn a_fetch_in_flight_for_longer_than_possible_counts_as_cancelled() {
    let mut play = Play::new(0.0);
    let longest = Duration::from_secs(15);
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(15_000).take_stuck(longest), None);
    assert_eq!(play.request(), Join);
    assert_eq!(play.at(15_001).take_stuck(longest), Some(1));
    assert_eq!(play.request(), Fetch);
}

// R31: rule 16
#[test]
fn a_slot_guards_its_issuer_during_a_backoff_and_while_its_budget_is_not_full() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert!(!play.guards_issuer());
    assert_eq!(play.at(1_000).reject(1, Rejection::Unspecified), Fetch);
    play.completes("second", 1_800_000);
    assert!(play.at(10_999).guards_issuer(), "one refresh is counted");
    assert!(!play.at(11_000).guards_issuer());
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(2));
    assert_eq!(play.fails(wrong_secret()), 2_500);
    assert!(play.at(1_002_499).guards_issuer());
    assert!(!play.at(1_002_500).guards_issuer());
}

// R1, R52: rule 17
#[test]
fn any_number_of_requests_causes_one_fetch() {
    for draw in [0.0, 1.0] {
        let mut play = Play::new(draw);
        assert_eq!(play.request(), Fetch);
        for _ in 0..1_000 {
            assert_eq!(play.request(), Join);
        }
        play.completes("first", 1_800_000);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
        for _ in 0..1_000 {
            assert_eq!(play.request(), Stamp(1));
        }
        assert_eq!(play.fetches, 2);
    }
}

// R35, R52: rule 17
#[test]
fn a_healthy_issuer_gets_no_more_token_requests_than_its_lifetimes_need() {
    // Lifetime in s; ms with a request every 25 ms; token requests that 1 + ceil(T / (L - window)) allows.
    for (lifetime, over, most) in
        [(1, 10_000, 11), (2, 10_000, 11), (10, 60_000, 13), (300, 3_600_000, 25), (1_800, 36_000_000, 41)]
    {
        for draw in [0.0, 1.0] {
            let mut play = Play::new(draw);
            for at in (0..over).step_by(25) {
                if matches!(play.at(at).request(), Fetch | StampAndFetch(_)) {
                    play.completes(&format!("at-{at}"), lifetime * 1_000);
                }
            }
            assert!(play.fetches <= most, "{lifetime} s: {} token requests", play.fetches);
        }
    }
}
