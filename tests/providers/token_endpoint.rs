//! Token requests and providers over real sockets: what the issuer receives, and what its response becomes.

mod access_psp;
mod api_keys;
mod assertion;
mod basic;
mod builders;
mod canaries;
mod discovery;
mod environment;
mod parameters;
mod proxy;
mod requests;
mod responses;
mod reused_connections;
mod secrets;
mod services;
mod tls;
mod tls_failures;
mod tls_files;
mod tls_server;
mod tokens;
mod wire;
