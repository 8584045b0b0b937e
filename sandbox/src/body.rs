//! Reads request bodies and says what they claim to be.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// No test needs to send more than this; a runaway body ends here.
const LIMIT: usize = 64 * 1024 * 1024;

/// The body, and whether it was read to its end.
pub(crate) async fn read(mut body: Incoming) -> (Bytes, bool) {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return (read.freeze(), false);
        };
        if let Some(data) = frame.data_ref() {
            if read.len() + data.len() > LIMIT {
                return (read.freeze(), false);
            }
            read.extend_from_slice(data);
        }
    }
    (read.freeze(), true)
}

/// Whether the one content type given is this one, parameters aside but `charset=utf-8`.
pub(crate) fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let parameters = parameters.trim();
    essence.trim().eq_ignore_ascii_case(wanted)
        && (parameters.is_empty() || parameters.eq_ignore_ascii_case("charset=utf-8"))
}

/// Whether these bytes are one JSON object.
pub(crate) fn is_json_object(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok()
}
