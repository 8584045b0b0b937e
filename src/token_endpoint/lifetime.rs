//! The lifetime of a token, in any form that issuers use.

use std::time::Duration;

const LONGEST: f64 = 24.0 * 60.0 * 60.0;

/// Reads seconds from a JSON value: a number, or a string that contains a number.
///
/// A fraction of 1 second becomes 1 second, and values above 24 hours become 24 hours. Other fractions are cut off. Returns
/// `None` for everything else, and for zero and negative numbers: some issuers send them for a token without an expiry time.
pub(crate) fn lifetime(json: &str) -> Option<Duration> {
    let unquoted = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json);
    let number = unquoted.trim();
    // `f64::from_str` also accepts words: `inf`, `nan`, `infinity`.
    let is_numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    if !number.bytes().all(is_numeric) {
        return None;
    }
    // A number that is too large parses as infinity. `clamp` handles that too.
    let seconds: f64 = number.parse().ok().filter(|seconds| *seconds > 0.0)?;
    Some(Duration::from_secs(seconds.clamp(1.0, LONGEST) as u64))
}
