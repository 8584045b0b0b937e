//! Rules 10 to 13.

use super::*;

const BOTH: [Rejection; 2] = [Rejection::Unspecified, Rejection::InvalidToken];

// R4: rule 10
#[test]
fn staggered_refusals_of_one_generation_cost_one_flight() {
    for refusal in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).refuse(1, refusal), Depart);
        for at in 1_001..1_100 {
            assert_eq!(play.at(at).refuse(1, refusal), Join);
        }
        assert_eq!(play.at(1_200).lands("second", 1_800_000), 2);
        for at in 1_201..1_300 {
            assert_eq!(play.at(at).refuse(1, refusal), Stamp(2), "an older generation changes nothing");
        }
        assert_eq!(play.flights, 2);
        // One of six went.
        play.accept();
        for generation in 2..=6 {
            assert_eq!(play.refuse(generation, refusal), Depart);
            play.lands(&format!("token-{generation}"), 1_800_000);
            play.accept();
        }
        assert_eq!(play.refuse(7, refusal), Exhausted);
    }
}

// R4: rule 10
#[test]
fn a_refusal_of_no_token_of_this_slot_changes_nothing() {
    for refusal in BOTH {
        let mut play = Play::with_accepted(1.0, 1_800);
        for generation in [0, 2, u64::MAX] {
            assert_eq!(play.at(1_000).refuse(generation, refusal), Stamp(1));
        }
        assert_eq!(play.at(1_770_000).refuse(1, refusal), Depart, "an expired token is renewed as any");
        assert!(play.slot.budget.is_full(play.now.mono), "and not out of the budget");
    }
}

// R16, R23: rules 10 and 11
#[test]
fn an_exhausted_budget_leaves_the_token_current_and_stamped() {
    for refusal in BOTH {
        for draw in [0.0, 1.0] {
            let mut play = Play::with_accepted(draw, 1_800);
            for generation in 1..=6 {
                assert_eq!(play.at(generation * 1_000).refuse(generation, refusal), Depart);
                play.lands(&format!("token-{generation}"), 1_800_000);
                play.accept();
            }
            // The bucket was full at 1 s, so that one came back at 11 s.
            assert_eq!(play.at(10_999).refuse(7, refusal), Exhausted);
            assert_eq!(play.ask(), Stamp(7));
            assert_eq!(play.at(11_000).refuse(7, refusal), Depart);
            play.lands("token-7", 1_800_000);
            play.accept();
            assert_eq!(play.at(20_999).refuse(8, refusal), Exhausted);
            assert_eq!(play.at(21_000).refuse(8, refusal), Depart);
        }
    }
}

// R16: rule 10
#[test]
fn a_server_that_refuses_every_token_costs_one_a_minute() {
    for refusal in BOTH {
        let mut play = Play::with_token(0.0, 1_800);
        let mut flights = Vec::new();
        for second in 0..600 {
            let Stamp(current) = play.at(second * 1_000).ask() else { panic!("not stamped at {second} s") };
            match play.refuse(current, refusal) {
                Exhausted => {}
                Depart => {
                    flights.push(second);
                    play.lands(&format!("token-{current}"), 1_800_000);
                }
                said => panic!("{said:?} at {second} s"),
            }
        }
        assert_eq!(flights, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540]);
    }
}

// R23: rule 10
#[test]
fn five_revocations_in_a_minute_heal() {
    for refusal in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        for generation in 1..=5 {
            assert_eq!(play.at(generation * 10_000).refuse(generation, refusal), Depart);
            assert_eq!(play.lands(&format!("token-{generation}"), 1_800_000), generation + 1);
            play.accept();
        }
    }
}

// R4: rule 12
#[test]
fn a_refusal_joins_the_early_flight_that_is_in_the_air() {
    for refusal in BOTH {
        for (draw, window) in [(0.0, 900_000), (1.0, 990_000)] {
            let mut play = Play::with_accepted(draw, 1_800);
            assert_eq!(play.at(window).ask(), StampAndDepart(1));
            assert_eq!(play.at(window + 100).refuse(1, refusal), Join);
            assert_eq!(play.ask(), Join, "the refused token is not stamped meanwhile");
            assert_eq!(play.at(window + 200).lands("second", 1_800_000), 2);
            assert_eq!(play.ask(), Stamp(2));
            assert_eq!(play.flights, 2);
        }
    }
}

/// How the renewal of a refused token fails.
enum Fails {
    With(Error),
    BringsItBack,
}

