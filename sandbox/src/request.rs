//! Reads requests: bodies, content types, paths and idempotency keys.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Uri, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The longest body that is read. No test needs a longer one.
const LIMIT: usize = 64 * 1024 * 1024;

/// Reads the body. The flag is `false` if the body is incomplete or longer than [`LIMIT`].
pub(crate) async fn read_body(mut body: Incoming) -> (Bytes, bool) {
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

/// Whether the headers have exactly one content type, and it is `wanted`. The only parameter allowed is `charset=utf-8`.
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

/// Whether the body is one JSON object.
pub(crate) fn is_json_object(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok()
}

/// The path, with the query if there is one.
pub(crate) fn path_and_query(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string)
}

/// The one `idempotency-key`, which must be a UUID.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, InvalidKey> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(key) = values.next() else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if values.next().is_none() && is_uuid(key) => Ok(Some(key)),
        _ => Err(InvalidKey),
    }
}

/// The `idempotency-key` is not a UUID, or there is more than one.
pub(crate) struct InvalidKey;

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
