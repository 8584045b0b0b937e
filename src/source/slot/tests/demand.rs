//! Rule 22.

use super::*;

const fn valid_for(ms: u64) -> Wanted {
    Wanted::ValidFor(Duration::from_millis(ms))
}

// R38: rule 22
#[test]
fn a_refresh_on_demand_fetches_while_the_old_token_is_stamped() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(100_000).request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.request(), Stamp(1));
    assert_eq!(play.request_for(Wanted::Refreshed), Join, "single flight");
    assert_eq!(play.completes("second", 1_800_000), 2);
    assert_eq!(play.request(), Stamp(2));
}

// Rule 22
#[test]
fn each_method_starts_one_fetch_on_demand_in_ten_seconds() {
    for (wanted, other) in [(Wanted::Refreshed, valid_for(1_799_999)), (valid_for(1_799_999), Wanted::Refreshed)] {
        for fails in [false, true] {
            let mut play = Play::with_accepted(0.0, 1_800);
            assert_eq!(play.at(100_000).request_for(wanted), Fetch);
            let newest = if fails {
                play.fails(down());
                1
            } else {
                play.completes("second", 1_000_000)
            };
            assert_eq!(play.at(109_999).request_for(wanted), Stamp(newest), "the newest token as it is");
            assert_eq!(play.request_for(other), Fetch, "the other method has a limit of its own");
            play.completes("third", 1_000_000);
            assert_eq!(play.at(110_000).request_for(wanted), Fetch);
        }
    }
}

// Rule 22
#[test]
fn the_limit_counts_the_fetch_of_a_caller_on_demand_that_had_no_token() {
    let mut play = Play::new(0.0);
    assert_eq!(play.request_for(Wanted::Refreshed), Fetch);
    assert_eq!(play.completes("first", 1_800_000), 1);
    assert_eq!(play.at(9_999).request_for(Wanted::Refreshed), Stamp(1));
    assert_eq!(play.at(10_000).request_for(Wanted::Refreshed), Fetch);
}

// Rule 22
#[test]
fn a_token_with_enough_time_until_it_expires_is_not_fetched_again() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(100_000).request_for(valid_for(1_700_000)), Stamp(1));
    assert_eq!(play.request_for(valid_for(1_700_001)), Fetch);
    // Up to expires_at, and not only up to usable_until.
    let mut play = Play::with_accepted(0.0, 10);
    assert_eq!(play.at(1_000).request_for(valid_for(9_000)), Stamp(1));
}

// R42: rule 22
#[test]
fn a_fetch_on_demand_obeys_backoffs() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    play.fails(throttled(20));
    for wanted in [Wanted::Refreshed, valid_for(1_799_999)] {
        assert_eq!(play.at(1_000_000).request_for(wanted), Fail(20_000));
        assert_eq!(play.at(1_019_999).request_for(wanted), Fail(1));
    }
    assert_eq!(play.request_for(valid_for(1)), Stamp(1));
    assert_eq!(play.at(1_020_000).request_for(Wanted::Refreshed), Fetch);
}

// R9, R42: rule 22
#[test]
fn a_fetch_on_demand_obeys_the_backoff_after_cancelled_fetches() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000_000).request(), StampAndFetch(1));
    play.slot.take_fetch(play.fetches).unwrap();
    play.slot.cancel(play.now);
    assert_eq!(play.at(1_000_999).request_for(Wanted::Refreshed), Fail(1));
    assert_eq!(play.at(1_001_000).request_for(Wanted::Refreshed), Fetch);
}

// R4: rules 12 and 22
#[test]
fn a_caller_on_demand_joins_the_fetch_that_replaces_a_rejected_token() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).reject(1), Fetch);
    assert_eq!(play.request_for(Wanted::Refreshed), Join);
    // The token is stamped again, but this caller wants a new one.
    assert_eq!(play.at(6_000).request(), Stamp(1));
    assert_eq!(play.request_for(Wanted::Refreshed), Join);
}

// R36: rules 4 and 22
#[test]
fn a_fetch_on_demand_that_returns_no_better_token_serves_the_current_one() {
    for (secret, lives) in [("first", 1_800_000), ("second", 13_332)] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(100_000).request_for(Wanted::Refreshed), Fetch);
        assert_eq!(play.completes(secret, lives), 1);
        assert_eq!(play.request(), Stamp(1));
    }
}
