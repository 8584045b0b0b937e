//! What sets the two versions of Aeropay's API apart, and nothing else does.

use http::Method;

use super::endpoint::Row;
use super::tables;

/// Which version of Aeropay's API a provider speaks. The same credentials work for both
/// (<https://dev.aero.inc/docs/v1-v2-api-migration-guide>).
///
/// | | version 1 | version 2 |
/// | --- | --- | --- |
/// | token call | `POST /token`, `api_key`, `api_secret` | `POST /v2/token`, `apiKey`, `apiSecret` |
/// | merchant id, unless chosen | JSON string | JSON number |
/// | token | `authorizationToken: Bearer ..` | `authorization: Bearer ..` |
/// | `Idempotency-Key` | none | four operations |
/// | money moves with a `GET` | `/reverseTransaction` | never |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiVersion {
    /// The first one: <https://dev.aero.inc/docs/understanding-token-scopes>. The default.
    #[default]
    V1,
    /// The second one, under `/v2`: <https://dev.aero.inc/docs/token-scopes>.
    V2,
}

/// How a merchant's id is written into the token request. Aeropay's pages show both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MerchantIdForm {
    /// `"id": 1057`: the OpenAPI description of version 2.
    Number,
    /// `"id": "1057"`: the guides.
    String,
}

pub(super) struct Wire {
    /// What stands in front of every path.
    pub(super) prefix: &'static str,
    /// Below the prefix.
    pub(super) token_path: &'static str,
    pub(super) token_header: &'static str,
    pub(super) api_key: &'static str,
    pub(super) api_secret: &'static str,
    pub(super) scope: &'static str,
    pub(super) merchant_id: &'static str,
    pub(super) user_id: &'static str,
    pub(super) id_form: MerchantIdForm,
    pub(super) endpoints: &'static [Row],
    /// The operations that look at an `Idempotency-Key`.
    pub(super) keyed: &'static [(Method, &'static str)],
    /// The last segments of paths that move money whatever the method.
    pub(super) never_idempotent: &'static [&'static str],
}

static V1: Wire = Wire {
    prefix: "",
    token_path: "/token",
    token_header: "authorizationtoken",
    api_key: "api_key",
    api_secret: "api_secret",
    scope: "scope",
    merchant_id: "id",
    user_id: "userId",
    id_form: MerchantIdForm::String,
    endpoints: &tables::V1,
    keyed: &[],
    never_idempotent: &["reverseTransaction"],
};

static V2: Wire = Wire {
    prefix: "/v2",
    token_path: "/token",
    token_header: "authorization",
    api_key: "apiKey",
    api_secret: "apiSecret",
    scope: "scope",
    merchant_id: "id",
    user_id: "userId",
    id_form: MerchantIdForm::Number,
    endpoints: &tables::V2,
    keyed: &[
        (Method::POST, "/v2/transaction"),
        (Method::POST, "/v2/preauthTransaction"),
        (Method::POST, "/v2/reverseTransaction"),
        (Method::POST, "/v2/payoutTransaction"),
    ],
    never_idempotent: &[],
};

impl ApiVersion {
    pub(super) fn wire(self) -> &'static Wire {
        match self {
            Self::V1 => &V1,
            Self::V2 => &V2,
        }
    }
}
