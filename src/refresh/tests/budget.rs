use super::*;

/// Takes from one budget: (ms since the start, was the token accepted, is there enough budget).
fn refreshes(table: &[(u64, bool, bool)]) {
    let start = Now::for_tests().mono;
    let mut budget = Budget::full(start);
    for (at, accepted, paid) in table {
        assert_eq!(budget.take(*accepted, start + ms(*at)), *paid, "at {at} ms of {table:?}");
    }
}

// R23: rule 10
#[test]
fn six_refreshes_at_once_then_one_every_ten_seconds() {
    refreshes(&[
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, false),
        (9_999, true, false),
        (10_000, true, true),
        (10_001, true, false),
        (20_000, true, true),
    ]);
}

// R23: rule 10
#[test]
fn the_rest_of_an_interval_that_has_begun_counts() {
    refreshes(&[
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (0, true, true),
        (15_000, true, true),
        (19_999, true, false),
        (20_000, true, true),
        (40_000, true, true),
        (40_000, true, true),
        (40_000, true, false),
    ]);
}

// R16: rule 10
#[test]
fn a_rejection_of_an_unaccepted_token_takes_a_full_budget() {
    refreshes(&[
        (0, false, true),
        (0, false, false),
        (0, true, false),
        (59_999, false, false),
        (60_000, false, true),
        (60_000, true, false),
    ]);
    refreshes(&[(0, true, true), (1, false, false), (9_999, false, false), (10_000, false, true)]);
}

// R16: rule 10
#[test]
fn after_a_long_time_the_budget_is_still_six() {
    let rested = 365 * 86_400_000;
    refreshes(&[
        (0, false, true),
        (rested, true, true),
        (rested, true, true),
        (rested, true, true),
        (rested, true, true),
        (rested, true, true),
        (rested, true, true),
        (rested, true, false),
        (rested + 9_999, true, false),
        (rested + 10_000, true, true),
    ]);
}

// R33: rule 10
#[test]
fn a_clock_set_back_neither_fills_the_budget_nor_stops_its_refill() {
    for back in [DAY, YEAR] {
        let start = Now::for_tests().mono;
        let mut budget = Budget::full(start);
        assert!(budget.take(false, start));
        let earlier = start - back;
        assert!(!budget.take(true, earlier), "set back by {back:?}");
        assert!(!budget.take(true, earlier + ms(9_999)), "set back by {back:?}");
        assert!(budget.take(true, earlier + ms(10_000)), "set back by {back:?}");
        assert!(!budget.take(false, earlier + ms(69_999)), "set back by {back:?}");
        assert!(budget.take(false, earlier + ms(70_000)), "set back by {back:?}");
    }
}

// R31: rule 16
#[test]
fn an_empty_budget_is_full_after_one_minute() {
    let start = Now::for_tests().mono;
    let mut budget = Budget::full(start);
    assert!(budget.is_full(start));
    assert!(budget.take(false, start));
    assert!(!budget.is_full(start + ms(59_999)));
    assert!(budget.is_full(start + ms(60_000)));
}

// R100: rule 19. A budget of 6 that gains one in 10 s allows 12 refreshes in a minute, and is never full between them.
#[test]
fn twelve_refreshes_without_a_full_budget_between_them_overuse_it() {
    let start = Now::for_tests().mono;
    let mut budget = Budget::full(start);
    for at in [0, 0, 0, 0, 0, 0, 10_000, 20_000, 30_000, 40_000, 50_000] {
        assert!(budget.take(true, start + ms(at)));
        assert!(!budget.is_overused(), "at {at} ms");
    }
    assert!(budget.take(true, start + ms(60_000)));
    assert!(budget.is_overused());
    // At 120 s it is full again.
    assert!(budget.take(true, start + ms(120_000)));
    assert!(!budget.is_overused());
}
