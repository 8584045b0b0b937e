//! Finds a secret in a text, in every form in which it can leak.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The length of a fragment that counts as a leak.
const FRAGMENT: usize = 8;

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

#[test]
fn the_detector_finds_every_form() {
    const SECRET: &str = "xQ8w/Zt4-canary+7";
    struct Leaks;
    impl std::fmt::Debug for Leaks {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Leaks").field(&SECRET).finish()
        }
    }
    let percent: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    for leak in [
        format!("{Leaks:?}"),
        percent,
        STANDARD.encode(SECRET),
        URL_SAFE_NO_PAD.encode(SECRET),
        format!("{:?}", SECRET.as_bytes()),
        format!("{:?}", bytes::Bytes::from(SECRET)),
        SECRET[..FRAGMENT].to_owned(),
        SECRET[SECRET.len() - FRAGMENT..].to_owned(),
    ] {
        assert!(shown_in(&leak, &[SECRET]).is_some(), "{leak}");
    }
    assert_eq!(shown_in("the issuer rejects the client's credentials (HTTP 401)", &[SECRET]), None);
}
