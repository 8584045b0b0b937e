//! The token response of RFC 6749 section 5.1, and [`EndpointResponse::bearer_token`], which reads it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error_response::{self, DocumentedError};
use super::json;
use super::lifetime::lifetime;
use super::response::EndpointResponse;
use crate::error::{Error, ErrorKind};
use crate::token::IssuedToken;

/// What a provider accepts in a token response beyond RFC 6749.
#[derive(Clone, Copy, Default)]
pub(crate) struct ResponseRules<'a> {
    pub(crate) documented: &'a [DocumentedError],
    /// Token types that stand for `Bearer`.
    pub(crate) token_types: &'a [String],
    pub(crate) default_lifetime: Option<Duration>,
}

/// Token types that an error message may name. Any other text of the issuer is not repeated.
const OTHER_TYPES: [&str; 4] = ["DPoP", "MAC", "N_A", "PoP"];

impl EndpointResponse {
    /// Reads the response as RFC 6749 section 5 defines it: a bearer token and its lifetime, or an error with its code.
    ///
    /// The content type is ignored. A `token_type` that is missing, null or empty means `Bearer`. `expires_in` may be a
    /// number, or a string that contains a number. Zero, a negative number and any other value count as missing. A repeated
    /// parameter makes the response malformed.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::MalformedResponse`], transient, for a 2xx without a token. It is permanent if the token has a character
    ///   that no header can contain ([`IssuedToken::bearer`]).
    /// - [`ErrorKind::UnsupportedTokenType`] for a token that is not a bearer token.
    /// - Otherwise the error code decides, if it is one of RFC 6749 section 5.2.
    /// - Otherwise the status decides, and [`code`](Error::code) has the error code if it has 1 to 40 characters from
    ///   `a-z 0-9 _`. A code that repeats a value of the request is left out. 400 is [`ErrorKind::InvalidRequest`]. 401 and 403 are
    ///   [`ErrorKind::InvalidCredentials`]. 404, 405 and 410 are [`ErrorKind::Config`].
    pub fn bearer_token(&self) -> Result<IssuedToken, Error> {
        self.bearer_token_by(ResponseRules::default())
    }

    /// As [`bearer_token`](Self::bearer_token), with the rules of a provider.
    pub(crate) fn bearer_token_by(&self, rules: ResponseRules<'_>) -> Result<IssuedToken, Error> {
        if !self.status().is_success() {
            return Err(error_response::of(self, rules.documented));
        }
        parse(self, rules.token_types)
            .map(|token| token.or_expires_in(rules.default_lifetime))
            .map_err(|error| {
                let documented = error_response::by_code(self, rules.documented);
                documented.unwrap_or_else(|| error_response::with_other_code(self, error))
            })
            .map_err(|error| error.with_status(self.status()))
    }
}

#[derive(Deserialize)]
struct TokenDocument<'a> {
    #[serde(borrow)]
    access_token: Option<&'a RawValue>,
    #[serde(borrow)]
    token_type: Option<&'a RawValue>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
}

fn parse(response: &EndpointResponse, token_types: &[String]) -> Result<IssuedToken, Error> {
    // serde_json's errors quote the input, so none of them becomes a source.
    let malformed = |what: &str| {
        response
            .error(ErrorKind::MalformedResponse, what)
            .with_hint("check that the token URL is right, and that no gateway responds in place of the issuer")
    };
    if response.body().is_empty() {
        return Err(malformed("sent an empty body"));
    }
    let document: TokenDocument<'_> =
        json::object(response.body()).ok_or_else(|| malformed("sent a body that is not a complete JSON object"))?;
    let secret = document.access_token.and_then(|raw| json::text(raw.get()));
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        return Err(malformed("sent a response without an access_token"));
    };
    // The type is checked after the token: a response without a token is malformed, whatever its type is.
    check_type(response, document.token_type, token_types)?;
    let token = IssuedToken::bearer(secret.as_str())?;
    Ok(match document.expires_in.and_then(|raw| lifetime(raw.get())) {
        Some(lifetime) => token.expires_in(lifetime),
        None => token,
    })
}

/// RFC 6749 section 7.1: a client must not use a token of a type that it does not understand. The type is
/// case-insensitive.
fn check_type(response: &EndpointResponse, token_type: Option<&RawValue>, accepted: &[String]) -> Result<(), Error> {
    let Some(raw) = token_type else {
        return Ok(());
    };
    let named = json::text(raw.get());
    let named = named.as_ref().map(|named| named.trim());
    let is_bearer = |named: &str| {
        let mut others = accepted.iter().map(String::as_str);
        named.is_empty()
            || named.eq_ignore_ascii_case("bearer")
            || others.any(|other| named.eq_ignore_ascii_case(other.trim()))
    };
    if named.is_some_and(is_bearer) {
        return Ok(());
    }
    let is_named = |known: &&&str| named.is_some_and(|named| known.eq_ignore_ascii_case(named));
    let (what, setting) = match OTHER_TYPES.iter().find(is_named) {
        Some(known) => (format!("issued a {known} token, which is not a bearer token"), "rejects this type"),
        None => {
            (String::from("issued a token that is not a bearer token"), "is for an issuer with another name for them")
        }
    };
    let hint = "configure the issuer to give this client bearer tokens; ClientCredentialsBuilder::accept_token_type";
    Err(response.error(ErrorKind::UnsupportedTokenType, &what).with_hint(format!("{hint} {setting}")))
}

/// Whether a token of this type cannot be used as a bearer token, whatever a setting says.
#[cfg(feature = "client-credentials")]
pub(crate) fn is_other_type(name: &str) -> bool {
    OTHER_TYPES.iter().any(|known| known.eq_ignore_ascii_case(name))
}