// R22, R36, R38: rule 12
#[test]
fn after_a_failed_renewal_a_bare_refusal_is_put_back_and_an_explicit_one_is_gone() {
    // How the flight fails, whether it was in the air before the refusal; ms of the pause with a token, and without.
    let table = [
        (Fails::With(down()), false, 0.0, 1_000, 100),
        (Fails::With(down()), false, 1.0, 1_000, 500),
        (Fails::With(down()), true, 0.0, 1_000, 100),
        (Fails::With(wrong_secret()), false, 0.0, 2_500, 2_500),
        (Fails::With(wrong_secret()), false, 1.0, 5_000, 5_000),
        (Fails::With(throttled(100)), false, 0.0, 100_000, 60_000),
        (Fails::With(throttled(100)), false, 1.0, 110_000, 60_000),
        (Fails::BringsItBack, false, 0.0, 1_000, 100),
        (Fails::BringsItBack, false, 1.0, 1_000, 500),
        (Fails::BringsItBack, true, 0.0, 1_000, 100),
        (Fails::BringsItBack, true, 1.0, 1_000, 500),
    ];
    for refusal in BOTH {
        for (fails, joined, draw, with_token, without_token) in &table {
            let mut play = Play::with_accepted(*draw, 1_800);
            play.at(1_000_000);
            if *joined {
                assert_eq!(play.ask(), StampAndDepart(1));
            }
            assert_eq!(play.refuse(1, refusal), if *joined { Join } else { Depart });
            let pause = match fails {
                Fails::With(error) => play.fails(error.clone()),
                Fails::BringsItBack => {
                    let error = play.lands_late_or_not("first", 1_800_000).unwrap_err();
                    assert!(error.is_transient());
                    next_try(&error)
                }
            };
            if refusal == Rejection::Unspecified {
                assert_eq!(pause, *with_token);
                assert_eq!(play.ask(), Stamp(1));
                assert_eq!(play.at(1_769_999).usable(), Some(1));
                assert_eq!(play.at(1_770_000).usable(), None, "until its end");
            } else {
                assert_eq!(pause, *without_token);
                assert_eq!(play.ask(), Fail(pause));
                assert_eq!(play.at(1_000_000 + pause).ask(), Depart);
            }
        }
    }
}

// R22: rule 12
#[test]
fn one_explicit_refusal_among_bare_ones_is_enough() {
    for joined in [false, true] {
        let mut play = Play::with_accepted(0.0, 1_800);
        play.at(1_000_000);
        if joined {
            assert_eq!(play.ask(), StampAndDepart(1));
        }
        assert_eq!(play.refuse(1, Rejection::Unspecified), if joined { Join } else { Depart });
        assert_eq!(play.refuse(1, Rejection::InvalidToken), Join);
        assert_eq!(play.refuse(1, Rejection::Unspecified), Join);
        play.fails(down());
        assert_eq!(play.ask(), Fail(100), "the token is known to be dead");
    }
}

// R36: rule 12
#[test]
fn a_flight_that_no_refusal_began_may_bring_a_secret_that_was_refused_before() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(1_000).refuse(1, Rejection::InvalidToken), Depart);
    play.lands_late_or_not("first", 1_800_000).unwrap_err();
    assert_eq!(play.at(1_100).ask(), Depart);
    assert_eq!(play.lands("first", 1_800_000), 3);
    assert_eq!(play.ask(), Stamp(3));
}

// R9, R22: rule 12
#[test]
fn a_renewal_whose_flight_is_lost_is_still_a_renewal() {
    for refusal in BOTH {
        let mut play = Play::with_accepted(0.0, 1_800);
        assert_eq!(play.at(1_000).refuse(1, refusal), Depart);
        assert!(play.slot.end_flight(play.flights).is_some());
        assert_eq!(play.ask(), Depart, "the refused token is not stamped");
        play.lands_late_or_not("first", 1_800_000).unwrap_err();
        assert_eq!(play.ask(), if refusal == Rejection::Unspecified { Stamp(1) } else { Fail(100) });
    }
}

// R16: rules 10 and 13
#[test]
fn an_early_refresh_that_repeats_the_token_keeps_what_servers_said_of_it() {
    let mut play = Play::with_accepted(0.0, 1_800);
    assert_eq!(play.at(900_000).ask(), StampAndDepart(1));
    assert_eq!(play.lands("first", 1_800_000), 1);
    assert!(play.slot.current().is_some_and(Token::is_accepted));
    for generation in [1, 3] {
        assert_eq!(play.refuse(generation, Rejection::Unspecified), Depart, "one of six, and not all of them");
        play.lands(&format!("after-{generation}"), 1_800_000);
        play.accept();
    }
}
