//! One slot per key, bounded.
//!
//! No published cache evicts in this order (expired first, then the least recently used, what protects an issuer last,
//! what is in the air never), so the map is a sharded `HashMap` with a sweep of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use super::entry::{Entry, Standing};
use crate::clock::Now;

const SHARDS: usize = 64;
/// A sweep throws out this share of what it looks at, so that its cost is spread over as many insertions.
const SWEPT_SHARE: usize = 16;
/// A sweep looks at all keys up to so many, and at a part of them beyond: whoever runs it is held up for as long.
const LOOKED_AT: usize = 16 * 1024;

pub(super) enum Map<K> {
    /// A key type with one value: nothing to look up.
    Single(OnceLock<Arc<Entry<K>>>),
    Keyed(Keyed<K>),
}

pub(super) struct Keyed<K> {
    shards: Box<[Shard<K>]>,
    hasher: RandomState,
    len: AtomicUsize,
    max: usize,
    /// The shard at which the next sweep begins.
    sweeping: Mutex<usize>,
}

type Shard<K> = RwLock<HashMap<Arc<K>, Arc<Entry<K>>>>;

impl<K: Clone + Eq + Hash> Map<K> {
    pub(super) fn new(max: usize) -> Self {
        if size_of::<K>() == 0 {
            return Self::Single(OnceLock::new());
        }
        Self::Keyed(Keyed {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            max,
            sweeping: Mutex::new(0),
        })
    }

    /// The entry of a key type with one value, if it was asked for.
    pub(super) fn single(&self) -> Option<&Entry<K>> {
        match self {
            Self::Single(entry) => entry.get().map(AsRef::as_ref),
            Self::Keyed(_) => None,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<Entry<K>>> {
        match self {
            Self::Single(entry) => entry.get().map(Arc::clone),
            Self::Keyed(keyed) => keyed.shard(key)?.read().get(key).map(Arc::clone),
        }
    }

    pub(super) fn get_or_insert(&self, key: &K, new: impl FnOnce() -> Entry<K>) -> Arc<Entry<K>> {
        if let Some(entry) = self.get(key) {
            return entry;
        }
        match self {
            Self::Single(entry) => Arc::clone(entry.get_or_init(|| Arc::new(new()))),
            Self::Keyed(keyed) => keyed.insert(key, new),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Single(entry) => usize::from(entry.get().is_some()),
            Self::Keyed(keyed) => keyed.len.load(Ordering::Relaxed),
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&Arc<Entry<K>>)) {
        match self {
            Self::Single(entry) => entry.get().into_iter().for_each(visit),
            Self::Keyed(keyed) => {
                for shard in &keyed.shards {
                    let entries: Vec<_> = shard.read().values().map(Arc::clone).collect();
                    entries.iter().for_each(&mut visit);
                }
            }
        }
    }

    /// Brings the map back within its bound, beside the keys that are in the air. Says how many keys it threw out.
    pub(super) fn sweep(&self, in_air: u64, now: Now) -> usize {
        match self {
            Self::Single(_) => 0,
            Self::Keyed(keyed) => keyed.sweep(usize::try_from(in_air).unwrap_or(usize::MAX), now),
        }
    }
}

impl<K: Clone + Eq + Hash> Keyed<K> {
    fn shard(&self, key: &K) -> Option<&Shard<K>> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards.get(at)
    }

    fn insert(&self, key: &K, new: impl FnOnce() -> Entry<K>) -> Arc<Entry<K>> {
        let Some(shard) = self.shard(key) else {
            return Arc::new(new());
        };
        let mut shard = shard.write();
        if let Some(entry) = shard.get(key) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(new());
        shard.insert(Arc::clone(&entry.key), Arc::clone(&entry));
        self.len.fetch_add(1, Ordering::Relaxed);
        entry
    }

    fn idle(&self, in_air: usize) -> usize {
        self.len.load(Ordering::Relaxed).saturating_sub(in_air)
    }

    fn sweep(&self, in_air: usize, now: Now) -> usize {
        if self.idle(in_air) <= self.max {
            return 0;
        }
        let mut at = self.sweeping.lock();
        let mut thrown_out = 0;
        let mut fruitless = 0;
        // A shard without anything to throw out is passed over; a round of them ends it.
        while fruitless < SHARDS {
            let over = self.idle(in_air).saturating_sub(self.max);
            if over == 0 {
                break;
            }
            let from = *at;
            let standings = self.look(&mut at, now);
            let gone = self.throw_out(standings, over, now);
            self.len.fetch_sub(gone, Ordering::Relaxed);
            thrown_out += gone;
            let looked_at = (*at + SHARDS - from - 1) % SHARDS + 1;
            fruitless = if gone == 0 { fruitless + looked_at } else { 0 };
        }
        thrown_out
    }

    /// The standings of the keys of the next few shards, or of all.
    fn look(&self, at: &mut usize, now: Now) -> Vec<(Standing, usize, Arc<Entry<K>>)> {
        let mut standings = Vec::new();
        for _ in 0..SHARDS {
            let shard = *at;
            *at = (*at + 1) % SHARDS;
            let Some(keys) = self.shards.get(shard) else { continue };
            let keys = keys.read();
            standings.extend(keys.values().filter_map(|entry| Some((entry.standing(now)?, shard, Arc::clone(entry)))));
            if standings.len() >= LOOKED_AT {
                break;
            }
        }
        standings
    }

    /// Throws out those with the lowest standing.
    fn throw_out(&self, mut standings: Vec<(Standing, usize, Arc<Entry<K>>)>, over: usize, now: Now) -> usize {
        let goal = (over + standings.len() / SWEPT_SHARE).min(standings.len());
        if goal == 0 {
            return 0;
        }
        standings.select_nth_unstable_by_key(goal - 1, |(standing, ..)| *standing);
        standings.truncate(goal);
        let mut gone = 0;
        for (before, shard, entry) in standings {
            let Some(shard) = self.shards.get(shard) else { continue };
            let mut keys = shard.write();
            // It may have been used, thrown out or put in the air since.
            let same = keys.get(&entry.key).is_some_and(|there| Arc::ptr_eq(there, &entry));
            if same && entry.standing(now).is_some_and(|standing| standing <= before) && entry.evict() {
                keys.remove(&entry.key);
                gone += 1;
            }
        }
        gone
    }
}
