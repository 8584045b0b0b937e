//! Responses that a test defines.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt as _, Full};

use super::server::ReplyBody;

/// A response that a test defines: status, headers, body.
///
/// The `Debug` output does not contain header values or the body.
#[derive(Clone)]
pub struct ScriptedResponse {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl ScriptedResponse {
    /// A response with this status, no headers and an empty body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// Adds a header. A second call with the same name adds a second value.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the body. No `content-type` is added.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body and the `content-type` `application/json`.
    #[must_use]
    pub fn json(self, body: impl Into<Bytes>) -> Self {
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body)
    }

    /// 401 `{"message":"Unauthorized"}` without a challenge, as an AWS gateway sends it.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED).json(r#"{"message":"Unauthorized"}"#)
    }

    /// 401 with one `WWW-Authenticate` header, for example `Bearer error="invalid_token"` (RFC 6750 section 3).
    pub fn challenge(challenge: HeaderValue) -> Self {
        Self::unauthorized().header(WWW_AUTHENTICATE, challenge)
    }

    /// The error format of Aera: `{"responseInfo":{...}}`. All values are strings.
    pub fn response_info(status: StatusCode, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "responseInfo": {
            "message": message,
            "responseCode": code,
            "cid": "Root=1-00000000-000000000000000000000000",
            "cidType": "x-amzn-trace-id",
            "timeStamp": "2026-01-01T00:00:00.000Z",
        }});
        Self::new(status).json(body.to_string())
    }

    pub(crate) fn error(status: StatusCode, code: &str) -> Self {
        Self::new(status).json(serde_json::json!({ "error": code }).to_string())
    }

    pub(crate) fn message(status: StatusCode, message: &str) -> Self {
        Self::new(status).json(serde_json::json!({ "message": message }).to_string())
    }

    fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let body = Full::new(self.body.clone()).map_err(|never| match never {});
        self.into_response_with(body.boxed_unsync())
    }

    /// The response as HTTP/1.1 bytes.
    pub(crate) fn into_http1(self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name == CONTENT_LENGTH) {
            let length = format!("content-length: {}\r\n", self.body.len());
            bytes.extend_from_slice(length.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The same head with another body.
    pub(crate) fn into_response_with(self, body: ReplyBody) -> Response<ReplyBody> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl fmt::Debug for ScriptedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedResponse")
            .field("status", &self.status)
            .field("header_names", &self.header_names())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
