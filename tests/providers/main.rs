//! The providers: which token requests they send, and what the responses of the issuers mean.
//!
//! Some tests start this binary again as another process, with environment variables or with another cryptography provider.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aeropay;
mod client_credentials;
#[path = "../support/mod.rs"]
mod support;
mod token_endpoint;
