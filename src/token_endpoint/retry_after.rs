//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};

use crate::clock::{Clock as _, SystemClock};

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // A number that overflows is still valid. It means a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(sent_at(headers)).unwrap_or_default())
}

/// When the issuer sent the response.
///
/// The issuer's own clock comes first, so that a wrong clock on this machine does not matter. Some servers send no
/// `Date`.
fn sent_at(headers: &HeaderMap) -> SystemTime {
    date(headers, DATE).unwrap_or_else(|| SystemClock.now().wall)
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}
