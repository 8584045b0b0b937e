//! The token request, and how its response is read.

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error_codes::{AP002_OF_A_USER, Envelope};
use super::key::{MerchantId, Scope};
use super::version::{MerchantIdForm, Wire};
use crate::error::{Error, ErrorKind};
use crate::providers::secret_value::SecretValue;
use crate::token::IssuedToken;
use crate::token_endpoint::{
    DocumentedError, EndpointResponse, TokenRequest, by_row, by_status, lifetime, object, text,
};

/// The errors for a response without a known code.
const BY_STATUS: &[DocumentedError] = &[
    status(
        400,
        ErrorKind::InvalidRequest,
        "rejects the token request as malformed",
        "check the merchant id and its form, the user's id and the API version",
    ),
    status(
        401,
        ErrorKind::InvalidCredentials,
        "rejects the API key and secret",
        "check the API key and secret, and that they belong to this environment",
    ),
    // Aeropay's gateway returns this status for an unknown route.
    status(403, ErrorKind::Config, "does not know the route", "check the base URL and the API version"),
];

const fn status(status: u16, kind: ErrorKind, what: &'static str, hint: &'static str) -> DocumentedError {
    DocumentedError { status: Some(status), code: "", kind, what, hint }
}

/// The contents of one token request.
pub(super) struct TokenCall<'a> {
    pub(super) wire: &'static Wire,
    pub(super) api_key: &'a SecretValue,
    pub(super) api_secret: &'a SecretValue,
    pub(super) merchant: &'a MerchantId,
    pub(super) form: MerchantIdForm,
    pub(super) scope: &'a Scope,
}

impl TokenCall<'_> {
    pub(super) fn request(&self) -> Option<TokenRequest> {
        let TokenCall { wire, merchant, .. } = self;
        let user = match self.scope {
            Scope::Merchant => None,
            Scope::User(id) => Some(id.as_str()),
        };
        let (key, secret) = (self.api_key.expose_secret(), self.api_secret.expose_secret());
        let values = [self.scope.token_scope().as_str(), key, secret, merchant.as_str(), user.unwrap_or_default()];
        // Sized for the worst case, where each byte becomes `\uXXXX`. A buffer that grows leaves copies that are not
        // wiped.
        let worst: usize = values.iter().map(|value| 6 * value.len() + 32).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(worst));
        let mut member = |name: &str, value: &str, quoted: bool| -> Option<()> {
            let separator = if body.is_empty() { b'{' } else { b',' };
            body.push(separator);
            serde_json::to_writer(&mut *body, name).ok()?;
            body.push(b':');
            if quoted {
                return serde_json::to_writer(&mut *body, value).ok();
            }
            body.extend_from_slice(value.as_bytes());
            Some(())
        };
        member(wire.scope, self.scope.token_scope().as_str(), true)?;
        member(wire.api_key, key, true)?;
        member(wire.api_secret, secret, true)?;
        member(wire.merchant_id, merchant.as_str(), self.form == MerchantIdForm::String)?;
        if let Some(user) = user {
            member(wire.user_id, user, true)?;
        }
        body.push(b'}');
        Some(TokenRequest::json(std::mem::take(&mut *body)))
    }
}

/// Whether an id can be written as a JSON number.
pub(super) fn is_number(merchant: &MerchantId) -> bool {
    merchant.as_str().parse::<u64>().is_ok_and(|number| number.to_string() == merchant.as_str())
}

#[derive(Deserialize)]
struct TokenDocument<'a> {
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow, rename = "TTL")]
    ttl: Option<&'a RawValue>,
}

/// Reads `{"TTL": seconds, "token": ".."}`, which is the same in both versions.
pub(super) fn issued(response: &EndpointResponse, scope: &Scope) -> Result<IssuedToken, Error> {
    let envelope = Envelope::read(response.body());
    let status = response.status();
    if !status.is_success() || envelope.as_ref().is_some_and(|envelope| envelope.is_error(status)) {
        return Err(failure(response, envelope.as_ref(), scope));
    }
    // serde_json's errors quote the input, so none of them becomes a source.
    let malformed = |what: &str| {
        response.error(ErrorKind::MalformedResponse, what).with_hint("check the base URL and the API version")
    };
    if response.body().is_empty() {
        return Err(malformed("sent an empty body"));
    }
    let document: TokenDocument<'_> =
        object(response.body()).ok_or_else(|| malformed("sent a body that is not a complete JSON object"))?;
    let secret = document.token.and_then(|raw| text(raw.get())).filter(|secret| !secret.is_empty());
    let Some(secret) = secret else {
        let has_code = envelope.as_ref().and_then(Envelope::code).is_some();
        return Err(match has_code {
            true => failure(response, envelope.as_ref(), scope),
            false => malformed("sent a response without a token"),
        });
    };
    let token = IssuedToken::bearer(secret.as_str()).map_err(|error| error.with_status(status))?;
    Ok(match document.ttl.and_then(|raw| lifetime(raw.get())) {
        Some(lifetime) => token.expires_in(lifetime),
        None => token,
    })
}

fn failure(response: &EndpointResponse, envelope: Option<&Envelope<'_>>, scope: &Scope) -> Error {
    match (envelope.and_then(Envelope::code), scope) {
        (Some(known), Scope::User(_)) if known.row.code == AP002_OF_A_USER.code => by_row(response, &AP002_OF_A_USER),
        (Some(known), _) => by_row(response, &known.row),
        (None, _) if response.status().is_success() => {
            response.error(ErrorKind::Other, "reports an error that its pages do not document for tokens")
        }
        (None, _) => by_status(response, BY_STATUS),
    }
}
