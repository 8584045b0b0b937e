//! Helpers to read JSON that contains a secret.

use serde::Deserialize;
use zeroize::Zeroizing;

/// Parses a JSON object. Returns `None` for any other JSON: serde accepts an array in place of a struct.
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    begins_object(body).then(|| serde_json::from_slice(without_bom(body)).ok())?
}

/// Whether a body begins as a JSON object does.
pub(super) fn begins_object(body: &[u8]) -> bool {
    without_bom(body).trim_ascii_start().first() == Some(&b'{')
}

/// RFC 8259 section 8.1: a parser may ignore a byte order mark.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads a JSON string from the text of a JSON value. Returns `None` for any other value.
///
/// serde_json decodes escapes in a buffer that grows and is not wiped.
pub(crate) fn text(json: &str) -> Option<Zeroizing<String>> {
    let mut rest = json.strip_prefix('"')?.strip_suffix('"')?;
    // Allocated once: no escape is shorter than what it stands for.
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (character, after) = unescape(escape)?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// As [`text`], for a string without escapes, which needs no copy.
pub(super) fn plain_text(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

/// The character of an escape (RFC 8259 section 7), and the text after it.
fn unescape(escape: &str) -> Option<(char, &str)> {
    let mut characters = escape.chars();
    let character = match characters.next()? {
        '"' => '"',
        '\\' => '\\',
        '/' => '/',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unescape_unicode(characters.as_str()),
        _ => return None,
    };
    Some((character, characters.as_str()))
}

fn unescape_unicode(digits: &str) -> Option<(char, &str)> {
    let (unit, after) = code_unit(digits)?;
    if let Some(character) = char::from_u32(unit.into()) {
        return Some((character, after));
    }
    let (low, after) = code_unit(after.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([unit, low]).next()?.ok()?;
    Some((character, after))
}

fn code_unit(digits: &str) -> Option<(u16, &str)> {
    let (unit, after) = digits.split_at_checked(4)?;
    let is_hex = unit.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(unit, 16).ok())?.map(|unit| (unit, after))
}
