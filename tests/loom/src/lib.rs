//! Models for loom. `scripts/loom` runs them.

#![cfg(test)]

#[path = "../../../src/source/rotations.rs"]
mod rotations;

use loom::sync::Arc;
use loom::sync::atomic::{self, AtomicBool, Ordering};
use loom::thread;

use rotations::Rotations;

/// The entry of a source with one key. It is in the map once `inserted` is true, as with a `OnceLock`.
struct Entry {
    inserted: AtomicBool,
    forgotten: AtomicBool,
}

// R80: a rotation that does not find the entry of a first request, and a fetch that does not have the new count.
#[test]
fn a_rotation_finds_the_entry_or_the_first_fetch_has_the_new_count() {
    loom::model(|| {
        let rotations = Arc::new(Rotations::new());
        let entry = Arc::new(Entry { inserted: AtomicBool::new(false), forgotten: AtomicBool::new(false) });
        let rotation = {
            let (rotations, entry) = (Arc::clone(&rotations), Arc::clone(&entry));
            thread::spawn(move || {
                rotations.rotate();
                if entry.inserted.load(Ordering::Acquire) {
                    entry.forgotten.store(true, Ordering::Release);
                }
            })
        };
        entry.inserted.store(true, Ordering::Release);
        let fetched_after = rotations.at_start_of_fetch();
        rotation.join().unwrap();
        assert!(
            fetched_after == rotations.count() || entry.forgotten.load(Ordering::Acquire),
            "a token of the old credentials counts as one of the new ones"
        );
    });
}
