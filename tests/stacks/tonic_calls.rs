//! The client and the server of the example `tonic_calls`.

#[path = "../../examples/tonic_calls/client.rs"]
pub(crate) mod client;
#[path = "../../examples/tonic_calls/server.rs"]
pub(crate) mod server;
