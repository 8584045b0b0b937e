//! Errors as the two versions write them.

use http::StatusCode;
use serde_json::json;

use super::Version;
use crate::response::ScriptedResponse;

/// An error with the glossary's text: inside of a 200 in version 1, with a status of its own in version 2.
pub(super) fn error(version: Version, status: StatusCode, code: &str, message: &str) -> ScriptedResponse {
    match version {
        Version::One => ScriptedResponse::new(StatusCode::OK)
            .json(json!({ "success": false, "code": code, "error": message }).to_string()),
        Version::Two => {
            ScriptedResponse::new(status).json(json!({ "error": { "code": code, "message": message } }).to_string())
        }
    }
}

/// The same from version 1's token endpoint "and some newer endpoints".
pub(super) fn nested(version: Version, status: StatusCode, code: &str, message: &str) -> ScriptedResponse {
    match version {
        Version::One => ScriptedResponse::new(StatusCode::OK)
            .json(json!({ "success": false, "error": { "code": code, "message": message } }).to_string()),
        Version::Two => error(version, status, code, message),
    }
}

/// What the gateway says of a route that it does not know.
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

/// The error code in an answer, for the record.
pub(super) fn code_in(answer: &ScriptedResponse) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(answer.bytes()).ok()?;
    let code = value.pointer("/error/code").or_else(|| value.get("code"))?;
    code.as_str().map(str::to_owned)
}
