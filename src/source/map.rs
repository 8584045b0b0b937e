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
/// A sweep makes room for this share of the bound, so that its cost is spread over as many insertions.
const SWEPT_SHARE: usize = 64;

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
    sweeping: Mutex<()>,
}

type Shard<K> = RwLock<HashMap<K, Arc<Entry<K>>>>;

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
            sweeping: Mutex::new(()),
        })
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
        shard.insert(key.clone(), Arc::clone(&entry));
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
        let _one_at_a_time = self.sweeping.lock();
        let over = self.idle(in_air).saturating_sub(self.max);
        if over == 0 {
            return 0;
        }
        let goal = over + self.max / SWEPT_SHARE;
        let mut standings: Vec<Standing> = Vec::new();
        for shard in &self.shards {
            standings.extend(shard.read().values().filter_map(|entry| entry.standing(now)));
        }
        if standings.is_empty() {
            return 0;
        }
        let goal = goal.min(standings.len());
        let (before, last, _) = standings.select_nth_unstable(goal - 1);
        let last = *last;
        // Of those that stand equal with the last to go, only as many as it takes: the others go before them.
        let mut equals = goal - before.iter().filter(|standing| **standing < last).count();
        let mut thrown_out = 0;
        for shard in &self.shards {
            shard.write().retain(|_, entry| {
                let Some(standing) = entry.standing(now) else {
                    return true;
                };
                let chosen = thrown_out < goal && (standing < last || standing == last && equals > 0);
                let leaves = chosen && entry.evict();
                equals -= usize::from(leaves && standing == last);
                thrown_out += usize::from(leaves);
                !leaves
            });
        }
        self.len.fetch_sub(thrown_out, Ordering::Relaxed);
        thrown_out
    }
}
