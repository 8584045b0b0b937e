//! One token for many processes: [`Shared`] shares the tokens of a provider through a [`TokenStore`].
//!
//! Without it, each process fetches its own token. That is right if tokens cost nothing. It is wrong if the issuer bills or
//! caps tokens, if it revokes the older token at each mint, or if hundreds of processes start at once.
//! [The guide](crate::guide::shared_store) explains when to use a store, and what happens when it is down.
//!
//! [`Shared`] is a provider. The source, the layer and their rules stay the same:
//!
//! ```
//! use tower_bearer_auth::shared::{Identity, MemoryStore, SealingKey, Shared};
//! use tower_bearer_auth::{IssuedToken, TokenSource, from_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
//! let provider = from_fn(|| async { IssuedToken::bearer("opaque-token") })
//!     .identified_by(Identity::new("https://issuer.example/token").field("client", "orders"));
//! let key = "8f14e45fceea167a5a36dedd4bea2543a1d0c6e83f027327d8461063f4ac58a6";
//! let shared = Shared::builder(provider, MemoryStore::new())
//!     .namespace("production")
//!     .sealing_key(SealingKey::from_hex(key)?)
//!     .build()?;
//! let source = TokenSource::new(shared);
//! assert_eq!(source.token().await?.expose_secret(), "opaque-token");
//! # Ok(()) }
//! ```
//!
//! A file uses only files above it in this table. `tests/house.rs` checks that.
//!
//! | file | contents |
//! | --- | --- |
//! | `store` | what a store implements |
//! | `random` | random bytes from the operating system |
//! | `key` | the key that seals records |
//! | `identity` | what distinguishes the tokens of a provider, and the names of records |
//! | `note` | what a note contains, and which failures are shared |
//! | `record` | sealed records |
//! | `client` | calls of the store: their limit in time, and what follows a failure |
//! | `lease` | a lease: renew it, publish under it, release it |
//! | `flow` | one fetch |
//! | `provider` | `Shared` |
//! | `builder` | its settings |
//! | `providers` | `Shareable` for the providers of this crate |
//! | `memory` | a store in this process |
//! | `contract` | the test of a store |

mod builder;
mod client;
pub mod contract;
mod flow;
mod identity;
mod key;
mod lease;
mod memory;
mod note;
mod provider;
mod providers;
mod random;
mod record;
mod store;

pub use self::builder::SharedBuilder;
pub use self::client::OnStoreFailure;
pub use self::identity::{Identity, Shareable};
pub use self::key::SealingKey;
pub use self::memory::MemoryStore;
pub use self::provider::Shared;
pub use self::store::{Claim, Outcome, StoreError, Stored, TokenStore};
