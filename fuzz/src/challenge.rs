//! The challenges of a 401. Each line of the input is one `WWW-Authenticate` field.

use http::{HeaderValue, Response};
use tower_bearer_auth::{Rejection, ResponseHead};

/// A challenge that every parser must find, before and after anything else.
const PLAIN: &[u8] = b"Bearer error=\"invalid_token\"";

pub fn check(input: &[u8]) {
    let fields: Vec<Vec<u8>> = input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let Some(found) = standard(&fields) else {
        return;
    };
    let challenges: Option<Vec<Challenge>> =
        fields.iter().map(|field| strict(field)).collect::<Option<Vec<_>>>().map(|found| found.concat());
    if let Some(challenges) = challenges {
        assert_eq!(found, expected(&challenges), "the fields follow the grammar");
    }
    // A server that names the token as the reason is never ignored, whatever other fields it sends.
    let with = |extra: &[u8]| [fields.clone(), vec![extra.to_vec()]].concat();
    assert_eq!(standard(&with(PLAIN)), Some(Some(Rejection::InvalidToken)), "a field of its own, after the others");
    let first: Vec<_> = [[PLAIN, b", ", &fields[0]].concat()].into_iter().chain(fields[1..].iter().cloned()).collect();
    assert_eq!(standard(&first), Some(Some(Rejection::InvalidToken)), "the first challenge of a field");
    // The order of fields and the case of names do not matter.
    let reversed: Vec<_> = fields.iter().rev().cloned().collect();
    assert_eq!(standard(&reversed), Some(found), "the fields in reverse order");
    for change in [<[u8]>::to_ascii_lowercase, <[u8]>::to_ascii_uppercase] {
        let changed: Vec<_> = fields.iter().map(|field| change(field)).collect();
        assert_eq!(standard(&changed), Some(found), "in another case");
    }
    // Text that is not there is not found.
    let all = fields.concat().to_ascii_lowercase();
    let plain: Vec<u8> = all.into_iter().filter(|b| *b != b'\\').collect();
    let has = |word: &[u8]| plain.windows(word.len()).any(|window| window == word);
    if found == Some(Rejection::InvalidToken) {
        assert!(has(b"bearer") && has(b"error") && has(b"invalid_token"));
    }
    if found.is_none() {
        assert!(has(b"bearer") && has(b"error") && has(b"insufficient_"));
    }
}

/// `None` if a header cannot have these values.
fn standard(fields: &[Vec<u8>]) -> Option<Option<Rejection>> {
    let mut response = Response::builder().status(401).body(()).unwrap();
    for field in fields {
        response.headers_mut().append("www-authenticate", HeaderValue::from_bytes(field).ok()?);
    }
    Some(Rejection::standard(&ResponseHead::of(&response)))
}

#[derive(Clone, Debug)]
struct Challenge {
    scheme: Vec<u8>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
    has_token68: bool,
}

fn expected(challenges: &[Challenge]) -> Option<Rejection> {
    let is = |text: &[u8], word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    let bearer = challenges.iter().filter(|challenge| is(&challenge.scheme, "bearer"));
    let errors: Vec<&[u8]> = bearer
        .flat_map(|challenge| &challenge.parameters)
        .filter(|(name, _)| is(name, "error"))
        .map(|(_, value)| value.as_slice())
        .collect();
    if errors.iter().any(|error| is(error, "invalid_token")) {
        return Some(Rejection::InvalidToken);
    }
    let insufficient = ["insufficient_scope", "insufficient_user_authentication"];
    match errors.iter().any(|error| insufficient.iter().any(|word| is(error, word))) {
        true => None,
        false => Some(Rejection::Unspecified),
    }
}

/// Parses a field by the ABNF of RFC 9110 sections 5.6.1, 11.3 and 11.6.1. `None` if it does not follow it.
fn strict(field: &[u8]) -> Option<Vec<Challenge>> {
    let mut challenges: Vec<Challenge> = Vec::new();
    for item in items(field)? {
        let item = trim(item);
        if item.is_empty() {
            continue;
        }
        if let Some(parameter) = parameter(item) {
            let challenge = challenges.last_mut().filter(|challenge| !challenge.has_token68)?;
            challenge.parameters.push(parameter);
            continue;
        }
        let end = item.iter().position(|b| *b == b' ').unwrap_or(item.len());
        let (scheme, rest) = item.split_at(end);
        if !is_token(scheme) {
            return None;
        }
        let blanks = rest.iter().take_while(|b| **b == b' ').count();
        let rest = &rest[blanks..];
        let mut challenge = Challenge { scheme: scheme.to_vec(), parameters: Vec::new(), has_token68: false };
        if let Some(parameter) = parameter(rest) {
            challenge.parameters.push(parameter);
        } else if is_token68(rest) {
            challenge.has_token68 = true;
        } else if !rest.is_empty() {
            return None;
        }
        challenges.push(challenge);
    }
    Some(challenges)
}

/// The parts between commas that are not inside a quoted string. `None` if a quoted string does not end.
fn items(field: &[u8]) -> Option<Vec<&[u8]>> {
    let mut items = Vec::new();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while at < field.len() {
        match field[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                items.push(&field[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if quoted || at > field.len() {
        return None;
    }
    items.push(&field[start..]);
    Some(items)
}

/// `token BWS "=" BWS ( token / quoted-string )`
fn parameter(item: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let equals = item.iter().position(|b| *b == b'=')?;
    let (name, value) = (trim(&item[..equals]), trim(&item[equals + 1..]));
    if !is_token(name) {
        return None;
    }
    if is_token(value) {
        return Some((name.to_vec(), value.to_vec()));
    }
    let inside = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut text = Vec::new();
    let mut bytes = inside.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'"' => return None,
            b'\\' => text.push(*bytes.next()?),
            b => text.push(*b),
        }
    }
    Some((name.to_vec(), text))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn is_token68(text: &[u8]) -> bool {
    let end = text.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    let word = &text[..end];
    !word.is_empty() && word.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b))
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = text.iter().take_while(|b| is_blank(b)).count();
    let end = text.iter().rev().take_while(|b| is_blank(b)).count();
    if start + end >= text.len() { &[] } else { &text[start..text.len() - end] }
}
