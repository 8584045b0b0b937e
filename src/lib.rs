#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod error;
mod file;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod guide;
mod layer;
mod message;
mod provider;
mod providers;
mod refresh;
mod rt;
#[cfg(feature = "shared")]
pub mod shared;
mod source;
mod telemetry;
mod token;
#[cfg(feature = "token-endpoint")]
pub mod token_endpoint;

pub use crate::clock::{Clock, Deadline, Now, SystemClock};
pub use crate::error::{BoxError, ConfigError, Error, ErrorKind, NotReplayed, NotSent};
pub use crate::layer::{Audit, BearerAuth, BearerAuthLayer, OnForeignOrigin, ReplayOutcome, ResponseFuture, replay};
pub use crate::message::{ExtensionKey, Origins, Rejection, RequestHead, RequestKey, ResponseHead, Unauthenticated};
pub use crate::provider::{DynProvider, FetchContext, FetchReason, TokenProvider};
#[cfg(feature = "aeropay")]
pub use crate::providers::aeropay::{self, Aeropay, AeropayBuilder};
#[cfg(feature = "access-psp")]
pub use crate::providers::{AccessPsp, AccessPspBuilder};
#[cfg(feature = "client-credentials")]
pub use crate::providers::{BasicEncoding, ClientCredentials, ClientCredentialsBuilder, TargetApi};
pub use crate::providers::{FixedToken, FromFn, Secret, SecretValue, from_fn};
#[cfg(feature = "private-key-jwt")]
pub use crate::providers::{PrivateKeyJwt, SigningAlgorithm};
pub use crate::refresh::RefreshPolicy;
pub use crate::source::{SourceStats, TokenFuture, TokenSource, TokenSourceBuilder, TokenState, TokenStatus};
pub use crate::token::{IssuedToken, Token};
