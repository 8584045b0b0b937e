//! Rules 15 to 17, the parts that concern the slot.

use super::*;

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

// R9
#[test]
fn a_series_of_runtimes_that_end_costs_no_token_request_each() {
    let cancelled = |play: &mut Play| {
        play.slot.take_fetch(play.fetches).expect("a fetch is running");
        play.slot.cancel(play.now);
    };
    // Without a token: the first one causes no backoff.
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    cancelled(&mut play);
    assert_eq!(play.request(), Fetch);
    cancelled(&mut play);
    assert_eq!(play.request(), Fail(100));
    assert!(play.guards_issuer());
    assert_eq!(play.at(100).request(), Fetch);
    // The backoff grows with each one.
    let mut play = Play::new(1.0);
    for (at, backoff) in [(0, None), (0, Some(1_000)), (1_000, Some(2_000)), (3_000, Some(4_000))] {
        assert_eq!(play.at(at).request(), Fetch);
        cancelled(&mut play);
        if let Some(backoff) = backoff {
            assert_eq!(play.request(), Fail(backoff));
        }
    }
    // After a rejection.
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    cancelled(&mut play);
    assert_eq!(play.reject(1), Fetch);
    cancelled(&mut play);
    assert_eq!(play.reject(1), Backoff(100));
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.at(1_100).reject(1), Fetch);
    // In the window.
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    cancelled(&mut play);
    assert_eq!(play.at(1_000_999).request(), Stamp(1));
    assert_eq!(play.at(1_001_000).request(), StampAndFetch(1));
    // Beside a dead token the first one causes no backoff either.
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    (0..3).for_each(|_| assert_eq!(play.reject(1), Join));
    cancelled(&mut play);
    assert_eq!(play.request(), StampAndFetch(1));
    // Any end of a fetch ends the series.
    play.fails(down());
    assert_eq!(play.at(1_002_000).request(), StampAndFetch(1));
    cancelled(&mut play);
    assert_eq!(play.reject(1), Fetch);
}

// R9: rules 12 and 15
#[test]
fn a_fetch_that_is_to_replace_a_rejected_token_does_not_block_the_next_one_forever() {
    let longest = Duration::from_secs(15);
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    assert_eq!(play.at(16_000).take_stuck(longest), None);
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.at(16_001).take_stuck(longest), Some(2));
    assert_eq!(play.reject(1), Fetch);
    // So does an early fetch that a rejection has joined.
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    assert_eq!(play.at(1_016_000).take_stuck(longest), None);
    assert_eq!(play.reject(1), Join);
    assert_eq!(play.at(1_022_000).request(), Stamp(1));
    assert_eq!(play.take_stuck(longest), Some(2));
    // Any other early fetch may stay, because the old token is good.
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    assert_eq!(play.at(1_700_000).take_stuck(longest), None);
    assert_eq!(play.at(1_770_000).take_stuck(longest), Some(2));
}

// R9: rules 14 and 15
#[test]
fn the_callers_that_wait_for_the_end_of_a_stuck_fetch_are_woken() {
    for rotation in [false, true] {
        let mut play = Play::new(0.0);
        assert_eq!(play.request(), Fetch);
        if rotation {
            play.rotate()
        } else {
            play.invalidate()
        }
        play.woken();
        assert_eq!(play.request(), LookAgain(None));
        play.look_again(77);
        assert_eq!(play.at(15_001).take_stuck(Duration::from_secs(15)), Some(1));
        assert_eq!(play.woken(), [77]);
        assert_eq!(play.request(), Fetch);
    }
}

// R31: rule 16
#[test]
fn a_slot_guards_its_issuer_during_a_backoff_and_while_its_budget_is_not_full() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert!(!play.guards_issuer());
    assert_eq!(play.at(1_000).reject(1), Fetch);
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

// R9: rules 17 and 22
#[test]
fn a_stuck_early_refresh_does_not_block_a_caller_that_needs_a_new_token() {
    let longest = Duration::from_secs(15);
    for needed in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
        let now = play.at(1_015_001).now;
        let stuck = play.slot.take_stuck_fetch(longest, needed, now);
        assert_eq!(stuck.map(|fetch| fetch.id), needed.then_some(2));
    }
}

// R9: rule 17
#[test]
fn a_stuck_fetch_that_ends_later_does_not_end_the_next_one() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request(), Fetch);
    assert_eq!(play.at(15_001).take_stuck(Duration::from_secs(15)), Some(1));
    assert_eq!(play.request(), Fetch);
    assert!(play.slot.take_fetch(1).is_none());
    assert_eq!(play.slot.in_flight().map(|fetch| fetch.id), Some(2));
}
