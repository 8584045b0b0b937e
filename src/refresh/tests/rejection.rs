//! The numbers of rules 12, 19 and 21.

use super::*;

// Rule 12
#[test]
fn a_token_is_set_aside_for_three_fetches_between_one_and_five_seconds() {
    let table = [
        (0, 1_000),
        (200, 1_000),
        (333, 1_000),
        (334, 1_002),
        (1_000, 3_000),
        (1_666, 4_998),
        (1_667, 5_000),
        (15_000, 5_000),
        (u64::MAX, 5_000),
    ];
    for (took, length) in table {
        assert_eq!(set_aside(ms(took)), ms(length), "a fetch of {took} ms");
    }
    assert_eq!(set_aside(Duration::MAX), ms(5_000));
}

// Rule 19
#[test]
fn the_interval_between_fetches_for_alternating_tokens_doubles_from_ten_seconds_to_ten_minutes() {
    for (fetches, seconds) in [(0, 10), (1, 20), (2, 40), (3, 80), (4, 160), (5, 320), (6, 600), (31, 600), (32, 600)] {
        assert_eq!(throttle_interval(fetches), Duration::from_secs(seconds), "{fetches} fetches");
    }
    assert_eq!(throttle_interval(u32::MAX), Duration::from_secs(600));
}

// Rule 19
#[test]
fn a_row_of_rejections_shows_a_revocation_if_it_is_long_or_the_token_has_been_dead_for_long() {
    // The row; the longest earlier one; for how many ms the token has been confirmed dead.
    let table = [
        (9, 0, None, false),
        (10, 0, None, true),
        (10, 3, None, true),
        (10, 4, None, false),
        (11, 4, None, false),
        (12, 4, None, true),
        (299, 100, None, false),
        (300, 100, None, true),
        (u32::MAX, u32::MAX, None, true),
        (u32::MAX - 1, u32::MAX / 2, None, false),
        (3, 0, Some(0), false),
        (3, 0, Some(4_999), false),
        (3, 0, Some(5_000), true),
        (3, 100, Some(5_000), true),
    ];
    for (row, longest, dead_for, revoked) in table {
        assert_eq!(
            is_revoked(row, longest, dead_for.map(ms)),
            revoked,
            "{row} after {longest}, dead for {dead_for:?} ms"
        );
    }
}

// Rule 21
#[test]
fn the_delay_of_the_next_try_of_a_new_token_doubles_from_one_second_to_thirty() {
    for (rejections, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (33, 30), (u32::MAX, 30)] {
        assert_eq!(replacement_delay(rejections), Duration::from_secs(seconds), "{rejections} rejections");
    }
}
