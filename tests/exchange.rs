//! The token call and the providers, over real sockets: what the issuer saw, and what its answer became.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "exchange/answers.rs"]
mod answers;
#[path = "exchange/requests.rs"]
mod requests;
#[path = "exchange/wire.rs"]
mod wire;
