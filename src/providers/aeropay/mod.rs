//! Aeropay: one token for the merchant, and one for each user that the merchant acts for.
//!
//! Aeropay issues tokens with two scopes (<https://dev.aero.inc/docs/understanding-token-scopes>): `merchant`, and
//! `userForMerchant` for one user. A token is valid for 30 minutes. [`Aeropay`] keeps one token for each combination of
//! merchant, scope and user. The method and the path of a request decide which one it needs: `POST /user` needs the
//! merchant's token, and `GET /user` needs the user's.
//!
//! ```no_run
//! use http::Request;
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_bearer_auth::aeropay::{self, UserId};
//! use tower_bearer_auth::{Aeropay, BearerAuthLayer, BoxError, OnForeignOrigin, replay};
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
//! let layer = BearerAuthLayer::new(Aeropay::from_env("AEROPAY")?)
//!     .on_foreign_origin(OnForeignOrigin::Fail)
//!     .bodies(replay::Cloned);
//! let mut client = ServiceBuilder::new().layer(aeropay::layer(layer)).service(https);
//!
//! let mut request = Request::get("https://api.aeropay.com/user").body(Full::<bytes::Bytes>::default())?;
//! request.extensions_mut().insert(UserId::from("27bccca2-d345-4620-9987-3f3854abcd51"));
//! let response = client.ready().await?.call(request).await?;
//! # drop(response);
//! # Ok(()) }
//! ```
//!
//! # Which token a request gets
//!
//! | extensions of the request | endpoint | token |
//! | --- | --- | --- |
//! | a [`Scope`] | any | of that scope |
//! | with or without a [`UserId`] | needs `merchant` | the merchant's |
//! | a [`UserId`] | needs `userForMerchant` | that user's |
//! | no [`UserId`] | needs `userForMerchant` | none: [`MissingKey`](crate::ErrorKind::MissingKey), and the request is not sent |
//! | no [`Scope`] | is not in the table | none: [`MissingKey`](crate::ErrorKind::MissingKey), and the request is not sent |
//!
//! The table of endpoints contains only what Aeropay's pages document for each version. [`Aeropay::endpoints`] returns
//! it, and [`AeropayBuilder::endpoint`] adds to it. A path with an escaped separator (`%2F`, `%5C`), a dot segment in any
//! spelling, a `;`, a control character or an empty segment is never in the table, because a proxy and the API may read it as
//! two different endpoints.
//!
//! A platform puts a [`MerchantId`] into the extensions of each request, and gives the provider
//! [`credentials_for`](AeropayBuilder::credentials_for). Wrong credentials of one merchant affect only the requests of
//! that merchant.
//!
//! # Errors
//!
//! Aeropay also reports errors in responses with the status 200. The code in the body decides, if it is in Aeropay's
//! glossary and concerns tokens. Otherwise the status decides. The text never does. `AP001`, `AP002`, `AP003`, `AP700`
//! and `AP701` are permanent, and the documented fix is their [`hint`](crate::Error::hint). HTTP 408, 429 and 5xx are
//! transient, whatever the body contains.
//!
//! `AP002` for a user's token has two meanings: the user is not confirmed at this merchant, or the credentials are
//! wrong. Only the text distinguishes them, so the error affects only this user's requests. If the credentials are
//! wrong, each active user causes a token request every 2.5 to 5 seconds at first, and every 30 to 60 seconds later. After a
//! call of `confirmUser`, requests for this user fail with the earlier error until that time is over.
//!
//! # Rejections
//!
//! Aeropay reports in the body whether it rejects a token: in version 1 with the status 200, in version 2 with a 401 or
//! 403 that can also have other reasons. [`BearerAuthLayer`](crate::BearerAuthLayer) does not read bodies. So
//! [`layer()`] adds a [`RejectionLayer`] below it, which reads them. Use it for both versions.

pub(super) mod builder;
mod credentials;
mod endpoint;
mod endpoint_tables;
mod error_codes;
#[cfg(feature = "shared")]
mod identity;
mod key;
mod provider;
mod rejection_body;
mod rejection_layer;
mod token_call;
mod version;

pub use self::builder::{AeropayBuilder, Environment};
pub use self::credentials::Credentials;
pub use self::endpoint::Endpoint;
pub use self::key::{Identity, MerchantId, Scope, TokenScope, UserId};
pub use self::provider::Aeropay;
pub use self::rejection_body::RejectionBody;
pub use self::rejection_layer::{RejectionFuture, RejectionLayer, RejectionService, layer};
pub use self::version::{ApiVersion, MerchantIdForm};

#[cfg(test)]
mod tests;
