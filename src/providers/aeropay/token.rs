//! The token call: what is asked, and what came back.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::codes::{AP002_OF_A_USER, Envelope};
use super::key::{MerchantId, Scope};
use super::version::{MerchantIdForm, Wire};
use crate::error::{Error, ErrorKind};
use crate::token::IssuedToken;
use crate::token_endpoint::{Documented, EndpointResponse, TokenRequest, lifetime, object, text};

/// What the statuses mean where there is no code that anyone knows.
const BY_STATUS: &[Documented] = &[
    status(
        400,
        ErrorKind::InvalidRequest,
        "finds the token request malformed",
        "check the merchant id and its form, the user's id and the API version",
    ),
    status(
        401,
        ErrorKind::InvalidCredentials,
        "does not accept the API key and secret",
        "check the API key and secret, and that they belong to this environment",
    ),
    // The gateway in front of Aeropay answers so to a route that it does not know.
    status(403, ErrorKind::Config, "knows no such route", "check the base URL and the API version"),
];

const fn status(status: u16, kind: ErrorKind, what: &'static str, hint: &'static str) -> Documented {
    Documented { status, code: "", kind, what, hint }
}

/// Everything that goes into one token request.
pub(super) struct Ask<'a> {
    pub(super) wire: &'static Wire,
    pub(super) api_key: &'a SecretString,
    pub(super) api_secret: &'a SecretString,
    pub(super) merchant: &'a MerchantId,
    pub(super) form: MerchantIdForm,
    pub(super) scope: &'a Scope,
}

impl Ask<'_> {
    pub(super) fn request(&self) -> Option<TokenRequest> {
        let Ask { wire, merchant, .. } = self;
        let user = match self.scope {
            Scope::Merchant => None,
            Scope::User(id) => Some(id.as_str()),
        };
        let (key, secret) = (self.api_key.expose_secret(), self.api_secret.expose_secret());
        let values = [self.scope.token_scope().as_str(), key, secret, merchant.as_str(), user.unwrap_or_default()];
        // Sized for the worst case, each byte as `\uXXXX`: a buffer that grows leaves unwiped copies behind.
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
struct TokenResponse<'a> {
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow, rename = "TTL")]
    ttl: Option<&'a RawValue>,
}

/// `{"TTL": seconds, "token": ".."}`, the same in both versions.
pub(super) fn issued(answer: &EndpointResponse, scope: &Scope) -> Result<IssuedToken, Error> {
    let envelope = Envelope::read(answer.body());
    let status = answer.status();
    if !status.is_success() || envelope.as_ref().is_some_and(|envelope| envelope.is_error(status)) {
        return Err(failure(answer, envelope.as_ref(), scope));
    }
    // serde_json's errors quote what they stumble over, so none is kept as a source.
    let malformed = |what: &str| answer.error(ErrorKind::MalformedResponse, what);
    if answer.body().is_empty() {
        return Err(malformed("answered with an empty body"));
    }
    let response: TokenResponse<'_> =
        object(answer.body()).ok_or_else(|| malformed("answered with what is no JSON object, or a torn one"))?;
    let Some(secret) = response.token.and_then(|raw| text(raw.get())) else {
        let said = envelope.as_ref().and_then(Envelope::code).is_some();
        return Err(if said {
            failure(answer, envelope.as_ref(), scope)
        } else {
            malformed("answered without a token")
        });
    };
    let token = IssuedToken::bearer(secret.as_str()).map_err(|error| error.with_status(status))?;
    Ok(match response.ttl.and_then(|raw| lifetime(raw.get())) {
        Some(lifetime) => token.expires_in(lifetime),
        None => token,
    })
}

fn failure(answer: &EndpointResponse, envelope: Option<&Envelope<'_>>, scope: &Scope) -> Error {
    match (envelope.and_then(Envelope::code), scope) {
        (Some(known), Scope::User(_)) if known.row.code == AP002_OF_A_USER.code => answer.failure(&AP002_OF_A_USER),
        (Some(known), _) => answer.failure(&known.row),
        (None, _) if answer.status().is_success() => {
            answer.error(ErrorKind::Other, "reports an error that its pages do not list for tokens")
        }
        (None, _) => answer.failure_by_status(BY_STATUS),
    }
}
