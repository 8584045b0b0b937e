//! What the servers of a sandbox saw.

use std::{fmt, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

/// One request that reached the issuer, from the moment its head was read.
///
/// Its `Debug` form leaves out what may be secret: header values, body and fields.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuerRequest {
    /// The method, as sent.
    pub method: Method,
    /// The path, with its query if there was one.
    pub path: String,
    /// The HTTP version of the connection.
    pub version: Version,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body, once it has been read.
    pub body: Bytes,
    /// The form's fields in the order sent, decoded; empty where the body is no form.
    pub fields: Vec<(String, String)>,
    /// The status answered; `None` until then, or where nothing was ever answered.
    pub status: Option<StatusCode>,
    /// The `jti` of the token handed out, where one was.
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

/// One request that reached the API server, from the moment its head was read.
///
/// Its `Debug` form leaves out what may be secret: header values and body.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiRequest {
    /// The method, as sent.
    pub method: Method,
    /// The path, with its query if there was one.
    pub path: String,
    /// The HTTP version of the connection.
    pub version: Version,
    /// All headers, with their values.
    pub headers: HeaderMap,
    /// The body, as far as it has been read.
    pub body: Bytes,
    /// What was thought of the token; `None` until it was looked at.
    pub verdict: Option<Verdict>,
    /// The `jti` of the token, where it was one that this sandbox signed.
    pub jti: Option<String>,
    /// The status answered; `None` until then, or where nothing was ever answered.
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

/// What the API server thought of a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Signed here, not expired, not revoked, and no refusal was scripted.
    Accepted,
    /// No header for the token.
    Missing,
    /// More than one header for the token.
    Duplicate,
    /// Not `Bearer `, to the letter, followed by the three parts of a JWT.
    Malformed,
    /// Another key, another algorithm, `alg: none`, or a changed part.
    BadSignature,
    /// On or after its `exp` by the sandbox's clock.
    Expired,
    /// Revoked, by the test or by an issuer that keeps one token.
    Revoked,
    /// Good in itself, and refused because the test said so.
    Scripted,
    /// Good in itself, and of a scope that the endpoint does not take.
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
    /// The token's unique name, its `jti` claim.
    pub jti: String,
    /// When it was minted, by the sandbox's clock; whole seconds, rounded down.
    pub issued_at: SystemTime,
    /// From when on it is refused, by the sandbox's clock; whole seconds, rounded up.
    pub expires_at: SystemTime,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it has expired by now.
    pub expired: bool,
}

/// A wallet session that was created.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The `sessionId` answered.
    pub session_id: String,
    /// The request's JSON body, byte for byte.
    pub body: Bytes,
    /// The `jti` of the token that it was created with.
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

/// A wallet sale that was made; a repeated idempotency key makes no second one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sale {
    /// The `pspReference` answered.
    pub psp_reference: String,
    /// The `idempotency-key` it was made under, as first sent.
    pub idempotency_key: String,
    /// The request's JSON body, byte for byte.
    pub body: Bytes,
    /// The `jti` of the token that it was made with.
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

/// `HeaderMap::keys()` shows the values too when it is printed.
fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(http::HeaderName::as_str).collect()
}
