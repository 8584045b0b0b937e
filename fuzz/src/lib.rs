//! The fuzz targets of tower-bearer-auth. `scripts/fuzz` runs them.
//!
//! Each target compares the crate with an oracle: a second implementation, written from the standard or from the
//! documentation, or the input of a round trip. The oracles are simple and slow. They use no code of the crate.
//!
//! | module | what it compares |
//! |---|---|
//! | `challenge` | `Rejection::standard` with the grammar of RFC 9110 section 11.6.1 |
//! | `token_response` | `EndpointResponse::bearer_token` with RFC 6749 section 5 |
//! | `metadata` | the token URL of `discover` with RFC 8414 |
//! | `origins` | which requests the layer stamps with RFC 6454 |
//! | `no_proxy` | the list of exceptions from the proxy with its documentation |
//! | `aeropay` | which token a path needs, which request is idempotent, and which body rejects a token |
//! | `buffered` | the body of a replay with the body that the caller sent |
//! | `sealed_record` | what a fetch makes of a record in a shared store, and what it stores, with the format of records |
//! | `json`, `host`, `run`, `error` | what the modules above share |

pub mod aeropay;
pub mod buffered;
pub mod challenge;
mod error;
mod host;
mod json;
pub mod metadata;
pub mod no_proxy;
pub mod origins;
mod run;
pub mod sealed_record;
pub mod token_response;
