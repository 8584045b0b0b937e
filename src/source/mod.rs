//! The cache: one slot per key, one flight per slot.
//!
//! | file | what it holds |
//! |---|---|
//! | `handle`, `builder` | what users hold, and its settings |
//! | `dispatch` | from a request or a refusal to what the slot says must be done |
//! | `slot` | one key's state machine, pure |
//! | `failure` | what it remembers of requests that came to nothing |
//! | `flight` | one token request, in a task of its own |
//! | `acquire` | waiting for a flight |
//! | `entry` | a key's slot and its published token |
//! | `map` | the keys, bounded |
//! | `stats`, `status` | what to look at from outside |
//! | `report` | what is said of it to `tracing` and `metrics` |

mod acquire;
mod builder;
mod dispatch;
mod entry;
mod failure;
mod flight;
mod handle;
mod map;
mod report;
mod slot;
mod stats;
mod status;

pub(crate) use self::acquire::TokenWait;
pub use self::builder::TokenSourceBuilder;
pub(crate) use self::dispatch::{BudgetExhausted, Grant, Lookup};
pub use self::handle::{TokenFuture, TokenSource};
pub use self::stats::SourceStats;
pub use self::status::{TokenState, TokenStatus};

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Sleep;

use self::entry::Entry;
use self::flight::Outcome;
use self::map::Map;
use self::slot::Jitter;
use self::stats::Recorder;
use crate::clock::{AnyClock, Now};
use crate::provider::TokenProvider;
use crate::refresh::RefreshPolicy;
use crate::rt;
use crate::telemetry::{Event, Telemetry, Whose};
use crate::token::Token;

/// What all clones of a source share.
pub(crate) struct Inner<P: TokenProvider> {
    /// No other source of this process has it: a token says by it whose it is.
    id: u64,
    provider: Arc<P>,
    policy: RefreshPolicy,
    clock: AnyClock,
    map: Map<P::Key>,
    stats: Recorder,
    telemetry: Telemetry,
    rng: Mutex<fastrand::Rng>,
    generations: AtomicU64,
    rotations: AtomicU64,
    flights: AtomicU64,
    max_wait: Duration,
    fetch_timeout: Duration,
}

impl<P: TokenProvider> Inner<P> {
    fn entry(&self, key: &P::Key, now: Now) -> Arc<Entry<P::Key>> {
        self.map.get_or_insert(key, || {
            let rng = self.rng.lock().fork();
            Entry::new(key.clone(), Jitter::Random(rng), now)
        })
    }

    fn forget(&self, entry: &Arc<Entry<P::Key>>, credentials_changed: bool) {
        let now = self.clock.now();
        let mut slot = entry.lock();
        // A provider that does this while it fetches has seen the change: its own flight is none of the stale ones.
        let stale = if flight::is_fetching(entry) {
            slot.forget_tokens(credentials_changed, now);
            if let Some(flight) = slot.flight() {
                flight.handle.follow(self.rotation());
            }
            None
        } else {
            slot.forget(credentials_changed, now)
        };
        entry.publish(&slot);
        if stale.is_some() {
            self.stats.record(|stats| {
                stats.fetches_in_flight -= 1;
                stats.fetches_stale += 1;
            });
        }
        drop(slot);
        if let Some(flight) = stale {
            flight.finish(Outcome::Moved);
            self.sweep(now);
            self.telemetry.emit(Event::Stale { whose: Whose::key(&entry.key) });
        }
    }

    /// Called wherever a key is left without a flight, so that the bound holds again.
    fn sweep(&self, now: Now) {
        if let Map::Single(_) = self.map {
            return;
        }
        let evicted = self.map.sweep(self.stats.running(), now);
        if evicted > 0 {
            self.stats.record(|stats| stats.evicted += evicted as u64);
            self.telemetry.emit(Event::Evicted { keys: evicted });
        }
    }

    /// How often the credentials were rotated.
    fn rotation(&self) -> u64 {
        self.rotations.load(Ordering::Acquire)
    }

    /// Whether `token` was asked for under credentials that were rotated since. A key's slot knows that of its own tokens; who
    /// holds one that is in no slot any more, or never was, asks here.
    fn is_withdrawn(&self, token: &Token) -> bool {
        token.rotation() != self.rotation()
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A flight that is in the air for longer has a runtime that nobody drives.
    fn longest_flight(&self) -> Duration {
        self.fetch_timeout.saturating_add(Duration::from_secs(3))
    }

    /// Whether a wait has gone past its bound; arms the timer at the first call.
    fn waited_too_long(&self, armed: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
        rt::has_passed(armed, self.max_wait, cx).unwrap_or(false)
    }
}
