//! What callers of a `TokenSource` can rely on, against an issuer in-process and in virtual time.
//!
//! Token requests are counted by the issuer; the source's own counters are then held against that.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "source/cancellation.rs"]
mod cancellation;
#[path = "source/common.rs"]
mod common;
#[path = "source/single_flight.rs"]
mod single_flight;
