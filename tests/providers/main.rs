//! The providers: which token requests they send, and what the responses of the issuers mean.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod aeropay;
#[path = "../support/mod.rs"]
mod support;
mod token_endpoint;
