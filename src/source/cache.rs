//! What all clones of a source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::entry::Entry;
use super::fetch_handle::{FetchOutcome, is_fetching};
use super::jitter::Jitter;
use super::map::Map;
use super::stats::Recorder;
use crate::clock::{AnyClock, Now};
use crate::provider::TokenProvider;
use crate::refresh::RefreshPolicy;
use crate::telemetry::{Event, KeyField, Telemetry};
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
    /// The number of rotations so far.
    pub(super) rotations: AtomicU64,
    /// The number of fetches so far.
    pub(super) fetches: AtomicU64,
    pub(super) max_wait: Duration,
    pub(super) fetch_timeout: Duration,
}

impl<P: TokenProvider> Cache<P> {
    /// The entry of `key`, created if there is none.
    pub(super) fn entry(&self, key: &P::Key, now: Now) -> Arc<Entry<P::Key>> {
        self.entry_with(key, || Arc::new(key.clone()), now)
    }

    /// The entry that is in the map for the key of `entry`, created if that one was evicted.
    pub(super) fn entry_again(&self, entry: &Entry<P::Key>, now: Now) -> Arc<Entry<P::Key>> {
        self.entry_with(&entry.key, || Arc::clone(&entry.key), now)
    }

    fn entry_with(&self, key: &P::Key, shared: impl FnOnce() -> Arc<P::Key>, now: Now) -> Arc<Entry<P::Key>> {
        self.map.get_or_insert(key, || {
            let rng = self.rng.lock().fork();
            Entry::new(shared(), Jitter::Random(rng), now)
        })
    }

    /// Removes the tokens of `entry`, and makes its running fetch stale: its result is not used.
    pub(super) fn forget(&self, entry: &Arc<Entry<P::Key>>, credentials_changed: bool) {
        let now = self.clock.now();
        let mut slot = entry.lock();
        // The provider itself may call this during its fetch. Then that fetch uses the new credentials and is not
        // stale.
        let stale = if is_fetching(entry) {
            slot.forget_tokens(credentials_changed, now);
            if let Some(fetch) = slot.in_flight() {
                fetch.handle.set_rotation(self.rotation());
            }
            None
        } else {
            slot.forget(credentials_changed, now)
        };
        entry.publish(&slot);
        if stale.is_some() {
            self.stats.record(|stats| {
                stats.fetches_in_flight -= 1;
                stats.fetches_discarded += 1;
            });
        }
        drop(slot);
        if let Some(fetch) = stale {
            fetch.finish(FetchOutcome::Discarded);
            self.sweep(now);
            self.telemetry.emit(Event::Discarded { key: KeyField::new(&*entry.key) });
        }
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
        self.rotations.load(Ordering::Acquire)
    }

    /// Whether `token` is withdrawn: the credentials were rotated since its fetch started. A rotation removes the
    /// tokens of all slots. This check is for a token that a waiter or a replay holds.
    pub(super) fn is_withdrawn(&self, token: &Token) -> bool {
        token.rotation() != self.rotation()
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// If a fetch runs for longer than this, it is stuck: nothing polls its runtime.
    pub(super) fn longest_fetch(&self) -> Duration {
        self.fetch_timeout.saturating_add(TIMEOUT_DELAY)
    }
}
