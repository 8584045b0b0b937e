//! Tower middleware that stamps a bearer token.

mod api;
mod clock;
mod error;
mod provider;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod token;

pub use crate::api::{FromExtension, Origins, Refusal, RequestHead, RequestKey, ResponseHead};
pub use crate::clock::{Clock, Now, SystemClock};
pub use crate::error::{BoxError, Error, ErrorKind};
pub use crate::provider::{FromFn, Secret, Static, TokenProvider, from_fn};
pub use crate::token::{IssuedToken, Token};
