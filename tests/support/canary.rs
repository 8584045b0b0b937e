//! Finds a secret in a text, in every form in which it can leak.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The length of a fragment that counts as a leak.
pub(crate) const FRAGMENT: usize = 8;

/// The first form of one of `secrets` in `text`: plain, percent-encoded, base64, JSON-escaped, an array of bytes, or a
/// fragment of 8 characters with a digit, which ordinary words do not have.
pub(crate) fn shown_in(text: &str, secrets: &[&str]) -> Option<String> {
    let text = text.to_ascii_lowercase();
    secrets.iter().flat_map(|secret| forms(secret)).find(|form| text.contains(&form.to_ascii_lowercase()))
}

fn forms(secret: &str) -> Vec<String> {
    let bytes = format!("{:?}", secret.as_bytes());
    let mut forms = vec![
        form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        secret.replace('/', "\\/"),
        bytes[1..bytes.len() - 1].to_owned(),
    ];
    let fragments = secret.as_bytes().windows(FRAGMENT).map(|part| String::from_utf8_lossy(part).into_owned());
    forms.extend(fragments.filter(|part| part.chars().any(|c| c.is_ascii_digit())));
    forms
}
