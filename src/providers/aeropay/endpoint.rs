//! From a method and a path to the scope that the endpoint needs.

use std::borrow::Cow;
use std::cmp::Reverse;

use http::Method;

use super::key::TokenScope;
use crate::error::ConfigError;

/// One row of a version's table.
pub(super) type Row = (Method, &'static str, Option<TokenScope>);

/// One endpoint of Aeropay's API, and the scope of the tokens that it takes.
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

    /// The path from the host's root on, with `{name}` for a segment that may be anything.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The scope; `None` for the token endpoint, which takes no token.
    #[must_use]
    pub fn scope(&self) -> Option<TokenScope> {
        self.scope
    }

    pub(super) fn of_row((method, template, scope): &Row) -> Self {
        Self { method: method.clone(), template: Cow::Borrowed(template), scope: *scope }
    }

    /// A row of the user's own.
    pub(super) fn own(method: Method, template: String, scope: TokenScope) -> Result<Self, ConfigError> {
        let Some(path) = template.strip_prefix('/') else {
            return Err(ConfigError::new("endpoint", "the path does not begin with a slash"));
        };
        let odd = |segment: &str| {
            let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let text = inner.unwrap_or(segment);
            text.is_empty() || matches!(text, "." | "..") || text.contains(['{', '}', '%', '?', '#', ' '])
        };
        if path.split('/').any(odd) {
            return Err(ConfigError::new("endpoint", "the path has a segment that is neither plain text nor {name}"));
        }
        Ok(Self { method, template: Cow::Owned(template), scope: Some(scope) })
    }

    /// Whether both stand for the same requests.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let shape = |endpoint: &Self| -> Vec<Option<String>> {
            segments(&endpoint.template).map(|s| (!is_parameter(s)).then(|| s.to_owned())).collect()
        };
        self.method == other.method && shape(self) == shape(other)
    }

    /// How exact a row is, the most exact first: plain text beats a parameter, from the left.
    fn looseness(&self) -> u64 {
        segments(&self.template).fold(1, |so_far, segment| so_far << 1 | u64::from(is_parameter(segment)))
    }
}

/// The most exact row that fits; a later row beats an earlier one of the same exactness.
pub(super) fn find<'a>(endpoints: &'a [Endpoint], method: &Method, path: &str) -> Option<&'a Endpoint> {
    if !is_plain(path) {
        return None;
    }
    let fitting = endpoints.iter().filter(|endpoint| endpoint.method == *method && fits(&endpoint.template, path));
    fitting.max_by_key(|endpoint| Reverse(endpoint.looseness()))
}

/// Whether a path is one that the template stands for.
pub(super) fn fits(template: &str, path: &str) -> bool {
    let mut wanted = segments(template);
    let mut given = segments(path);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if is_parameter(wanted) || decodes_to(given, wanted) => {}
            _ => return false,
        }
    }
}

/// Whether no server could read the path as another one: no empty segment inside, no `.` and no `..`.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && segments(path).all(|s| !s.is_empty() && !decodes_to(s, ".") && !decodes_to(s, "..") && !s.contains('\\'))
}

/// The segments of a path; one slash at the end is none.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    inside.strip_suffix('/').unwrap_or(inside).split('/')
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Whether a percent-encoded segment means this text. Allocates nothing.
fn decodes_to(segment: &str, text: &str) -> bool {
    decoded(segment).eq(text.bytes())
}

pub(super) fn decoded(segment: &str) -> impl Iterator<Item = u8> {
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
