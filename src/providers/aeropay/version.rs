//! The differences between the two versions of Aeropay's API.

use http::Method;

use super::endpoint::Row;
use super::endpoint_tables;
use crate::providers::names::named;

/// The version of Aeropay's API. The same credentials are valid for both
/// (<https://dev.aero.inc/docs/v1-v2-api-migration-guide>).
///
/// | | version 1 | version 2 |
/// | --- | --- | --- |
/// | token request | `POST /token`, `api_key`, `api_secret` | `POST /v2/token`, `apiKey`, `apiSecret` |
/// | merchant id, by default | JSON string | JSON number |
/// | token header | `authorizationToken: Bearer ..` | `authorization: Bearer ..` |
/// | `Idempotency-Key` | ignored | used by four operations |
/// | `GET` that moves money | `/reverseTransaction` | none |
///
/// The names in configuration files are `1` and `2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiVersion {
    /// Version 1: <https://dev.aero.inc/docs/understanding-token-scopes>. The default.
    #[default]
    V1,
    /// Version 2, under `/v2`: <https://dev.aero.inc/docs/token-scopes>.
    V2,
}

/// How a merchant's id is written in the token request. Aeropay's pages show both forms.
///
/// The names in configuration files are `number` and `string`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MerchantIdForm {
    /// `"id": 1057`, as in the OpenAPI description of version 2.
    Number,
    /// `"id": "1057"`, as in the guides.
    String,
}

named!(ApiVersion, "api_version": V1 = "1", V2 = "2");
named!(MerchantIdForm, "merchant_id_form": Number = "number", String = "string");

/// What a version sends.
pub(super) struct Wire {
    /// The prefix of every path.
    pub(super) prefix: &'static str,
    /// The path after the prefix.
    pub(super) token_path: &'static str,
    pub(super) token_header: &'static str,
    pub(super) api_key: &'static str,
    pub(super) api_secret: &'static str,
    pub(super) scope: &'static str,
    pub(super) merchant_id: &'static str,
    pub(super) user_id: &'static str,
    pub(super) id_form: MerchantIdForm,
    pub(super) endpoints: &'static [Row],
    /// The operations that use an `Idempotency-Key`: method and path.
    pub(super) with_idempotency_key: &'static [(Method, &'static str)],
    /// Path segments of operations that move money with any method.
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
    endpoints: &endpoint_tables::V1,
    with_idempotency_key: &[],
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
    endpoints: &endpoint_tables::V2,
    with_idempotency_key: &[
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
