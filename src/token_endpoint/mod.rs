//! The token call: how a provider speaks to its token endpoint.
//!
//! A [`TokenEndpoint`] is a checked URL and an HTTP service. [`call`](TokenEndpoint::call) sends one [`TokenRequest`] and
//! returns the [`EndpointResponse`], within limits:
//!
//! | limit | value |
//! | --- | --- |
//! | scheme | https, or http to loopback |
//! | time, from `call` until the answer's last byte | 10 seconds, or [`timeout`](TokenEndpoint::timeout) |
//! | size of the answer's body | 64 KiB, in at most 131 072 frames |
//! | redirects | none is followed; one is [`ErrorKind::Config`](crate::ErrorKind::Config) that names the origin it leads to |
//! | retries | none: when to call again is the token source's to decide |
//!
//! HTTP 408, 429 and 5xx, and failures of I/O, are transient errors, with the answer's `Retry-After` where it has one.
//! What the issuer wrote is never part of an error, but for the origin that a redirect leads to.
//!
//! ```
//! use tower_bearer_auth::token_endpoint::{TokenClient, TokenEndpoint, TokenRequest};
//! use tower_bearer_auth::{Error, IssuedToken, FetchContext, TokenProvider};
//!
//! struct Issuer {
//!     endpoint: TokenEndpoint,
//! }
//!
//! impl Issuer {
//!     fn new(client: TokenClient) -> Result<Self, Error> {
//!         let endpoint = TokenEndpoint::new("https://issuer.example/token", client)?;
//!         Ok(Self { endpoint })
//!     }
//! }
//!
//! impl TokenProvider for Issuer {
//!     type Key = ();
//!
//!     async fn fetch(&self, _key: &(), _: &FetchContext) -> Result<IssuedToken, Error> {
//!         let request = TokenRequest::form(&[("grant_type", "client_credentials")]);
//!         self.endpoint.call(request).await?.bearer_token()
//!     }
//! }
//! ```

mod call;
#[cfg(feature = "http-client")]
mod client;
mod endpoint;
mod failure;
mod lifetime;
#[cfg(feature = "client-credentials")]
mod metadata;
#[cfg(feature = "http-client")]
mod no_proxy;
#[cfg(feature = "http-client")]
mod proxy;
mod request;
mod response;
mod retry_after;
mod service;
#[cfg(feature = "http-client")]
mod tls;
mod token;

#[cfg(feature = "http-client")]
pub use self::client::{HttpClient, HttpClientBuilder};
pub use self::endpoint::TokenEndpoint;
pub use self::request::TokenRequest;
pub use self::response::EndpointResponse;
pub use self::service::{ResponseBody, TokenClient};

#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
pub(crate) use self::failure::Documented;
#[cfg(feature = "aeropay")]
pub(crate) use self::lifetime::lifetime;
#[cfg(feature = "client-credentials")]
pub(crate) use self::metadata::Metadata;
#[cfg(feature = "aeropay")]
pub(crate) use self::token::{object, text};

#[cfg(test)]
mod tests;
