//! One token for many processes, through a store in memory with faults.
//!
//! A process is a source with a clock of its own. All of them share one issuer, which counts the token requests, and one store,
//! which counts its calls. Everything runs in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clocks;
mod contract;
mod failures;
mod faulty_store;
mod fleet;
mod leases;
mod memory;
mod outage;
#[cfg(all(feature = "client-credentials", feature = "aeropay"))]
mod providers;
mod records;
mod releases;
mod revocation;
mod rotation;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod secrets;
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod telemetry;
mod world;
mod wrapped;
