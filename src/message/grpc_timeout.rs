//! The `grpc-timeout` header (gRPC over HTTP/2, "Requests").

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The units of a timeout, in ns.
const UNITS: [(char, u128); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60 * 1_000_000_000),
    ('H', 3_600 * 1_000_000_000),
];

/// A timeout has at most 8 digits.
const MAX_DIGITS: usize = 8;
const MAX_VALUE: u128 = 99_999_999;

/// The timeout of a request. `None` if it has none, or an invalid one.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(&GRPC_TIMEOUT)?)
}

/// Reads the value of the header.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=MAX_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == char::from(*unit))?;
    let value: u128 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let nanos = value * nanos;
    Some(Duration::new(u64::try_from(nanos / 1_000_000_000).ok()?, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// Shortens the timeout of a request to `left`. A request without a timeout stays without one.
pub(crate) fn shorten_grpc_timeout(headers: &mut HeaderMap, left: Duration) {
    if grpc_timeout(headers).is_some_and(|timeout| left < timeout)
        && let (Some(header), Some(value)) = (headers.get_mut(&GRPC_TIMEOUT), value_of(left))
    {
        *header = value;
    }
}

/// The header value for a time, in the smallest unit that it fits in. It is rounded down, but a timeout must be positive.
fn value_of(time: Duration) -> Option<HeaderValue> {
    let nanos = time.as_nanos().max(1);
    let (unit, value) = UNITS.iter().map(|(unit, one)| (unit, nanos / one)).find(|(_, value)| *value <= MAX_VALUE)?;
    HeaderValue::try_from(format!("{value}{unit}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &'static str) -> Option<Duration> {
        parse(&HeaderValue::from_static(value))
    }

    // R72
    #[test]
    fn a_timeout_is_read_in_every_unit_and_nothing_else_is_one() {
        let seconds = Duration::from_secs;
        for (value, expected) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("200m", Duration::from_millis(200)),
            ("0m", Duration::ZERO),
            ("3S", seconds(3)),
            ("3M", seconds(180)),
            ("99999999H", seconds(99_999_999 * 3_600)),
        ] {
            assert_eq!(parsed(value), Some(expected), "{value}");
        }
        for value in ["", "m", "5", "5s", "5 m", "-5m", "+5m", "1.5S", "123456789m", "5ms", "m5"] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
    }

    // R72: the server must not get more time than there is.
    #[test]
    fn a_time_is_written_in_at_most_eight_digits_and_rounded_down() {
        for (time, expected) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (Duration::from_millis(150), "150000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(200_000), "200000S"),
            (Duration::from_secs(100_000_001), "1666666M"),
            (Duration::from_secs(60 * 100_000_000), "1666666H"),
        ] {
            let value = value_of(time).unwrap();
            assert_eq!(value, expected);
            assert!(parse(&value).unwrap() <= time.max(Duration::from_nanos(1)));
        }
        assert_eq!(value_of(Duration::MAX), None);
    }

    #[test]
    fn a_timeout_is_only_ever_shortened() {
        for (before, left, after) in [
            (Some("200m"), 150, Some("150000u")),
            (Some("200m"), 250, Some("200m")),
            (Some("200m"), 200, Some("200m")),
            (Some("soon"), 150, Some("soon")),
            (None, 150, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(before.map(|value| (GRPC_TIMEOUT.clone(), HeaderValue::from_static(value))));
            shorten_grpc_timeout(&mut headers, Duration::from_millis(left));
            let value = headers.get(&GRPC_TIMEOUT).map(|value| value.to_str().unwrap());
            assert_eq!(value, after);
        }
    }
}
