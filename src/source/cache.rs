//! What all clones of a source share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use super::entry::Entry;
use super::fetch_handle::{FetchHandle, FetchOutcome, running_fetch};
use super::jitter::Jitter;
use super::map::Map;
use super::stats::Recorder;
use crate::clock::{AnyClock, Now};
use crate::error::Error;
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

/// What was removed from a slot. Dropping it may run code of the user.
pub(super) struct Forgotten<K> {
    entry: Arc<Entry<K>>,
    stale: Option<FetchHandle>,
    _errors: Vec<Error>,
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

    /// Removes the tokens of `entry`, and makes its running fetch stale: its result is not used. Nothing is reported and no
    /// code of the user runs until the caller calls `report_forgotten`.
    pub(super) fn forget(&self, entry: &Arc<Entry<P::Key>>, credentials_changed: bool, now: Now) -> Forgotten<P::Key> {
        let mut slot = entry.lock();
        // The provider itself may call this during its fetch. Then that fetch uses the new credentials and is not stale.
        // The id decides, because a fetch that is stale already may call this too.
        let running = running_fetch(entry);
        let stale = match slot.in_flight() {
            Some(fetch) if running == Some(fetch.id) => {
                fetch.handle.set_rotation(self.rotation());
                slot.forget_tokens(credentials_changed, now);
                None
            }
            _ => slot.forget(credentials_changed, now),
        };
        entry.publish(&slot);
        if stale.is_some() {
            self.stats.record(|stats| {
                stats.fetches_in_flight -= 1;
                stats.fetches_discarded += 1;
            });
        }
        Forgotten { entry: Arc::clone(entry), stale, _errors: slot.release() }
    }

    /// Wakes the waiters of a fetch that `forget` made stale, and reports it.
    pub(super) fn report_forgotten(&self, forgotten: Forgotten<P::Key>, now: Now) {
        let Forgotten { entry, stale, _errors } = forgotten;
        if let Some(fetch) = stale {
            fetch.finish(FetchOutcome::Discarded);
            self.sweep(now);
            self.telemetry.emit(Event::Discarded { key: KeyField::new(&*entry.key) });
        }
    }

    /// Forgets the tokens of all keys, and then reports.
    pub(super) fn rotate(&self) {
        let now = self.clock.now();
        self.rotations.fetch_add(1, Ordering::AcqRel);
        // See `Fetch::new` for the other side.
        fence(Ordering::SeqCst);
        // A subscriber or a destructor may panic, so nothing of the user runs before the last key is forgotten.
        let entries = self.map.entries();
        let forgotten: Vec<_> = entries.iter().map(|entry| self.forget(entry, true, now)).collect();
        forgotten.into_iter().for_each(|forgotten| self.report_forgotten(forgotten, now));
        self.telemetry.emit(Event::Rotated { keys: self.map.len() });
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
