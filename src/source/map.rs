//! The entries by key, bounded.
//!
//! The map consists of shards with a sweep of their own, because no published cache evicts in the order that a source needs: first keys with an expired token, then the least recently used ones, last keys that protect an issuer, and
//! never a key with a running fetch.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::entries::Entries;
use super::entry::{Entry, EvictionRank, Unneeded};
use crate::clock::Now;

const SHARDS: usize = 64;
/// A sweep evicts at least one in this many of the keys that it reads, so that its cost is spread over as many
/// insertions.
const EVICTED_SHARE: usize = 16;
/// Keys that have never had a token hold at most one in this many of the keys. Otherwise invented keys would evict the tokens
/// of the others.
const WITHOUT_TOKEN_SHARE: usize = 8;
/// One step of a sweep reads whole shards until it has this many keys. This limits how long a step delays its caller.
const SWEEP_STEP: usize = 16 * 1024;

pub(super) enum Map<K> {
    /// For a key type with one value. There is nothing to look up.
    Single(OnceLock<Arc<Entry<K>>>),
    Keyed(Keyed<K>),
}

pub(super) struct Keyed<K> {
    shards: Box<[Shard<K>]>,
    hasher: RandomState,
    len: AtomicUsize,
    /// How many keys have never had a token. Keys with a running fetch do not count.
    without_token: AtomicUsize,
    max: usize,
    /// The shard at which the next sweep starts.
    sweeping: Mutex<usize>,
}

type Shard<K> = RwLock<Entries<K>>;

/// A key that a sweep may evict.
struct Candidate<K> {
    rank: EvictionRank,
    shard: usize,
    entry: Arc<Entry<K>>,
}

impl<K: Clone + Eq + Hash> Map<K> {
    pub(super) fn new(max: usize) -> Self {
        if size_of::<K>() == 0 {
            return Self::Single(OnceLock::new());
        }
        Self::Keyed(Keyed {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            without_token: AtomicUsize::new(0),
            max,
            sweeping: Mutex::new(0),
        })
    }

    /// The entry of a key type with one value, if there is one.
    pub(super) fn single(&self) -> Option<&Entry<K>> {
        match self {
            Self::Single(entry) => entry.get().map(AsRef::as_ref),
            Self::Keyed(_) => None,
        }
    }

    // Inlined into `TokenSource::cached`; see there.
    #[inline(always)]
    pub(super) fn get(&self, key: &K) -> Option<Arc<Entry<K>>> {
        match self {
            Self::Single(entry) => entry.get().map(Arc::clone),
            Self::Keyed(keyed) => {
                let hash = keyed.hash(key);
                keyed.shard(hash)?.read().get(hash, key).map(Arc::clone)
            }
        }
    }

