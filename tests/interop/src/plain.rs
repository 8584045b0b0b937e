//! An HTTP client that does not use the crate, to query the servers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::suite::{Check, equal};

pub type Http = Client<HttpConnector, Full<Bytes>>;

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Check<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub async fn send(request: Request<Full<Bytes>>) -> Check<Reply> {
    let (head, body) = http().request(request).await?.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
}

pub async fn get(url: &str) -> Check<Reply> {
    send(Request::get(url).body(Full::default())?).await
}

pub async fn get_with(url: &str, token: &str) -> Check<Reply> {
    send(Request::get(url).header(AUTHORIZATION, format!("Bearer {token}")).body(Full::default())?).await
}

/// A 200 with a JSON body, or a failure.
pub async fn get_json(url: &str) -> Check<Value> {
    let reply = get(url).await?;
    equal(url, reply.status, StatusCode::OK)?;
    reply.json()
}

pub async fn post_json(url: &str, body: &Value) -> Check<Reply> {
    let request = Request::post(url).header(CONTENT_TYPE, "application/json");
    send(request.body(Full::from(body.to_string()))?).await
}

pub async fn post_form(url: &str, fields: &[(&str, &str)]) -> Check<Reply> {
    send(form(url).body(Full::from(encoded(fields)))?).await
}

/// As [`post_form`], with `id` and `secret` as HTTP Basic without an encoding.
pub async fn post_form_as(url: &str, id: &str, secret: &str, fields: &[(&str, &str)]) -> Check<Reply> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    send(form(url).header(AUTHORIZATION, basic).body(Full::from(encoded(fields)))?).await
}

fn form(url: &str) -> http::request::Builder {
    Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded")
}

/// Encodes every byte except letters, digits, `-`, `_` and `.` as `%XX`.
fn encoded(fields: &[(&str, &str)]) -> String {
    let one = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", one(name), one(value))).collect();
    pairs.join("&")
}

pub async fn get_json_list(control: &str, path: &str) -> Check<Vec<Value>> {
    Ok(get_json(&format!("{control}{path}")).await?.as_array().cloned().unwrap_or_default())
}
