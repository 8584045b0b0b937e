//! Reads requests and responses: the identity, the destination, and whether the token was rejected.
//!
//! This module uses only `http` types. It has no tokens and no caches.
//!
//! | file | contents |
//! |---|---|
//! | `head` | a request or a response without its body |
//! | `key` | the identity that a request acts as |
//! | `origin` | which origins may receive the token |
//! | `challenge` | the grammar of `WWW-Authenticate` |
//! | `rejection` | whether a response rejects the token |

mod challenge;
mod head;
mod key;
mod origin;
mod rejection;

pub use self::head::{RequestHead, ResponseHead};
pub use self::key::{ExtensionKey, RequestKey};
pub(crate) use self::origin::Destination;
pub use self::origin::Origins;
#[cfg(feature = "token-endpoint")]
pub(crate) use self::origin::{absolute_url, is_loopback};
pub use self::rejection::Rejection;
pub(crate) use self::rejection::{accepts, take_mark};

/// Marks this crate's own token requests.
///
/// This crate's layer may wrap the client for token requests. The layer does not stamp a marked request: it would wait
/// for the token that the request fetches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRequestMarker;

#[cfg(test)]
mod tests;
