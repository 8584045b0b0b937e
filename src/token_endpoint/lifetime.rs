//! How long a token lives, in whatever form an issuer says it.

use std::time::Duration;

const LONGEST: f64 = 24.0 * 60.0 * 60.0;

/// Reads seconds out of a JSON value: a number, or a string that holds one.
///
/// Less than a second is one second, more than 24 hours is 24 hours, fractions are cut off. `None` for everything else.
pub(crate) fn lifetime(json: &str) -> Option<Duration> {
    let unquoted = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json);
    let number = unquoted.trim();
    // Rust reads words as well: `inf`, `nan`, `infinity`.
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    if !number.bytes().all(plain) {
        return None;
    }
    // Overflow is infinity here, and that is clamped as well.
    let seconds: f64 = number.parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(1.0, LONGEST) as u64))
}
