//! A gate that holds requests until a test opens it, and counts them.

use tokio::sync::watch;

pub(crate) struct Gate {
    open: watch::Sender<bool>,
    held: watch::Sender<usize>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { open: watch::Sender::new(true), held: watch::Sender::new(0) }
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub(crate) async fn pass(&self) {
        let mut open = self.open.subscribe();
        if *open.borrow_and_update() {
            return;
        }
        let _held = Held::count(&self.held);
        // The wait cannot fail, because `self` owns the sender.
        let _ = open.wait_for(|open| *open).await;
    }

    pub(crate) async fn wait_held(&self, count: usize) {
        let _ = self.held.subscribe().wait_for(|held| *held >= count).await;
    }
}

/// Counts one held request. A request that is dropped at the gate is no longer counted.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn count(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}
