//! What a sweep evicts, with keys in shards that a test selects.

use super::*;
use crate::refresh::RefreshPolicy;
use crate::source::action::FetchCause;
use crate::source::fetch_handle::FetchHandle;
use crate::source::jitter::Jitter;
use crate::token::IssuedToken;

fn keyed(max: usize) -> Keyed<u32> {
    match Map::new(max) {
        Map::Keyed(keyed) => keyed,
        Map::Single(_) => unreachable!("the key type has several values"),
    }
}

impl Keyed<u32> {
    /// Puts a key into a shard.
    fn place(&self, shard: usize, key: u32, has_token: bool, now: Now) -> Arc<Entry<u32>> {
        let entry = Arc::new(Entry::new(Arc::new(key), Jitter::Fixed(0.5), 0));
        if has_token {
            let mut slot = entry.lock();
            slot.start_fetch(1, FetchHandle::without_fetch(), FetchCause::NoToken, now);
            let fetch = slot.take_fetch(1).unwrap();
            let issued = IssuedToken::bearer("token").unwrap();
            slot.complete(&fetch, Ok(issued), &RefreshPolicy::new(), now, now, 1).unwrap();
            entry.publish(&slot, now);
        } else {
            self.without_token.fetch_add(1, Ordering::Relaxed);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
        self.shards[shard].write().insert(self.hash(&key), Arc::clone(&entry));
        entry
    }

    fn keys(&self) -> Vec<u32> {
        let mut keys: Vec<_> =
            self.shards.iter().flat_map(|shard| shard.read().iter().map(|e| *e.key).collect::<Vec<_>>()).collect();
        keys.sort_unstable();
        keys
    }
}

// R74: the keys without a token are behind shards whose keys all have one.
#[test]
fn a_sweep_goes_on_after_a_step_that_evicts_nothing() {
    let (now, step) = (Now::for_tests(), SWEEP_STEP as u32);
    let keyed = keyed(2 * SWEEP_STEP);
    let allowed = 2 * step / WITHOUT_TOKEN_SHARE as u32;
    for first in [0, SHARDS - 1] {
        *keyed.sweeping.lock() = first;
        for key in 0..step {
            keyed.place(first, key, true, now);
        }
        for key in 0..=allowed {
            keyed.place((first + 1) % SHARDS, step + key, false, now);
        }
        // One key too many, and a sixteenth of those that were read.
        let expected = 1 + (allowed as usize + 1) / EVICTED_SHARE;
        assert_eq!(keyed.sweep(0, now), expected);
        let keys = keyed.keys();
        assert_eq!(keys.len(), keyed.len.load(Ordering::Relaxed));
        assert_eq!(keys.iter().filter(|key| **key < step).count(), SWEEP_STEP, "a key with a token was evicted");
        assert_eq!(keys.len() - SWEEP_STEP, allowed as usize + 1 - expected);
        keyed.shards.iter().for_each(|shard| *shard.write() = Entries::default());
        keyed.len.store(0, Ordering::Relaxed);
        keyed.without_token.store(0, Ordering::Relaxed);
    }
}

#[test]
fn a_step_of_a_sweep_reads_thousands_of_keys() {
    let now = Now::for_tests();
    let keyed = keyed(100);
    for key in 0..2_000 {
        keyed.place(0, key, false, now);
    }
    let (candidates, read) = keyed.candidates(&mut 0, true, &mut Vec::new(), now);
    assert_eq!((candidates.len(), read), (2_000, SHARDS));
}

// R31: each key has a token, although the count says otherwise for a moment.
#[test]
fn a_sweep_ends_if_no_key_can_be_evicted() {
    let now = Now::for_tests();
    let keyed = keyed(100);
    for key in 0..100 {
        keyed.place(key as usize % SHARDS, key, true, now);
    }
    keyed.without_token.store(50, Ordering::Relaxed);
    assert_eq!(keyed.sweep(0, now), 0);
    assert_eq!(keyed.keys().len(), 100);
}

// R31: a thread whose last reading is older would make a key look unused.
#[test]
fn an_older_use_does_not_replace_a_newer_one() {
    let now = Now::for_tests();
    let keyed = keyed(2);
    let [first, second] = [1, 2].map(|key| keyed.place(0, key, true, now));
    first.touch(5);
    second.touch(4);
    first.touch(3);
    let rank = |entry: &Entry<u32>| entry.eviction_rank(false, now).unwrap();
    assert!(rank(&second) < rank(&first));
}

// R31: a caller uses or replaces a key after the sweep has read it.
#[test]
fn a_key_that_was_used_or_replaced_since_the_sweep_read_it_is_not_evicted() {
    let now = Now::for_tests();
    let keyed = keyed(2);
    let entries = [1, 2, 3].map(|key| keyed.place(0, key, true, now));
    let (candidates, read) = keyed.candidates(&mut 0, false, &mut Vec::new(), now);
    assert_eq!((candidates.len(), read), (3, SHARDS));
    entries[0].touch(1);
    keyed.shards[0].write().remove(keyed.hash(&2), &2);
    let replacement = keyed.place(0, 2, true, now);
    let mut evicted = Vec::new();
    keyed.evict(candidates, (0, 3), now, &mut evicted);
    assert_eq!(evicted.iter().map(|entry| *entry.key).collect::<Vec<_>>(), [3]);
    assert_eq!(keyed.keys(), [1, 2]);
    assert!(Arc::ptr_eq(keyed.shards[0].read().get(keyed.hash(&2), &2).unwrap(), &replacement));
}
