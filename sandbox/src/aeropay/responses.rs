//! The error formats of the two versions.

use http::StatusCode;
use serde_json::json;

use super::Version;
use crate::response::ScriptedResponse;

/// An error: in a 200 in version 1, with an error status in version 2.
pub(super) fn error(version: Version, status: StatusCode, code: &str, message: &str) -> ScriptedResponse {
    match version {
        Version::One => ScriptedResponse::new(StatusCode::OK)
            .json(json!({ "success": false, "code": code, "error": message }).to_string()),
        Version::Two => {
            ScriptedResponse::new(status).json(json!({ "error": { "code": code, "message": message } }).to_string())
        }
    }
}

/// An error of the token endpoints. Version 1 uses another format there.
pub(super) fn nested(version: Version, status: StatusCode, code: &str, message: &str) -> ScriptedResponse {
    match version {
        Version::One => ScriptedResponse::new(StatusCode::OK)
            .json(json!({ "success": false, "error": { "code": code, "message": message } }).to_string()),
        Version::Two => error(version, status, code, message),
    }
}

/// The response of the gateway to an unknown route.
pub(super) fn no_route() -> ScriptedResponse {
    ScriptedResponse::message(StatusCode::FORBIDDEN, "Missing Authentication Token")
}

pub(super) fn unauthorized(version: Version, code: &str) -> ScriptedResponse {
    let message = match code {
        "AP004" => "Missing authorization header token",
        "AP006" => "Client is not authorized for this scope.",
        "AP007" => "Token has expired",
        "AP008" => "Invalid token.",
        "AP101" => "No Authenticated User",
        _ => "Unauthorized",
    };
    error(version, StatusCode::UNAUTHORIZED, code, message)
}

/// The error code in a response, for the record.
pub(super) fn code_in(response: &ScriptedResponse) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(response.bytes()).ok()?;
    let code = value.pointer("/error/code").or_else(|| value.get("code"))?;
    code.as_str().map(str::to_owned)
}
