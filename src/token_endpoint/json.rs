//! Helpers to read JSON that contains a secret.

use serde::Deserialize;
use zeroize::Zeroizing;

/// Parses a JSON object. Returns `None` for any other JSON: serde accepts an array in place of a struct.
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// Parses a JSON string.
pub(crate) fn text(json: &str) -> Option<Zeroizing<String>> {
    serde_json::from_str(json).ok().map(Zeroizing::new)
}
