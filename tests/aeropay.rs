//! Aeropay: as whom a request goes, what the token call says, and what its answers and those of the API come to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "aeropay/against_sandbox.rs"]
mod against_sandbox;
#[path = "aeropay/fake.rs"]
mod fake;
#[path = "aeropay/refusals.rs"]
mod refusals;
#[path = "aeropay/replays.rs"]
mod replays;
#[path = "aeropay/scopes.rs"]
mod scopes;
#[path = "aeropay/settings.rs"]
mod settings;
#[path = "aeropay/token_call.rs"]
mod token_call;
