//! The layer: what it stamps, when it replays, how it keeps readiness, and which errors it returns.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod deadlines;
#[cfg(all(feature = "access-psp", feature = "aeropay", feature = "http-client"))]
mod error_mapping;
#[cfg(feature = "grpc")]
mod grpc;
mod layer;
mod readiness;
mod replay_matrix;
mod replaying;
#[cfg(all(feature = "access-psp", feature = "aeropay", feature = "http-client"))]
mod replaying_sockets;
#[path = "../support/mod.rs"]
mod support;
