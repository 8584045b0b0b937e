//! Aeropay: one token for the merchant, and one for each user that the merchant acts for.
//!
//! Aeropay hands out tokens of two scopes (<https://dev.aero.inc/docs/understanding-token-scopes>): `merchant`, and
//! `userForMerchant` for one user. Each lives for 30 minutes. [`Aeropay`] keeps one for each (merchant, scope, user), and
//! decides by method and path which of them a request needs: `POST /user` goes as the merchant, `GET /user` as the user.
//!
//! ```no_run
//! use http::Request;
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_bearer_auth::aeropay::{self, UserId};
//! use tower_bearer_auth::{Aeropay, BearerAuthLayer, BoxError, replay};
//! # use http::Response;
//! # #[derive(Clone)] struct Https;
//! # impl Service<Request<Full<bytes::Bytes>>> for Https {
//! #     type Response = Response<Full<bytes::Bytes>>;
//! #     type Error = BoxError;
//! #     type Future = std::future::Ready<Result<Self::Response, BoxError>>;
//! #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> { unreachable!() }
//! #     fn call(&mut self, _: Request<Full<bytes::Bytes>>) -> Self::Future { unreachable!() }
//! # }
//!
//! # async fn run(https: Https) -> Result<(), BoxError> {
//! let layer = BearerAuthLayer::new(Aeropay::from_env("AEROPAY")?).bodies(replay::Cloned);
//! let mut client = ServiceBuilder::new().layer(aeropay::layer(layer)).service(https);
//!
//! let mut request = Request::get("https://api.aeropay.com/user").body(Full::<bytes::Bytes>::default())?;
//! request.extensions_mut().insert(UserId::from("27bccca2-d345-4620-9987-3f3854abcd51"));
//! let answer = client.ready().await?.call(request).await?;
//! # drop(answer);
//! # Ok(()) }
//! ```
//!
//! # As whom a request goes
//!
//! | in the request's extensions | endpoint | goes as |
//! | --- | --- | --- |
//! | a [`Scope`] | any | what it says |
//! | a [`UserId`], or none | takes `merchant` | the merchant |
//! | a [`UserId`] | takes `userForMerchant` | that user |
//! | none | takes `userForMerchant` | [`MissingKey`](crate::ErrorKind::MissingKey), before any I/O |
//! | no `Scope` | is not in the table | [`UnknownEndpoint`](crate::ErrorKind::MissingKey), before any I/O |
//!
//! The table holds what Aeropay's pages say of each version, and nothing that was guessed: see
//! [`Aeropay::endpoints`], and add to it with [`AeropayBuilder::endpoint`].
//!
//! A platform names the merchant with a [`MerchantId`] in the extensions, and gives the provider
//! [`credentials_for`](AeropayBuilder::credentials_for). A merchant whose credentials are wrong stops its own requests and
//! nobody else's.
//!
//! # Errors
//!
//! Aeropay reports errors inside of an HTTP 200 too. The code in the body decides, where it is in the glossary and
//! concerns tokens; then the status; the text never. `AP001`, `AP002`, `AP003`, `AP700` and `AP701` are permanent, each with
//! the documented fix as its [`hint`](crate::Error::hint). HTTP 408, 429 and 5xx are transient whatever the body says.
//!
//! `AP002` under a user's scope means either that the user is not confirmed at this merchant or that the credentials are
//! wrong, and only its text would tell; so it concerns that user's requests alone. If the credentials are wrong, every
//! user who acts learns it by a token call of their own, one in 2.5 to 5 seconds each at most. After `confirmUser`, call
//! [`invalidate_for`](crate::TokenSource::invalidate_for) so that the next request does not meet the remembered error.
//!
//! # Rejections
//!
//! Version 1 refuses a token inside of an HTTP 200. The layer that stamps does not read bodies; [`RejectionLayer`] does, and
//! [`layer()`] stacks both.

mod builder;
mod codes;
mod credentials;
mod endpoint;
mod key;
mod provider;
mod rejection;
mod rejection_body;
mod tables;
mod token;
mod version;

pub use self::builder::{AeropayBuilder, Environment};
pub use self::credentials::Credentials;
pub use self::endpoint::Endpoint;
pub use self::key::{Identity, MerchantId, Scope, TokenScope, UserId};
pub use self::provider::Aeropay;
pub use self::rejection::{RejectionFuture, RejectionLayer, RejectionService, layer};
pub use self::rejection_body::RejectionBody;
pub use self::version::{ApiVersion, MerchantIdForm};

#[cfg(test)]
mod tests;
