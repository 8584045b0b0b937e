//! The token response of RFC 6749 section 5.1.

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::lifetime::lifetime;
use super::response::EndpointResponse;
use crate::error::{Error, ErrorKind};
use crate::token::IssuedToken;

/// Token types that may be named in an error. What else an issuer writes there is not repeated.
const OTHER_TYPES: [&str; 4] = ["DPoP", "MAC", "N_A", "PoP"];

#[derive(Deserialize)]
struct TokenResponse<'a> {
    #[serde(borrow)]
    access_token: Option<&'a RawValue>,
    #[serde(borrow)]
    token_type: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
}

pub(super) fn parse(answer: &EndpointResponse) -> Result<IssuedToken, Error> {
    // serde_json's errors quote what they stumble over, so none is kept as a source.
    let malformed = |what: &str| answer.error(ErrorKind::MalformedResponse, what);
    if answer.body().is_empty() {
        return Err(malformed("answered with an empty body"));
    }
    let response: TokenResponse<'_> =
        object(answer.body()).ok_or_else(|| malformed("answered with what is no JSON object, or a torn one"))?;
    let Some(secret) = response.access_token.and_then(|raw| text(raw.get())) else {
        return Err(malformed("answered without an access_token"));
    };
    // After the token: an answer without one is malformed whatever type it names.
    check_type(answer, response.token_type)?;
    let token = IssuedToken::bearer(secret.as_str())?;
    Ok(match response.expires_in.and_then(|raw| lifetime(raw.get())) {
        Some(lifetime) => token.expires_in(lifetime),
        None => token,
    })
}

/// A JSON object and nothing else: serde would take an array for a struct as well.
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// RFC 6749 section 7.1: a token of a type that is not understood must not be used. The type's case does not count.
fn check_type(answer: &EndpointResponse, token_type: Option<&RawValue>) -> Result<(), Error> {
    let Some(raw) = token_type else {
        return Ok(());
    };
    let said = text(raw.get()).unwrap_or_default();
    let said = said.trim();
    if said.eq_ignore_ascii_case("bearer") {
        return Ok(());
    }
    let what = OTHER_TYPES.iter().find(|known| known.eq_ignore_ascii_case(said)).map_or_else(
        || String::from("handed out a token that is not a bearer token"),
        |known| format!("handed out a {known} token and not a bearer token"),
    );
    Err(answer
        .error(ErrorKind::UnsupportedTokenType, &what)
        .with_hint("have the issuer give this client bearer tokens"))
}

pub(crate) fn text(json: &str) -> Option<Zeroizing<String>> {
    serde_json::from_str(json).ok().map(Zeroizing::new)
}
