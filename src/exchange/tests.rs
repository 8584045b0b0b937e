use std::time::Duration;

use http::HeaderMap;

use super::lifetime::lifetime;
use super::retry_after::retry_after;

// R32, row for row.
#[test]
fn a_lifetime_is_read_in_every_form_that_issuers_write() {
    let day = 24 * 60 * 60;
    for (json, seconds) in [
        ("1", Some(1)),
        ("59", Some(59)),
        ("3600", Some(3600)),
        ("3600.0", Some(3600)),
        ("\"3600\"", Some(3600)),
        ("\"3600 \"", Some(3600)),
        ("null", None),
        ("true", None),
        ("\"\"", None),
        ("0", Some(1)),
        ("-1", Some(1)),
        ("1e18", Some(day)),
        ("18446744073709551615", Some(day)),
        // Beyond the table.
        ("18446744073709551616", Some(day)),
        ("1e999", Some(day)),
        ("-1e999", Some(1)),
        ("0.5", Some(1)),
        ("59.9", Some(59)),
        ("\"-1\"", Some(1)),
        ("86400", Some(day)),
        ("86401", Some(day)),
        ("\" \"", None),
        ("\"abc\"", None),
        ("\"inf\"", None),
        ("\"NaN\"", None),
        ("\"1 hour\"", None),
        ("\"-\"", None),
        ("\"", None),
        ("{}", None),
        ("{\"a\":1}", None),
        ("[]", None),
        ("[3600]", None),
    ] {
        assert_eq!(lifetime(json), seconds.map(Duration::from_secs), "{json}");
    }
}

#[test]
fn retry_after_counts_a_date_from_the_answer_s_own_date() {
    let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
    for (value, date, seconds) in [
        ("0", None, Some(0)),
        ("120", None, Some(120)),
        (" 7 ", None, Some(7)),
        ("99999999999999999999999", None, Some(u64::MAX)),
        ("Sun, 06 Nov 1994 12:01:30 GMT", Some(noon), Some(90)),
        ("Sunday, 06-Nov-94 12:01:30 GMT", Some(noon), Some(90)),
        ("Sun Nov  6 12:01:30 1994", Some(noon), Some(90)),
        ("Sun, 06 Nov 1994 11:59:00 GMT", Some(noon), Some(0)),
        // No date to count from: this machine's clock, long after.
        ("Sun, 06 Nov 1994 12:01:30 GMT", None, Some(0)),
        ("Sun, 06 Nov 1994 12:01:30 GMT", Some("garbage"), Some(0)),
        ("", None, None),
        ("-5", None, None),
        ("+5", None, None),
        ("1.5", None, None),
        ("1e3", None, None),
        ("soon", None, None),
        ("Sun, 99 Nov 1994 12:00:00 GMT", Some(noon), None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().unwrap());
        if let Some(date) = date {
            headers.insert("date", date.parse().unwrap());
        }
        assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{value} {date:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new()), None);
}
