#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod clock;
mod error;
#[cfg(feature = "exchange")]
pub mod exchange;
pub mod guide;
mod layer;
mod observe;
mod provider;
#[cfg(any(feature = "client-credentials", feature = "aeropay"))]
mod providers;
mod refresh;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod source;
mod token;

pub use crate::api::{FromExtension, Origins, Refusal, RequestHead, RequestKey, ResponseHead};
pub use crate::clock::{Clock, Now, SystemClock};
pub use crate::error::{BoxError, Error, ErrorKind};
pub use crate::layer::{Audit, BearerAuth, BearerAuthLayer, Replay, ResponseFuture, replay};
pub use crate::provider::{FromFn, Secret, Static, TokenProvider, from_fn};
#[cfg(feature = "aeropay")]
pub use crate::providers::aeropay::{self, Aeropay, AeropayBuilder};
#[cfg(feature = "access-psp")]
pub use crate::providers::{AccessPsp, AccessPspBuilder};
#[cfg(feature = "client-credentials")]
pub use crate::providers::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder};
#[cfg(feature = "private-key-jwt")]
pub use crate::providers::{PrivateKeyJwt, SigningAlgorithm};
pub use crate::refresh::RefreshPolicy;
pub use crate::source::{State, Stats, Status, TokenFuture, TokenSource, TokenSourceBuilder};
pub use crate::token::{IssuedToken, Token};
