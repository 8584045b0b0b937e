//! What the server received.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::record::Verdict;

/// One request that a token endpoint received. The record exists as soon as the head has been read.
///
/// The `Debug` output does not contain header values or the body, because they may be secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct AeropayIssuerRequest {
    /// `/token` or `/v2/token`, with the query if there is one.
    pub path: String,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body. It is empty until the server has read it.
    pub body: Bytes,
    /// The requested scope, if there is one.
    pub scope: Option<String>,
    /// The requested user, if there is one.
    pub user: Option<String>,
    /// The status of the response. `None` until there is a response.
    pub status: Option<StatusCode>,
    /// The error code of the response, if there is one.
    pub code: Option<String>,
    /// The `jti` of the token in the response, if there is one.
    pub jti: Option<String>,
}

impl fmt::Debug for AeropayIssuerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropayIssuerRequest")
            .field("scope", &self.scope)
            .field("user", &self.user)
            .field("body_bytes", &self.body.len())
            .field("status", &self.status)
            .field("code", &self.code)
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

/// One request that the API received. The record exists as soon as the head has been read.
///
/// The `Debug` output does not contain header values or the body, because they may be secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct AeropayApiRequest {
    /// The method, as sent.
    pub method: Method,
    /// The path, with the query if there is one.
    pub path: String,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body. It is empty until the server has read it.
    pub body: Bytes,
    /// The result of the token check. `None` until the token has been checked.
    pub verdict: Option<Verdict>,
    /// The scope of the token, `merchant` or `userForMerchant`, if this sandbox signed it.
    pub scope: Option<String>,
    /// The user of the token, if it is the token of a user.
    pub user: Option<String>,
    /// The `jti` of the token, if this sandbox signed it.
    pub jti: Option<String>,
    /// The status of the response. `None` until there is a response.
    pub status: Option<StatusCode>,
    /// The error code of the response, if there is one.
    pub code: Option<String>,
}

impl fmt::Debug for AeropayApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropayApiRequest")
            .field("method", &self.method)
            .field("scope", &self.scope)
            .field("user", &self.user)
            .field("body_bytes", &self.body.len())
            .field("verdict", &self.verdict)
            .field("jti", &self.jti)
            .field("status", &self.status)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}
