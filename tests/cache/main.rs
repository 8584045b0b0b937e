//! The token source: single flight, refresh, backoff, rejection, rotation, eviction, and keys that do not affect each other.
//!
//! Most tests run in virtual time with an issuer in this process. The issuer counts the token requests, and the tests compare
//! the statistics of the source with its counts.
//!
//! `many_keys` counts allocations. The allocator counts per thread, so the tests beside it do not change the counts.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cached_token;
mod cancellation;
mod cancelled_fetches;
mod common;
mod failure;
mod fetch_context;
mod fleet;
mod keys;
#[cfg(feature = "tracing")]
mod lifecycle;
mod lifetimes;
mod loops;
mod many_keys;
mod outage;
mod outage_durations;
#[cfg(feature = "aeropay")]
mod own_token;
mod reentrance;
mod rejection;
mod revocation;
mod rotation;
mod scripted_issuer;
mod simulation;
mod single_flight;
mod sockets;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod time;
mod user_code;
mod waiters;
