//! What a token request contained, so that no error shows a value that the issuer repeats.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Uri};
use zeroize::Zeroizing;

/// A shorter word of a request may be part of an error code by chance.
const MIN_WORD: usize = 8;

/// A value that every request for this grant contains, and that issuers use in error codes.
const GRANT_TYPE: &[u8] = b"client_credentials";

/// The parts of a token request that may contain a secret. They share the buffers of the request.
pub(super) struct SentRequest {
    url: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl SentRequest {
    pub(super) fn of(request: &Request<Bytes>) -> Self {
        Self { url: request.uri().clone(), headers: request.headers().clone(), body: request.body().clone() }
    }

    /// Whether `code` is a part of the request, or contains a word of it that may be a secret. Case does not matter.
    pub(super) fn is_repeated_in(&self, code: &str) -> bool {
        let values = self.headers.values().filter(|value| value.is_sensitive());
        let url = self.url.path_and_query().map_or("", |part| part.as_str());
        let parts = values.map(HeaderValue::as_bytes).chain([url.as_bytes(), &self.body]);
        parts.into_iter().any(|part| is_repeated(part, code.as_bytes())) || self.credentials_are_in(code)
    }

    /// As [`is_repeated_in`](Self::is_repeated_in), for the path of a redirect. It may repeat the path of the token URL.
    pub(super) fn is_repeated_in_path(&self, path: &str) -> bool {
        let values = self.headers.values().filter(|value| value.is_sensitive()).map(HeaderValue::as_bytes);
        let parts = values.chain([&self.body[..]]);
        let segments = || path.split('/').filter(|segment| !segment.is_empty());
        let repeats = |part: &[u8]| {
            words(part).any(|word| contains(path.as_bytes(), word))
                || segments().any(|segment| segment.len() >= MIN_WORD && contains(part, segment.as_bytes()))
        };
        parts.into_iter().any(repeats) || segments().any(|segment| self.credentials_are_in(segment))
    }

    /// As [`is_repeated_in`](Self::is_repeated_in), for an id and a secret in an HTTP Basic header.
    fn credentials_are_in(&self, code: &str) -> bool {
        let header = self.headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Basic "));
        header.is_some_and(|encoded| match decoded(encoded) {
            Some(pair) => is_repeated(&pair, code.as_bytes()),
            None => true,
        })
    }
}

#[cfg(any(feature = "client-credentials", feature = "http-client"))]
fn decoded(encoded: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    use base64::Engine as _;
    let mut pair = Zeroizing::new(vec![0; base64::decoded_len_estimate(encoded.len())]);
    let length = base64::engine::general_purpose::STANDARD.decode_slice(encoded, &mut pair).ok()?;
    pair.truncate(length);
    Some(pair)
}

#[cfg(not(any(feature = "client-credentials", feature = "http-client")))]
fn decoded(_: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    None
}

fn is_repeated(part: &[u8], code: &[u8]) -> bool {
    contains(part, code) || words(part).any(|word| contains(code, word))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// The words of a request that may be values: not the names of parameters and members, and not the grant type.
fn words(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !text.is_empty() {
            let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
            let (word, rest) = text.split_at(text.iter().take_while(|b| is_word(b)).count());
            let is_name = rest.starts_with(b"=") || rest.starts_with(b"\":");
            // Two digits follow a percent sign. They belong to no word.
            let separator = if rest.first() == Some(&b'%') { 3 } else { 1 };
            text = rest.get(separator..).unwrap_or_default();
            if word.len() >= MIN_WORD && !is_name && word != GRANT_TYPE {
                return Some(word);
            }
        }
        None
    })
}
