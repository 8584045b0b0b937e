//! Token requests and providers over real sockets: what the issuer receives, and what its response becomes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "token_endpoint/access_psp.rs"]
mod access_psp;
#[path = "token_endpoint/assertion.rs"]
mod assertion;
#[path = "token_endpoint/basic.rs"]
mod basic;
#[path = "token_endpoint/builders.rs"]
mod builders;
#[path = "token_endpoint/canaries.rs"]
mod canaries;
#[path = "common/canary.rs"]
mod canary;
#[path = "token_endpoint/discovery.rs"]
mod discovery;
#[path = "token_endpoint/environment.rs"]
mod environment;
#[path = "token_endpoint/parameters.rs"]
mod parameters;
#[path = "token_endpoint/proxy.rs"]
mod proxy;
#[path = "token_endpoint/requests.rs"]
mod requests;
#[path = "token_endpoint/responses.rs"]
mod responses;
#[path = "common/rsa_key.rs"]
mod rsa_key;
#[path = "token_endpoint/services.rs"]
mod services;
#[path = "common/strict_issuer.rs"]
mod strict_issuer;
#[path = "token_endpoint/tls.rs"]
mod tls;
#[path = "token_endpoint/wire.rs"]
mod wire;
