//! What callers of a `TokenSource` can rely on, with an in-process issuer and in virtual time.
//!
//! The issuer counts the token requests. The statistics of the source are then compared with its counts.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "source/api.rs"]
mod api;
#[path = "source/cancellation.rs"]
mod cancellation;
#[path = "source/cancelled_fetches.rs"]
mod cancelled_fetches;
#[path = "source/common.rs"]
mod common;
#[path = "common/eventually.rs"]
mod eventually;
#[path = "source/failure.rs"]
mod failure;
#[path = "source/fetch_context.rs"]
mod fetch_context;
#[path = "source/issuer.rs"]
mod issuer;
#[path = "source/keys.rs"]
mod keys;
#[path = "source/lifecycle.rs"]
mod lifecycle;
#[path = "source/lifetimes.rs"]
mod lifetimes;
#[path = "source/outage.rs"]
mod outage;
#[path = "source/reentrance.rs"]
mod reentrance;
#[path = "source/rejection.rs"]
mod rejection;
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
