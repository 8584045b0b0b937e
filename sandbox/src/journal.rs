//! What a server saw, in order, and a way to wait for more of it.

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) struct Journal<T> {
    pages: Mutex<Pages<T>>,
    count: watch::Sender<usize>,
}

struct Pages<T> {
    entries: Vec<(u64, T)>,
    next: u64,
}

/// Where an entry stands, for as long as the journal is not reset.
#[derive(Clone, Copy)]
pub(crate) struct Entry(u64);

impl<T: Clone> Journal<T> {
    pub(crate) fn new() -> Self {
        Self { pages: Mutex::new(Pages { entries: Vec::new(), next: 0 }), count: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, entry: T) -> Entry {
        let mut pages = self.pages.lock();
        let id = pages.next;
        pages.next += 1;
        pages.entries.push((id, entry));
        self.count.send_replace(pages.entries.len());
        Entry(id)
    }

    /// Completes an entry; one that was reset in the meantime stays away.
    pub(crate) fn amend(&self, entry: Entry, change: impl FnOnce(&mut T)) {
        let mut pages = self.pages.lock();
        if let Ok(index) = pages.entries.binary_search_by_key(&entry.0, |(id, _)| *id) {
            change(&mut pages.entries[index].1);
        }
    }

    pub(crate) fn all(&self) -> Vec<T> {
        let pages = self.pages.lock();
        pages.entries.iter().map(|(_, entry)| entry.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(crate) fn reset(&self) {
        let mut pages = self.pages.lock();
        pages.entries.clear();
        self.count.send_replace(0);
    }

    pub(crate) async fn wait(&self, count: usize) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.count.subscribe().wait_for(|seen| *seen >= count).await;
    }
}
