//! The token call and the providers, over real sockets: what the issuer saw, and what its answer became.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "exchange/access_psp.rs"]
mod access_psp;
#[path = "exchange/answers.rs"]
mod answers;
#[path = "exchange/assertion.rs"]
mod assertion;
#[path = "exchange/basic.rs"]
mod basic;
#[path = "exchange/builders.rs"]
mod builders;
#[path = "exchange/canaries.rs"]
mod canaries;
#[path = "common/canary.rs"]
mod canary;
#[path = "exchange/discovery.rs"]
mod discovery;
#[path = "exchange/environment.rs"]
mod environment;
#[path = "exchange/parameters.rs"]
mod parameters;
#[path = "exchange/proxy.rs"]
mod proxy;
#[path = "exchange/requests.rs"]
mod requests;
#[path = "common/rsa_key.rs"]
mod rsa_key;
#[path = "exchange/services.rs"]
mod services;
#[path = "common/strict_issuer.rs"]
mod strict_issuer;
#[path = "exchange/tls.rs"]
mod tls;
#[path = "exchange/wire.rs"]
mod wire;
