//! How a provider calls its token endpoint.
//!
//! A [`TokenEndpoint`] is a checked URL and an HTTP client. [`call`](TokenEndpoint::call) sends one [`TokenRequest`]
//! and returns the [`EndpointResponse`], within these limits:
//!
//! | limit | value |
//! | --- | --- |
//! | scheme | https, or http to loopback addresses |
//! | time from `call` to the last byte of the response | 10 seconds, or [`timeout`](TokenEndpoint::timeout) |
//! | size of the response body | 64 KiB, in at most 131 072 frames |
//! | redirects | not followed: an [`ErrorKind::Config`](crate::ErrorKind::Config) error names the origin of the target, and its path on the same host |
//! | retries | [`HttpClient`] sends a request twice if a reused connection fails; otherwise none: the token source decides when the next fetch starts |
//!
//! HTTP 408, 421, 425, 429 and 5xx and I/O errors are transient errors. They carry the `Retry-After` of the response, if it
//! has one. A failure of TLS because of a certificate or a setting is permanent ([`ErrorKind::Tls`](crate::ErrorKind::Tls)).
//! An error never contains text from the issuer's response, apart from the target of a redirect and an error code
//! ([`bearer_token`](EndpointResponse::bearer_token)).
//!
//! A request has these headers, unless [`TokenRequest::header`] sets them: `accept: application/json`,
//! `accept-encoding: identity` and `user-agent: tower-bearer-auth/VERSION`. A compressed response is an error.
//!
//! # Example
//!
//! A provider for an issuer with its own grant type, and its own error code. `Secret` loads the PIN for each request:
//!
//! ```
//! use tower_bearer_auth::token_endpoint::{TokenClient, TokenEndpoint, TokenRequest};
//! use tower_bearer_auth::{ConfigError, Error, ErrorKind, FetchContext, IssuedToken, Secret, TokenProvider};
//!
//! struct Issuer {
//!     endpoint: TokenEndpoint,
//!     pin: Secret,
//! }
//!
//! impl Issuer {
//!     fn new(client: impl Into<TokenClient>, pin: impl Into<Secret>) -> Result<Self, ConfigError> {
//!         let endpoint = TokenEndpoint::new("https://issuer.example/token", client)?;
//!         Ok(Self { endpoint, pin: pin.into() })
//!     }
//! }
//!
//! impl TokenProvider for Issuer {
//!     type Key = ();
//!
//!     async fn fetch(&self, _key: &(), _cx: &FetchContext) -> Result<IssuedToken, Error> {
//!         let pin = self.pin.load().await?;
//!         let form = TokenRequest::form(&[("grant_type", "urn:example:pin"), ("pin", pin.expose_secret())]);
//!         let response = self.endpoint.call(form).await?;
//!         if response.error_code() == Some("pin_blocked") {
//!             return Err(response.error(ErrorKind::InvalidCredentials, "has blocked the PIN").with_code("pin_blocked"));
//!         }
//!         response.bearer_token()
//!     }
//! }
//! ```
//!
//! # Files
//!
//! | file | contents |
//! | --- | --- |
//! | `endpoint`, `call` | [`TokenEndpoint`]: the checks of its URL, and one HTTP exchange |
//! | `request`, `response` | [`TokenRequest`] and [`EndpointResponse`] |
//! | `token_response`, `error_response`, `lifetime`, `retry_after` | what a response means |
//! | `metadata` | the metadata of an issuer (RFC 8414) |
//! | `token_client`, `response_body` | [`TokenClient`]: any HTTP service |
//! | `http_client`, `http_client_builder`, `connection` | [`HttpClient`]: this crate's own HTTP service |
//! | `proxy`, `no_proxy` | its proxy |
//! | `tls`, `tls_files`, `pem`, `tls_failure` | its certificates, and what a failure of TLS means |
//! | `sent_request` | which values an error must not show |
//! | `json`, `causes` | helpers |

mod call;
mod causes;
#[cfg(feature = "http-client")]
mod connection;
mod endpoint;
mod error_response;
#[cfg(feature = "http-client")]
mod http_client;
#[cfg(feature = "http-client")]
mod http_client_builder;
mod json;
mod lifetime;
#[cfg(feature = "client-credentials")]
mod metadata;
#[cfg(feature = "http-client")]
mod no_proxy;
#[cfg(feature = "http-client")]
mod pem;
#[cfg(feature = "http-client")]
mod proxy;
mod request;
mod response;
mod response_body;
mod retry_after;
mod sent_request;
#[cfg(feature = "http-client")]
mod tls;
#[cfg(feature = "http-client")]
mod tls_failure;
#[cfg(feature = "http-client")]
mod tls_files;
mod token_client;
mod token_response;

pub use self::endpoint::TokenEndpoint;
#[cfg(feature = "http-client")]
pub use self::http_client::HttpClient;
#[cfg(feature = "http-client")]
pub use self::http_client_builder::HttpClientBuilder;
pub use self::request::TokenRequest;
pub use self::response::EndpointResponse;
pub use self::response_body::ResponseBody;
pub use self::token_client::TokenClient;

#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
pub(crate) use self::endpoint::check_timeout;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
pub(crate) use self::error_response::DocumentedError;
#[cfg(feature = "aeropay")]
pub(crate) use self::error_response::{by_row, by_status};
#[cfg(feature = "aeropay")]
pub(crate) use self::json::{object, text};
#[cfg(feature = "aeropay")]
pub(crate) use self::lifetime::lifetime;
#[cfg(feature = "client-credentials")]
pub(crate) use self::metadata::Metadata;
#[cfg(feature = "client-credentials")]
pub(crate) use self::token_response::{ResponseRules, is_other_type};

#[cfg(test)]
mod tests;
