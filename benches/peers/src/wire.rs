//! HTTP for the crates that leave it to their user: a pooled client, a token request, a request to the API.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Http = Client<HttpConnector, Full<Bytes>>;

pub const CLIENT_ID: &str = "client";
pub const CLIENT_SECRET: &str = "secret";

pub fn http() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub struct Minted {
    pub token: String,
    pub lives: Duration,
}

/// The client credentials grant, RFC 6749 section 4.4.
pub async fn fetch(http: &Http, token_url: &str) -> Result<Minted, BoxError> {
    let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    let request =
        Request::post(token_url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(Full::from(form))?;
    let response = http.request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("the token endpoint responded with {}", response.status()).into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    let response: serde_json::Value = serde_json::from_slice(&body)?;
    let token = response["access_token"].as_str().ok_or("no access_token")?.to_owned();
    let lives = Duration::from_secs(response["expires_in"].as_u64().ok_or("no expires_in")?);
    Ok(Minted { token, lives })
}

/// The headers of API requests before the stamp, as in the other benchmarks.
pub const HEADERS: [(&str, &str); 10] = [
    ("accept", "application/json"),
    ("user-agent", "peers"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("cache-control", "no-cache"),
    ("content-type", "application/json"),
    ("x-request-id", "01234567-0123-4123-8123-012345678901"),
    ("traceparent", "00-01234567890123456789012345678901-0123456789012345-01"),
    ("x-tenant", "orders"),
    ("origin", "https://www.example.com"),
];
/// How many headers the requests of the experiments have, except for the cached costs.
pub const FEW_HEADERS: usize = 2;

/// An API request with the first `headers` of [`HEADERS`].
pub fn things(api_origin: &str, headers: usize) -> Request<Full<Bytes>> {
    let request = HEADERS
        .into_iter()
        .take(headers)
        .fold(Request::get(format!("{api_origin}/things")), |request, (name, value)| request.header(name, value));
    request.body(Full::default()).expect("a request")
}

/// Sends an API request with the headers of a crate, and reads the whole response.
pub async fn send(http: &Http, api_origin: &str, stamp: HeaderMap) -> Result<(StatusCode, HeaderMap), BoxError> {
    let mut request = things(api_origin, FEW_HEADERS);
    request.headers_mut().extend(stamp);
    let (head, body) = http.request(request).await?.into_parts();
    body.collect().await?;
    Ok((head.status, head.headers))
}