    pub(super) fn get_or_insert(&self, key: &K, new: impl FnOnce() -> Entry<K>) -> Arc<Entry<K>> {
        if let Some(entry) = self.get(key) {
            return entry;
        }
        match self {
            Self::Single(entry) => {
                let new = Arc::new(new());
                Arc::clone(entry.get_or_init(|| new))
            }
            Self::Keyed(keyed) => keyed.insert(key, new),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Single(entry) => usize::from(entry.get().is_some()),
            Self::Keyed(keyed) => keyed.len.load(Ordering::Relaxed),
        }
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry<K>>> {
        match self {
            Self::Single(entry) => entry.get().into_iter().map(Arc::clone).collect(),
            Self::Keyed(keyed) => {
                let mut entries = Vec::with_capacity(self.len());
                for shard in &keyed.shards {
                    entries.extend(shard.read().iter().map(Arc::clone));
                }
                entries
            }
        }
    }

    /// A fetch starts for a key that has never had a token.
    pub(super) fn first_fetch_starts(&self) {
        if let Self::Keyed(keyed) = self {
            keyed.without_token.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A fetch has ended, and its key still has never had a token.
    pub(super) fn first_fetch_fails(&self) {
        if let Self::Keyed(keyed) = self {
            keyed.without_token.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Evicts keys until the map is within its limits. Keys with a running fetch do not count. Returns how many it
    /// evicted.
    pub(super) fn sweep(&self, in_flight: u64, now: Now) -> usize {
        match self {
            Self::Single(_) => 0,
            Self::Keyed(keyed) => keyed.sweep(usize::try_from(in_flight).unwrap_or(usize::MAX), now),
        }
    }
}

impl<K: Clone + Eq + Hash> Keyed<K> {
    #[inline]
    fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A set of entries uses the lowest and the highest bits of a hash, so the shard depends on others.
    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard<K>> {
        self.shards.get((hash >> 40) as usize % SHARDS)
    }

    fn insert(&self, key: &K, new: impl FnOnce() -> Entry<K>) -> Arc<Entry<K>> {
        let hash = self.hash(key);
        let Some(shard) = self.shard(hash) else {
            return Arc::new(new());
        };
        // Before the lock, because a key's `Clone` may use the source. An entry that is not needed is dropped after it.
        let entry = Arc::new(new());
        let mut shard = shard.write();
        if let Some(entry) = shard.get(hash, key) {
            return Arc::clone(entry);
        }
        shard.insert(hash, Arc::clone(&entry));
        self.len.fetch_add(1, Ordering::Relaxed);
        self.without_token.fetch_add(1, Ordering::Relaxed);
        entry
    }

    fn idle(&self, in_flight: usize) -> usize {
        self.len.load(Ordering::Relaxed).saturating_sub(in_flight)
    }

    /// How many keys are to be evicted: keys that have never had a token, and all keys.
    fn excess(&self, in_flight: usize) -> (usize, usize) {
        let max_without_token = (self.max / WITHOUT_TOKEN_SHARE).max(1);
        let without_token = self.without_token.load(Ordering::Relaxed).saturating_sub(max_without_token);
        (without_token, self.idle(in_flight).saturating_sub(self.max))
    }

    fn sweep(&self, in_flight: usize, now: Now) -> usize {
        if self.excess(in_flight) == (0, 0) {
            return 0;
        }
        // Dropped after the lock, because the `Drop` of a key or an error, or a waker, may use the source.
        let (mut evicted, mut unneeded) = (Vec::new(), Vec::new());
        let mut at = self.sweeping.lock();
        let mut shards_without_eviction = 0;
        // The sweep ends after a full round of shards from which nothing can be evicted.
        while shards_without_eviction < SHARDS {
            let excess = self.excess(in_flight);
            if excess == (0, 0) {
                break;
            }
            let (candidates, read) = self.candidates(&mut at, excess.0 > 0, &mut unneeded, now);
            let before = evicted.len();
            self.evict(candidates, excess, now, &mut evicted);
            shards_without_eviction = if evicted.len() == before { shards_without_eviction + read } else { 0 };
        }
        evicted.len()
    }

    /// The keys of the next shards that may be evicted, with their ranks, and the number of these shards. What their slots
    /// no longer need goes to `unneeded`.
    fn candidates(
        &self,
        at: &mut usize,
        never_first: bool,
        unneeded: &mut Vec<Unneeded>,
        now: Now,
    ) -> (Vec<Candidate<K>>, usize) {
        let mut candidates = Vec::new();
        for read in 1..=SHARDS {
            let shard = *at;
            *at = (*at + 1) % SHARDS;
            let Some(keys) = self.shards.get(shard) else { continue };
            let entries: Vec<_> = keys.read().iter().map(Arc::clone).collect();
            for entry in entries {
                unneeded.push(entry.prune(now));
                candidates.extend(entry.eviction_rank(never_first, now).map(|rank| Candidate { rank, shard, entry }));
            }
            if candidates.len() >= SWEEP_STEP {
                return (candidates, read);
            }
        }
        (candidates, SHARDS)
    }

    /// Evicts the keys with the smallest ranks, and adds their entries to `evicted`. `excess` is how many keys without a token
    /// and how many keys there are too many.
    fn evict(
        &self,
        mut candidates: Vec<Candidate<K>>,
        excess: (usize, usize),
        now: Now,
        evicted: &mut Vec<Arc<Entry<K>>>,
    ) {
        let (without_token, all) = excess;
        if all == 0 {
            // Only keys that have never had a token are too many.
            candidates.retain(|candidate| candidate.rank.never_had_token());
        }
        let goal = (without_token.max(all) + candidates.len() / EVICTED_SHARE).min(candidates.len());
        if goal == 0 {
            return;
        }
        candidates.select_nth_unstable_by_key(goal - 1, |candidate| candidate.rank);
        candidates.truncate(goal);
        for Candidate { rank, shard, entry } in candidates {
            let Some(shard) = self.shards.get(shard) else { continue };
            // Before the lock, because the hash of a key may panic.
            let hash = self.hash(&entry.key);
            let mut keys = shard.write();
            // The key may have been used or evicted since, or its fetch may have started.
            let same = keys.get(hash, &entry.key).is_some_and(|there| Arc::ptr_eq(there, &entry));
            let now = entry.eviction_rank(rank.never_had_token(), now);
            if !same || now.is_none_or(|now| now > rank) {
                continue;
            }
            // The comparison of two keys may panic, so the entry is marked after it is removed.
            keys.remove(hash, &entry.key);
            if entry.evict() {
                drop(keys);
                self.len.fetch_sub(1, Ordering::Relaxed);
                if !entry.had_token() {
                    self.without_token.fetch_sub(1, Ordering::Relaxed);
                }
                evicted.push(entry);
            } else {
                keys.insert(hash, entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
