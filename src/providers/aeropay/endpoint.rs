//! Finds the endpoint, and so the scope, for a method and a path.

use std::borrow::Cow;
use std::cmp::Reverse;

use http::Method;

use super::key::TokenScope;
use crate::error::ConfigError;

/// One row of a version's table.
pub(super) type Row = (Method, &'static str, Option<TokenScope>);

/// An endpoint of Aeropay's API, and the scope that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    method: Method,
    template: Cow<'static, str>,
    scope: Option<TokenScope>,
}

impl Endpoint {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path from the root of the host. `{name}` stands for any one segment.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The scope. `None` for the token endpoint, which needs no token.
    #[must_use]
    pub fn scope(&self) -> Option<TokenScope> {
        self.scope
    }

    pub(super) fn of_row((method, template, scope): &Row) -> Self {
        Self { method: method.clone(), template: Cow::Borrowed(template), scope: *scope }
    }

    /// An endpoint that the user adds.
    pub(super) fn custom(method: Method, template: String, scope: TokenScope) -> Result<Self, ConfigError> {
        let Some(path) = template.strip_prefix('/') else {
            return Err(ConfigError::new("endpoint", "the path does not begin with a slash"));
        };
        let is_invalid = |segment: &str| {
            let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let text = inner.unwrap_or(segment);
            !is_plain_segment(text) || text.contains(['{', '}', '%', '?', '#', ' '])
        };
        if path.split('/').any(is_invalid) {
            return Err(ConfigError::new("endpoint", "a segment of the path is neither plain text nor {name}"));
        }
        Ok(Self { method, template: Cow::Owned(template), scope: Some(scope) })
    }

    /// Whether both match the same requests.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let shape = |endpoint: &Self| -> Vec<Option<String>> {
            segments(&endpoint.template).map(|s| (!is_parameter(s)).then(|| s.to_owned())).collect()
        };
        self.method == other.method && shape(self) == shape(other)
    }

    /// How general a template is. Plain text is more specific than a parameter, and segments on the left count more.
    fn generality(&self) -> u64 {
        segments(&self.template).fold(1, |so_far, segment| so_far << 1 | u64::from(is_parameter(segment)))
    }
}

/// The most specific endpoint that matches. Of two that are equally specific, the later one.
pub(super) fn find<'a>(endpoints: &'a [Endpoint], method: &Method, path: &str) -> Option<&'a Endpoint> {
    if !is_plain(path) {
        return None;
    }
    let matching = endpoints.iter().filter(|endpoint| endpoint.method == *method && matches(&endpoint.template, path));
    matching.max_by_key(|endpoint| Reverse(endpoint.generality()))
}

/// Whether a path matches a template.
pub(super) fn matches(template: &str, path: &str) -> bool {
    let mut expected = segments(template);
    let mut given = segments(path);
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return true,
            (Some(expected), Some(given)) if is_parameter(expected) || decodes_to(given, expected) => {}
            _ => return false,
        }
    }
}

/// Whether every server reads the path the same way. Servers, and proxies in front of them, differ in empty segments, in
/// `.` and `..`, in `;` parameters, in escaped separators, in control characters, in escapes of escapes and in escapes that
/// are not valid.
pub(super) fn is_plain(path: &str) -> bool {
    path.starts_with('/') && segments(path).all(is_plain_segment)
}

fn is_plain_segment(segment: &str) -> bool {
    let is_separator = |b: u8| matches!(b, b'/' | b'\\' | b';' | b'%') || b.is_ascii_control();
    let is_dots = decodes_to(segment, ".") || decodes_to(segment, "..");
    // `decoded` leaves an invalid escape as it is, with its percent sign.
    !segment.is_empty() && !is_dots && !decoded(segment).any(is_separator)
}

/// Whether a word of the path is this name, in any spelling that a lenient server might read as that name. A word ends at
/// each character that is neither a letter nor a digit.
pub(super) fn has_word(path: &str, name: &str) -> bool {
    let decoded: Vec<u8> = decoded(path).collect();
    // Some letters outside of ASCII have an ASCII letter as their upper case.
    let words = String::from_utf8_lossy(&decoded).to_uppercase();
    words.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case(name))
}

/// The segments of a path. One trailing slash is ignored.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    inside.strip_suffix('/').unwrap_or(inside).split('/')
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Whether a percent-encoded segment decodes to this text. It does not allocate.
fn decodes_to(segment: &str, text: &str) -> bool {
    decoded(segment).eq(text.bytes())
}

fn decoded(segment: &str) -> impl Iterator<Item = u8> {
    let mut rest = segment.as_bytes();
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        rest = if escaped.is_some() { after.get(2..)? } else { after };
        Some(escaped.unwrap_or(*first))
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
