//! What a source has done so far.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A snapshot of a source's counters, all of them since it was built and over all keys.
///
/// Two sums hold in every snapshot: `waits = waits_served + waits_failed + waits_abandoned + waiting`, and
/// `flights = fetches_succeeded + fetches_failed + fetches_cancelled + fetches_stale + fetches_in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStats {
    /// Requests that got a token at once, from the cache.
    pub hits: u64,
    /// Requests turned away at once, because the issuer is left alone after a failure.
    pub failed_fast: u64,
    /// Requests that had to wait for a flight.
    pub waits: u64,
    /// Waits that ended with a token.
    pub waits_served: u64,
    /// Waits that ended with an error.
    pub waits_failed: u64,
    /// Waits that were given up by their caller.
    pub waits_abandoned: u64,
    /// Waits that go on.
    pub waiting: u64,
    /// Token requests begun.
    pub fetches: u64,
    /// Token requests that brought a token.
    pub fetches_succeeded: u64,
    /// Token requests that failed.
    pub fetches_failed: u64,
    /// Token requests whose outcome was lost with their runtime.
    pub fetches_cancelled: u64,
    /// Token requests made stale by `rotate` or `invalidate` while they were in the air.
    pub fetches_stale: u64,
    /// Token requests in the air.
    pub fetches_in_flight: u64,
    /// Answers that refused the token, replays included.
    pub rejections: u64,
    /// Rejections of a token that no server had accepted yet: another process on the same credentials may be renewing
    /// as well, or the token is not what the API wants.
    pub rejections_of_unaccepted: u64,
    /// Rejections for which no new token was asked, because the renewal budget was empty.
    pub budget_exhausted: u64,
    /// Requests that were sent again with a new token.
    pub replays: u64,
    /// Requests that went to a foreign origin, without the token.
    pub not_stamped: u64,
    /// Keys that were thrown out of the cache to keep it within its bound.
    pub evicted: u64,
    /// Keys in the cache.
    pub keys: u64,
}

/// One shared counter would be written by every request on every core.
const CELLS: usize = 8;

#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

#[derive(Default)]
pub(crate) struct Recorder {
    hits: [Padded; CELLS],
    not_stamped: [Padded; CELLS],
    rare: Mutex<SourceStats>,
}

impl Recorder {
    #[inline]
    pub(crate) fn hit(&self) {
        increment(&self.hits);
    }

    pub(crate) fn not_stamped(&self) {
        increment(&self.not_stamped);
    }

    /// Changes the counters that are not on the cached path, in one step.
    pub(crate) fn record(&self, change: impl FnOnce(&mut SourceStats)) {
        change(&mut self.rare.lock());
    }

    pub(crate) fn snapshot(&self, keys: usize) -> SourceStats {
        let (hits, not_stamped) = (sum(&self.hits), sum(&self.not_stamped));
        SourceStats { hits, not_stamped, keys: keys as u64, ..*self.rare.lock() }
    }

    pub(crate) fn running(&self) -> u64 {
        self.rare.lock().fetches_in_flight
    }
}

#[inline]
fn increment(cells: &[Padded; CELLS]) {
    if let Some(Padded(count)) = cells.get(number_of_this_thread() % CELLS) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn sum(cells: &[Padded; CELLS]) -> u64 {
    cells.iter().map(|Padded(count)| count.load(Ordering::Relaxed)).sum()
}

#[inline]
fn number_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    // Without anything to initialise or to drop there is no call on the way to it.
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
    let number = NUMBER.try_with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    });
    // Gone at a thread's end where thread locals are not the platform's own.
    number.unwrap_or(0)
}
