//! The requests that a server received, in order, and a way to wait for more.

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) struct Journal<T> {
    entries: Mutex<Entries<T>>,
    count: watch::Sender<usize>,
}

struct Entries<T> {
    list: Vec<(u64, T)>,
    next: u64,
}

/// Identifies an entry until the journal is reset.
#[derive(Clone, Copy)]
pub(crate) struct Entry(u64);

impl<T: Clone> Journal<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(Entries { list: Vec::new(), next: 0 }), count: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, entry: T) -> Entry {
        let mut entries = self.entries.lock();
        let id = entries.next;
        entries.next += 1;
        entries.list.push((id, entry));
        self.count.send_replace(entries.list.len());
        Entry(id)
    }

    /// Changes an entry. It does nothing if the journal was reset in the meantime.
    pub(crate) fn amend(&self, entry: Entry, change: impl FnOnce(&mut T)) {
        let mut entries = self.entries.lock();
        if let Ok(index) = entries.list.binary_search_by_key(&entry.0, |(id, _)| *id) {
            change(&mut entries.list[index].1);
        }
    }

    pub(crate) fn all(&self) -> Vec<T> {
        let entries = self.entries.lock();
        entries.list.iter().map(|(_, entry)| entry.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(crate) fn reset(&self) {
        let mut entries = self.entries.lock();
        entries.list.clear();
        self.count.send_replace(0);
    }

    pub(crate) async fn wait(&self, count: usize) {
        // The wait cannot fail, because `self` owns the sender.
        let _ = self.count.subscribe().wait_for(|received| *received >= count).await;
    }
}
