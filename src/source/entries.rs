//! The entries of one shard, by the hash of their keys.
//!
//! A lookup hashes its key once: the hash selects the shard, and a set of entries uses the same hash again. An entry
//! has its key already, so the set stores no second copy of it.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use super::entry::Entry;

pub(super) struct Entries<K>(HashSet<Hashed<K>, BuildHasherDefault<SameHash>>);

/// An entry, with the hash of its key.
struct Hashed<K> {
    hash: u64,
    entry: Arc<Entry<K>>,
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self(HashSet::default())
    }
}

impl<K: Eq> Entries<K> {
    pub(super) fn get(&self, hash: u64, key: &K) -> Option<&Arc<Entry<K>>> {
        self.0.get(&(hash, key) as &dyn HashedKey<K>).map(|hashed| &hashed.entry)
    }

    pub(super) fn insert(&mut self, hash: u64, entry: Arc<Entry<K>>) {
        self.0.insert(Hashed { hash, entry });
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) {
        self.0.remove(&(hash, key) as &dyn HashedKey<K>);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entry<K>>> {
        self.0.iter().map(|hashed| &hashed.entry)
    }
}

/// What an entry of the set and a key that is looked up have in common.
trait HashedKey<K> {
    fn hash(&self) -> u64;
    fn key(&self) -> &K;
}

impl<K> HashedKey<K> for Hashed<K> {
    #[inline]
    fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn key(&self) -> &K {
        &self.entry.key
    }
}

impl<K> HashedKey<K> for (u64, &K) {
    #[inline]
    fn hash(&self) -> u64 {
        self.0
    }

    #[inline]
    fn key(&self) -> &K {
        self.1
    }
}

impl<'a, K: 'a> Borrow<dyn HashedKey<K> + 'a> for Hashed<K> {
    #[inline]
    fn borrow(&self) -> &(dyn HashedKey<K> + 'a) {
        self
    }
}

impl<K> Hash for dyn HashedKey<K> + '_ {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(HashedKey::hash(self));
    }
}

impl<K: Eq> PartialEq for dyn HashedKey<K> + '_ {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        HashedKey::hash(self) == HashedKey::hash(other) && self.key() == other.key()
    }
}

impl<K: Eq> Eq for dyn HashedKey<K> + '_ {}

impl<K> Hash for Hashed<K> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Eq> PartialEq for Hashed<K> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.entry.key == other.entry.key
    }
}

impl<K: Eq> Eq for Hashed<K> {}

/// Returns the hash that it gets.
#[derive(Default)]
struct SameHash(u64);

impl Hasher for SameHash {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is called.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
