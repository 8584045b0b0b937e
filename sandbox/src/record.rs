//! What the servers of a sandbox received.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

/// One request that the issuer received. The record exists as soon as the head has been read.
///
/// The `Debug` output does not contain header values, the body or the fields, because they may be secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuerRequest {
    /// The method, as sent.
    pub method: Method,
    /// The path, with the query if there is one.
    pub path: String,
    /// The HTTP version of the connection.
    pub version: Version,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body. It is empty until the issuer has read it.
    pub body: Bytes,
    /// The decoded fields of the form, in the order in which they were sent. Empty if the body is not a form.
    pub fields: Vec<(String, String)>,
    /// The status of the response. `None` until there is a response.
    pub status: Option<StatusCode>,
    /// The `jti` of the token in the response, if there is one.
    pub jti: Option<String>,
}

impl fmt::Debug for IssuerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerRequest")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("header_names", &names(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("status", &self.status)
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

/// One request that the API server received. The record exists as soon as the head has been read.
///
/// The `Debug` output does not contain header values or the body, because they may be secret.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiRequest {
    /// The method, as sent.
    pub method: Method,
    /// The path, with the query if there is one.
    pub path: String,
    /// The HTTP version of the connection.
    pub version: Version,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body. It is empty until the server has read it.
    pub body: Bytes,
    /// The result of the token check. `None` until the token has been checked.
    pub verdict: Option<Verdict>,
    /// The `jti` of the token, if this sandbox signed it.
    pub jti: Option<String>,
    /// The status of the response. `None` until there is a response.
    pub status: Option<StatusCode>,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("header_names", &names(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("verdict", &self.verdict)
            .field("jti", &self.jti)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The result of the token check at the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// This sandbox signed the token, it is neither expired nor revoked, and the test scripted no rejection.
    Accepted,
    /// The request has no token header.
    Missing,
    /// The request has more than one token header.
    Duplicate,
    /// The header is not `Bearer `, in exactly this case, followed by the three parts of a JWT.
    Malformed,
    /// The signature is wrong: another key, another algorithm, `alg: none`, or changed content.
    BadSignature,
    /// The clock of the sandbox has reached the `exp` of the token.
    Expired,
    /// The test revoked the token, or a newer token revoked it.
    Revoked,
    /// The token is valid, and the test scripted a rejection.
    Scripted,
    /// The token is valid, and the endpoint needs another scope.
    WrongScope,
}

impl Verdict {
    /// Whether the token was accepted.
    pub fn is_accepted(self) -> bool {
        self == Self::Accepted
    }
}

/// A token that the issuer minted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MintedToken {
    /// The `jti` claim, which is unique.
    pub jti: String,
    /// When the token was minted, by the clock of the sandbox. Rounded down to whole seconds.
    pub issued_at: SystemTime,
    /// From when on the token is rejected, by the clock of the sandbox. Rounded up to whole seconds.
    pub expires_at: SystemTime,
    /// Whether the token is revoked.
    pub revoked: bool,
    /// Whether the token has expired.
    pub expired: bool,
}

/// A wallet session.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The `sessionId` of the response.
    pub session_id: String,
    /// The JSON body of the request, byte for byte.
    pub body: Bytes,
    /// The `jti` of the token of the request.
    pub jti: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("session_id", &self.session_id)
            .field("body_bytes", &self.body.len())
            .field("jti", &self.jti)
            .finish()
    }
}

/// A wallet sale. A request with the `idempotency-key` of an earlier sale makes no second sale.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sale {
    /// The `pspReference` of the response.
    pub psp_reference: String,
    /// The `idempotency-key` of the first request.
    pub idempotency_key: String,
    /// The JSON body of the request, byte for byte.
    pub body: Bytes,
    /// The `jti` of the token of the request.
    pub jti: String,
}

impl fmt::Debug for Sale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sale")
            .field("psp_reference", &self.psp_reference)
            .field("idempotency_key", &self.idempotency_key)
            .field("body_bytes", &self.body.len())
            .field("jti", &self.jti)
            .finish()
    }
}

/// Only the names: the `Debug` output of `HeaderMap::keys()` contains the values too.
fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(http::HeaderName::as_str).collect()
}
