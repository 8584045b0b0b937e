//! What callers of a `TokenSource` can rely on, against an issuer in-process and in virtual time.
//!
//! Token requests are counted by the issuer; the source's own counters are then held against that.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "source/api.rs"]
mod api;
#[path = "source/cancellation.rs"]
mod cancellation;
#[path = "source/common.rs"]
mod common;
#[path = "common/eventually.rs"]
mod eventually;
#[path = "source/failure.rs"]
mod failure;
#[path = "source/issuer.rs"]
mod issuer;
#[path = "source/keys.rs"]
mod keys;
#[path = "source/lifecycle.rs"]
mod lifecycle;
#[path = "source/lifetimes.rs"]
mod lifetimes;
#[path = "source/losses.rs"]
mod losses;
#[path = "source/outage.rs"]
mod outage;
#[path = "source/reentrance.rs"]
mod reentrance;
#[path = "source/rotation.rs"]
mod rotation;
#[path = "source/single_flight.rs"]
mod single_flight;

#[path = "source/sockets.rs"]
mod sockets;
#[path = "source/status.rs"]
mod status;
#[path = "source/time.rs"]
mod time;

#[path = "common/within.rs"]
mod within;
