//! Aeropay: which token a request gets, the token request, and what the responses of the issuer and of the API mean.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "aeropay/against_sandbox.rs"]
mod against_sandbox;
#[path = "aeropay/fake.rs"]
mod fake;
#[path = "aeropay/idempotency.rs"]
mod idempotency;
#[path = "aeropay/rejections.rs"]
mod rejections;
#[path = "aeropay/scopes.rs"]
mod scopes;
#[path = "aeropay/settings.rs"]
mod settings;
#[path = "aeropay/token_call.rs"]
mod token_call;
