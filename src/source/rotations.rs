//! How often the credentials were rotated, in order with the first fetch of a key.
//!
//! `tests/loom` checks this file in every interleaving that the memory model of Rust allows.

use super::atomic::{AtomicU64, Ordering, fence};

/// The number of rotations of a source.
///
/// A rotation counts itself and then visits the entries in the map. A fetch is in the map with its entry, and then reads the
/// count. Without a fence between the two steps on each side, both could read the old state: the rotation would not find the
/// entry, and the token of the fetch would count as one with the new credentials.
#[derive(Debug)]
pub(super) struct Rotations(AtomicU64);

impl Rotations {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts a rotation. Its caller visits the entries afterwards.
    pub(super) fn rotate(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The count for a new fetch. The entry of the fetch is in the map already.
    pub(super) fn at_start_of_fetch(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.count()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
