//! What the server saw.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::record::Verdict;

/// One request that reached a token endpoint, from the moment its head was read.
///
/// Its `Debug` form leaves out what may be secret: header values and the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct AeropayTokenCall {
    /// `/token` or `/v2/token`, with a query if there was one.
    pub path: String,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body, once it has been read.
    pub body: Bytes,
    /// The scope asked for, where one was named.
    pub scope: Option<String>,
    /// The user asked for, where one was named.
    pub user: Option<String>,
    /// The status answered; `None` until then, or where nothing was ever answered.
    pub status: Option<StatusCode>,
    /// The error code answered, where one was.
    pub code: Option<String>,
    /// The `jti` of the token handed out, where one was.
    pub jti: Option<String>,
}

impl fmt::Debug for AeropayTokenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropayTokenCall")
            .field("scope", &self.scope)
            .field("user", &self.user)
            .field("body_bytes", &self.body.len())
            .field("status", &self.status)
            .field("code", &self.code)
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

/// One request that reached the API, from the moment its head was read.
///
/// Its `Debug` form leaves out what may be secret: header values and the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct AeropayCall {
    /// The method, as sent.
    pub method: Method,
    /// The path, with its query if there was one.
    pub path: String,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body, as far as it has been read.
    pub body: Bytes,
    /// What was thought of the token; `None` until it was looked at.
    pub verdict: Option<Verdict>,
    /// The scope of the token, `merchant` or `userForMerchant`, where it was one that this sandbox signed.
    pub scope: Option<String>,
    /// The user of the token, where it was one's.
    pub user: Option<String>,
    /// The `jti` of the token, where it was one that this sandbox signed.
    pub jti: Option<String>,
    /// The status answered; `None` until then.
    pub status: Option<StatusCode>,
    /// The error code answered, where one was.
    pub code: Option<String>,
}

impl fmt::Debug for AeropayCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeropayCall")
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
