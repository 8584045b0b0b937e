//! What the test binaries share. Each binary compiles this module and uses a part of it.
#![allow(dead_code, reason = "each test binary uses a part of this module")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

pub(crate) mod api;
pub(crate) mod canary;
pub(crate) mod error_kinds;
#[cfg(all(feature = "access-psp", feature = "http-client"))]
pub(crate) mod https;
pub(crate) mod issuer;
pub(crate) mod responses;
pub(crate) mod rsa_key;
pub(crate) mod source_text;
pub(crate) mod strict_issuer;
pub(crate) mod telemetry;
pub(crate) mod time;
pub(crate) mod wait;
