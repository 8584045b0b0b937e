//! Rules 14 to 17, as far as they are the slot's.

use super::*;

// R50: rule 14
#[test]
fn what_was_current_before_a_rotation_is_never_stamped_after_it() {
    for credentials_changed in [true, false] {
        for at in [1_000, 1_000_000] {
            let mut play = Play::with_accepted(0.0, 1_800);
            let in_air = play.at(at).ask() == StampAndDepart(1);
            let stale = play.forget(credentials_changed);
            assert_eq!(stale.is_some(), in_air, "its waiters are told to move");
            assert!(play.slot.flight().is_none(), "with no waiter no flight starts");
            assert_eq!(play.slot.end_flight(play.flights), None, "the stale flight lands nowhere");
            assert_eq!(play.ask(), Depart);
            assert_eq!(play.ask(), Join);
        }
    }
}

// R50: rules 12 and 14
#[test]
fn a_rotation_during_a_renewal_puts_no_refused_token_back() {
    for credentials_changed in [true, false] {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).refuse(1, Rejection::Unspecified), Depart);
        assert!(play.forget(credentials_changed).is_some());
        assert_eq!(play.ask(), Depart);
        assert_eq!(play.fails(down()), 100);
        assert_eq!(play.ask(), Fail(100), "gone for good");
        assert_eq!(play.at(1_100).ask(), Depart);
        assert_eq!(play.lands("first", 1_800_000), 3, "it is a token as any other now");
    }
}

// R42, R50: rule 14
#[test]
fn invalidations_clear_the_failure_memory_once_a_second_and_rotations_always() {
    for (draw, pause) in [(0.0, 2_500), (1.0, 5_000)] {
        let mut play = Play::new(draw);
        // Ms, whether it is a rotation, whether the failure memory is gone.
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
            if play.at(at).ask() == Depart {
                assert_eq!(play.fails(wrong_secret()), pause);
            }
            assert!(matches!(play.ask(), Fail(_)), "at {at} ms");
            assert_eq!(play.forget(rotation), None);
            assert_eq!(play.slot.failure.is_none(), cleared, "at {at} ms");
        }
    }
}

// R42: rule 14
#[test]
fn a_loop_of_invalidations_costs_a_failing_issuer_one_request_a_second() {
    let mut play = Play::new(1.0);
    let mut flights = Vec::new();
    for at in 0..5_000 {
        play.at(at).forget(false);
        if play.ask() == Depart {
            flights.push(at);
            play.fails(wrong_secret());
        }
    }
    assert_eq!(flights, [0, 1_000, 2_000, 3_000, 4_000]);
}

// R52: rule 14
#[test]
fn neither_rotation_nor_invalidation_fills_the_renewal_budget() {
    for credentials_changed in [true, false] {
        let mut play = Play::with_token(0.0, 1_800);
        assert_eq!(play.refuse(1, Rejection::Unspecified), Depart);
        play.lands("second", 1_800_000);
        play.forget(credentials_changed);
        assert_eq!(play.ask(), Depart);
        play.lands("third", 1_800_000);
        assert_eq!(play.refuse(3, Rejection::Unspecified), Exhausted);
    }
}

// R9: rule 15
#[test]
fn a_flight_longer_in_the_air_than_any_can_be_is_taken_for_lost() {
    let mut play = Play::new(0.0);
    let longest = Duration::from_secs(15);
    assert_eq!(play.ask(), Depart);
    assert_eq!(play.at(15_000).is_stuck(longest), None);
    assert_eq!(play.ask(), Join);
    assert_eq!(play.at(15_001).is_stuck(longest), Some(1));
    assert_eq!(play.ask(), Depart);
}

// R31: rule 16
#[test]
fn a_slot_guards_its_issuer_while_a_pause_runs_or_the_bucket_is_not_full() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert!(!play.guards_issuer());
    assert_eq!(play.at(1_000).refuse(1, Rejection::Unspecified), Depart);
    play.lands("second", 1_800_000);
    assert!(play.at(10_999).guards_issuer(), "one renewal is counted");
    assert!(!play.at(11_000).guards_issuer());
    assert_eq!(play.at(1_000_000).ask(), StampAndDepart(2));
    assert_eq!(play.fails(wrong_secret()), 2_500);
    assert!(play.at(1_002_499).guards_issuer());
    assert!(!play.at(1_002_500).guards_issuer());
}

// R1, R52: rule 17
#[test]
fn however_many_ask_one_flight_is_in_the_air() {
    for draw in [0.0, 1.0] {
        let mut play = Play::new(draw);
        assert_eq!(play.ask(), Depart);
        for _ in 0..1_000 {
            assert_eq!(play.ask(), Join);
        }
        play.lands("first", 1_800_000);
        assert_eq!(play.at(1_000_000).ask(), StampAndDepart(1));
        for _ in 0..1_000 {
            assert_eq!(play.ask(), Stamp(1));
        }
        assert_eq!(play.flights, 2);
    }
}

// R35, R52: rule 17
#[test]
fn a_healthy_issuer_sees_no_more_requests_than_its_lifetimes_ask_for() {
    // Lifetime in s; ms over which a request comes all the time; token requests that 1 + ceil(T / (L - window)) allows.
    for (lifetime, over, most) in
        [(1, 10_000, 11), (2, 10_000, 11), (10, 60_000, 13), (300, 3_600_000, 25), (1_800, 36_000_000, 41)]
    {
        for draw in [0.0, 1.0] {
            let mut play = Play::new(draw);
            for at in (0..over).step_by(25) {
                if matches!(play.at(at).ask(), Depart | StampAndDepart(_)) {
                    play.lands(&format!("at-{at}"), lifetime * 1_000);
                }
            }
            assert!(play.flights <= most, "{lifetime} s: {} token requests", play.flights);
        }
    }
}
