use super::*;

// R70: rule 8
#[test]
fn retry_after_is_a_minimum_and_a_random_time_is_added_above_its_limits_too() {
    let seconds = Duration::from_secs;
    let first = |draw| Backoff::transient(0, None, draw);
    // The backoff; Retry-After; transient failures in a row; the draw; the backoff with a token, with a dead one, and
    // without one.
    let table = [
        (first(0.0), seconds(0), 0, 0.0, [1_000, 100, 100]),
        (first(1.0), seconds(0), 0, 1.0, [2_000, 500, 500]),
        (first(0.0), seconds(5), 0, 0.0, [5_000, 5_000, 5_000]),
        // A tenth and the first step are equal.
        (first(1.0), seconds(5), 0, 1.0, [5_500, 5_500, 5_500]),
        // For a dead token only the tenth is added.
        (first(1.0), seconds(4), 0, 1.0, [4_500, 4_400, 4_500]),
        (first(1.0), seconds(6), 0, 1.0, [6_600, 6_600, 6_600]),
        (first(0.0), seconds(60), 0, 0.0, [60_000, 60_000, 60_000]),
        (first(1.0), seconds(60), 0, 1.0, [66_000, 66_000, 66_000]),
        (first(0.5), seconds(60), 0, 0.5, [63_000, 63_000, 63_000]),
        (first(0.0), seconds(100), 0, 0.0, [100_000, 60_000, 60_000]),
        (first(1.0), seconds(100), 0, 1.0, [110_000, 66_000, 66_000]),
        (first(0.0), seconds(300), 0, 0.0, [300_000, 60_000, 60_000]),
        (first(1.0), seconds(300), 0, 1.0, [330_000, 66_000, 66_000]),
        (first(0.0), seconds(u64::MAX), 0, 0.0, [300_000, 60_000, 60_000]),
        (first(1.0), Duration::MAX, 0, 1.0, [330_000, 66_000, 66_000]),
        // After many failures, the step of 30 s is longer than a tenth.
        (Backoff::transient(6, None, 1.0), seconds(5), 6, 1.0, [35_000, 30_000, 35_000]),
        (Backoff::transient(6, None, 1.0), seconds(299), 6, 1.0, [329_000, 66_000, 90_000]),
        (Backoff::transient(6, None, 0.0), seconds(5), 6, 0.0, [5_000, 5_000, 5_000]),
        (Backoff::permanent(0, 0.0), seconds(3), 0, 0.0, [3_000, 3_000, 3_000]),
        (Backoff::permanent(0, 1.0), seconds(3), 0, 1.0, [5_000, 5_000, 5_000]),
        (Backoff::permanent(4, 1.0), seconds(3), 0, 1.0, [60_000, 60_000, 60_000]),
    ];
    for (drawn, requested, failures, draw, expected) in table {
        let [with_token, with_dead_token, without_token] = expected.map(ms);
        assert_eq!(
            drawn.at_least(requested, failures, draw),
            Backoff { with_token, with_dead_token, without_token },
            "{drawn:?}, Retry-After {requested:?}, {failures} failures, draw {draw}"
        );
    }
}
