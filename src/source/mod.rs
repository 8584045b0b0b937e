//! The token cache: one slot per key, and at most one running fetch per slot.
//!
//! A file uses only files above it in this table. `tests/house.rs` checks that.
//!
//! | file | contents |
//! |---|---|
//! | `stats` | the counters of a source, and the snapshot that users get |
//! | `jitter` | random numbers |
//! | `atomic` | the atomics of `rotations` |
//! | `rotations` | how often the credentials were rotated |
//! | `action` | what a slot returns |
//! | `failure` | what a slot remembers about failed and cancelled fetches |
//! | `rejections` | what a slot remembers about rejections |
//! | `replacement` | a new token beside the old one that it replaced |
//! | `slot` | the state machine of one key, without I/O |
//! | `status` | the state of one key, as users see it |
//! | `fetch_handle` | the handle of a fetch, which its slot holds, and the outcome that its waiters receive |
//! | `entry` | a key with its slot and its published token |
//! | `entries` | the entries of one shard of the map, by the hash of their keys |
//! | `map` | the bounded map of entries, and eviction |
//! | `grant` | the results of a lookup |
//! | `cache` | `Cache`: what all clones of a source share, `rotate` and `invalidate` |
//! | `report` | `Cache`: statistics and telemetry |
//! | `fetch` | the task that runs one fetch |
//! | `lookup` | `Cache`: look up a token, join or start a fetch |
//! | `reject` | `Cache`: reject a token |
//! | `waited` | for how long a request has waited |
//! | `wait` | the future that waits for a fetch |
//! | `handle` | `TokenSource`: the public methods |
//! | `middleware` | `TokenSource`: the methods that the layer calls |
//! | `builder` | `TokenSource`: constructors and settings |

mod action;
mod atomic;
mod builder;
mod cache;
mod entries;
mod entry;
mod failure;
mod fetch;
mod fetch_handle;
mod grant;
mod handle;
mod jitter;
mod lookup;
mod map;
mod middleware;
mod reject;
mod rejections;
mod replacement;
mod report;
mod rotations;
mod slot;
mod stats;
mod status;
mod wait;
mod waited;

pub use self::builder::TokenSourceBuilder;
pub(crate) use self::grant::{BudgetExhausted, Grant, Lookup};
pub use self::handle::{TokenFuture, TokenSource};
pub use self::stats::SourceStats;
pub(crate) use self::stats::number_of_this_thread;
pub use self::status::{TokenState, TokenStatus};
pub(crate) use self::wait::TokenWait;
pub(crate) use self::waited::Waited;
