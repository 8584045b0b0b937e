//! Reads requests and responses: the identity, the destination, and whether the token was rejected.
//!
//! This module uses only `http` types. It has no tokens and no caches.
//!
//! | file | contents |
//! |---|---|
//! | `key_extension` | a key that is the only extension of its request |
//! | `head` | a request or a response without its body |
//! | `key` | the identity that a request acts as |
//! | `marker` | marks in the extensions of a request |
//! | `authority` | the host and the port of a URI or a `Host` header |
//! | `origin` | which origins may receive the token |
//! | `challenge` | the grammar of `WWW-Authenticate` |
//! | `grpc_timeout` | the `grpc-timeout` header |
//! | `rejection` | whether a response rejects the token |

mod authority;
mod challenge;
mod grpc_timeout;
mod head;
mod key;
mod key_extension;
mod marker;
mod origin;
mod rejection;

#[cfg(feature = "token-endpoint")]
pub(crate) use self::authority::is_loopback;
#[cfg(feature = "grpc")]
pub(crate) use self::grpc_timeout::GRPC_TIMEOUT;
pub(crate) use self::grpc_timeout::{grpc_timeout, shorten_grpc_timeout};
pub use self::head::{RequestHead, ResponseHead};
pub use self::key::{ExtensionKey, RequestKey};
pub(crate) use self::key_extension::{KeyExtension, KeySlot};
#[cfg(feature = "token-endpoint")]
pub(crate) use self::marker::RepeatableTokenRequest;
pub(crate) use self::marker::ReplayMarker;
pub use self::marker::Unauthenticated;
pub(crate) use self::origin::Destination;
pub use self::origin::Origins;
#[cfg(feature = "token-endpoint")]
pub(crate) use self::origin::absolute_url;
pub use self::rejection::Rejection;
#[cfg(feature = "grpc")]
pub(crate) use self::rejection::{GrpcStatus, has_grpc_body};
pub(crate) use self::rejection::{accepts, take_mark};

#[cfg(test)]
mod tests;
