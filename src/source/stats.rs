//! The counters of a source.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A snapshot of the counters of a source. [`TokenSource::stats`](crate::TokenSource::stats) returns it.
///
/// All numbers cover all keys, from the time at which the source was built. `waiting`, `fetches_in_flight` and `keys`
/// are the numbers at the time of the snapshot.
///
/// Two sums hold in every snapshot:
///
/// - `waits = waits_served + waits_failed + waits_abandoned + waiting`
/// - `fetches = fetches_succeeded + fetches_failed + fetches_cancelled + fetches_discarded + fetches_in_flight`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "metrics")]
pub struct SourceStats {
    /// Requests that got a token from the cache, without a wait.
    pub hits: u64,
    /// Requests that failed at once, during a backoff. Those that waited through it do not count.
    pub failed_fast: u64,
    /// Requests that had to wait, for a fetch or for the end of a backoff.
    pub waits: u64,
    /// Waits that ended with a token.
    pub waits_served: u64,
    /// Waits that ended with an error.
    pub waits_failed: u64,
    /// Waits that ended because their future was dropped.
    pub waits_abandoned: u64,
    /// Waits that have not ended.
    pub waiting: u64,
    /// Fetches that were started. A fetch is one call of [`TokenProvider::fetch`](crate::TokenProvider::fetch).
    pub fetches: u64,
    /// Fetches that returned a token.
    pub fetches_succeeded: u64,
    /// Fetches that returned an error, panicked or timed out.
    pub fetches_failed: u64,
    /// Fetches that were cancelled with their runtime. Those that `rotate` discarded do not count here.
    pub fetches_cancelled: u64,
    /// Fetches that [`rotate`](crate::TokenSource::rotate) discarded, each counted when it has ended. One that runs during
    /// [`invalidate`](crate::TokenSource::invalidate) continues, and counts by its result.
    pub fetches_discarded: u64,
    /// Fetches that are running.
    pub fetches_in_flight: u64,
    /// Responses that rejected a token, replays included.
    pub rejections: u64,
    /// Tokens that a server rejected before they expired, although a server had accepted them. Each is counted at its first
    /// rejection.
    ///
    /// Someone revokes the tokens, or some servers of the API reject tokens that others accept. If another process uses the
    /// same credentials, and the issuer revokes the older token when it issues a new one, this number increases in both
    /// processes. See [Choosing a refresh policy](crate::guide::refresh).
    pub tokens_rejected_early: u64,
    /// Rejections of a token that no server had accepted before. Either the API needs another token, or it does not know a
    /// new token yet. If rejected requests are not replayed and requests are rare, another process may also have revoked the
    /// token before it was used.
    pub rejections_of_unaccepted: u64,
    /// Rejections after which no fetch was started, because the budget for refreshes was empty, or because new tokens had not
    /// ended the rejections and no fetch was due.
    pub budget_exhausted: u64,
    /// Rejected requests that were replayed with a new token.
    pub replays: u64,
    /// Requests to a foreign origin, sent without the token. `TRACE`, `Unauthenticated` and `if_not_present` do not count here.
    pub not_stamped: u64,
    /// Fetches that took a token from the shared store. Like the six numbers below, this is 0 without
    /// [`Shared`](crate::guide::shared_store).
    pub store_hits: u64,
    /// Fetches that found no token in the shared store that they could use.
    pub store_misses: u64,
    /// Fetches that got the lease of their token in the shared store, and called the issuer for all processes.
    pub store_leases: u64,
    /// Fetches that waited for the lease of another process.
    pub store_waits: u64,
    /// Fetches that adopted the outcome of another process: a failure, or that the issuer repeats its token.
    pub store_notes: u64,
    /// Calls of the shared store that failed or took too long.
    pub store_failures: u64,
    /// Records of the shared store that did not open: they were sealed with another key, changed, or cut short.
    pub store_unopened: u64,
    /// Keys that were evicted, to keep the cache within [`max_keys`](crate::TokenSourceBuilder::max_keys).
    pub evicted: u64,
    /// Keys in the cache.
    pub keys: u64,
}

/// The number of cells of a counter on the cached path. With one cell, requests on all cores would write to one memory
/// location.
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

    /// Changes counters that are not on the cached path. The change is atomic: no snapshot shows a part of it.
    pub(crate) fn record(&self, change: impl FnOnce(&mut SourceStats)) {
        change(&mut self.rare.lock());
    }

    pub(crate) fn snapshot(&self, keys: usize) -> SourceStats {
        let (hits, not_stamped) = (sum(&self.hits), sum(&self.not_stamped));
        SourceStats { hits, not_stamped, keys: keys as u64, ..*self.rare.lock() }
    }

    pub(crate) fn in_flight(&self) -> u64 {
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

/// A small number that this thread keeps. Different threads have different numbers.
#[inline]
pub(crate) fn number_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    // The initial value is constant and there is no destructor, so an access needs no function call.
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
    let number = NUMBER.try_with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    });
    // On some platforms the value is not available while a thread ends.
    number.unwrap_or(0)
}
