//! What all clones of a source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::action::Patience;
use super::entry::{Entry, Unneeded};
use super::fetch_handle::running_fetch;
use super::jitter::Jitter;
use super::map::Map;
use super::rotations::Rotations;
use super::stats::{Recorder, SourceStats};
use crate::clock::{AnyClock, Now, next_tick};
use crate::provider::TokenProvider;
use crate::refresh::{self, RefreshPolicy};
use crate::telemetry::{Event, Telemetry};
use crate::token::Token;

/// A fetch that runs for longer than its timeout and this delay is in a runtime that nothing polls.
const TIMEOUT_DELAY: Duration = Duration::from_secs(3);

pub(crate) struct Cache<P: TokenProvider> {
    /// Unique in this process. A token has the id of its source.
    pub(super) id: u64,
    pub(super) provider: Arc<P>,
    pub(super) policy: RefreshPolicy,
    pub(super) clock: AnyClock,
    pub(super) map: Map<P::Key>,
    pub(super) stats: Recorder,
    pub(super) telemetry: Telemetry,
    pub(super) rng: Mutex<fastrand::Rng>,
    /// The number of tokens so far.
    pub(super) generations: AtomicU64,
    pub(super) rotations: Rotations,
    /// The number of fetches so far.
    pub(super) fetches: AtomicU64,
    /// How long the last successful fetch took, in ms.
    pub(super) fetch_took: AtomicU64,
    pub(super) max_wait: Duration,
    pub(super) patience: Duration,
    pub(super) fetch_timeout: Duration,
}

impl<P: TokenProvider> Cache<P> {
    /// The entry of `key`, created if there is none.
    pub(super) fn entry(&self, key: &P::Key) -> Arc<Entry<P::Key>> {
        self.entry_with(key, || Arc::new(key.clone()))
    }

    /// The entry that is in the map for the key of `entry`, created if that one was evicted.
    pub(super) fn entry_again(&self, entry: &Entry<P::Key>) -> Arc<Entry<P::Key>> {
        self.entry_with(&entry.key, || Arc::clone(&entry.key))
    }

    fn entry_with(&self, key: &P::Key, shared: impl FnOnce() -> Arc<P::Key>) -> Arc<Entry<P::Key>> {
        self.map.get_or_insert(key, || {
            let rng = self.rng.lock().fork();
            Entry::new(shared(), Jitter::Random(rng), next_tick())
        })
    }

    /// Removes the tokens of `entry`. `rotated` is whether the credentials have changed. No code of the user runs until the
    /// caller drops the result.
    pub(super) fn forget(&self, entry: &Arc<Entry<P::Key>>, rotated: bool, now: Now) -> Unneeded {
        let mut slot = entry.lock();
        // The provider itself may call this during its fetch. Then that fetch uses the new credentials and is not stale.
        // The id decides, because a fetch that is stale already may call this too.
        let own = running_fetch(entry).filter(|id| slot.is_running(*id));
        if rotated {
            slot.rotate(own, now);
        } else {
            slot.invalidate(own, now);
        }
        if let Some(handle) = slot.in_flight().filter(|_| own.is_some()).and_then(|fetch| fetch.handle.as_ref()) {
            handle.set_rotation(self.rotation());
        }
        entry.publish(&slot, now);
        slot.release()
    }

    /// Forgets the tokens of all keys, and then reports.
    pub(super) fn rotate(&self) {
        let now = self.clock.now();
        self.rotations.rotate();
        // A subscriber or a destructor may panic, so nothing of the user runs before the last key is forgotten.
        let entries = self.map.entries();
        let unneeded: Vec<_> = entries.iter().map(|entry| self.forget(entry, true, now)).collect();
        drop(unneeded);
        self.telemetry.emit(Event::Rotated { keys: self.map.len() });
    }

    /// The fetch of `entry` has ended, and `count` counts it. The caller holds the lock of the slot.
    pub(super) fn fetch_ends(&self, entry: &Entry<P::Key>, count: impl FnOnce(&mut SourceStats)) {
        if !entry.had_token() {
            self.map.first_fetch_fails();
        }
        self.stats.record(|stats| {
            stats.fetches_in_flight -= 1;
            count(stats);
        });
    }

    /// Brings the map back within its limit. Call this whenever the fetch of a key has ended.
    pub(super) fn sweep(&self, now: Now) {
        if let Map::Single(_) = self.map {
            return;
        }
        let evicted = self.map.sweep(self.stats.in_flight(), now);
        if evicted > 0 {
            self.stats.record(|stats| stats.evicted += evicted as u64);
            self.telemetry.emit(Event::Evicted { keys: evicted });
        }
    }

    /// How often the credentials were rotated.
    pub(super) fn rotation(&self) -> u64 {
        self.rotations.count()
    }

    /// Whether `token` is withdrawn: the credentials were rotated since its fetch started. A rotation removes the
    /// tokens of all slots. This check is for a token that a waiter or a replay holds.
    pub(super) fn is_withdrawn(&self, token: &Token) -> bool {
        token.rotation() != self.rotation()
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How long a rejected token is set aside.
    pub(super) fn set_aside(&self) -> Duration {
        refresh::set_aside(Duration::from_millis(self.fetch_took.load(Ordering::Relaxed)))
    }

    /// The patience of a caller that waits for `max_wait` at most.
    pub(super) fn patience(&self, max_wait: Duration) -> Patience {
        Patience { limit: Some(self.patience), max_wait }
    }

    /// If a fetch runs for longer than this, it is stuck: nothing polls its runtime.
    pub(super) fn longest_fetch(&self) -> Duration {
        self.fetch_timeout.saturating_add(TIMEOUT_DELAY)
    }
}
