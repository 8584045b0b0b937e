//! Telemetry: each span, event and metric, its contents, and how often it is emitted.
//!
//! Each test captures the telemetry of its own thread. For that the process has a dispatcher that enables every call site, so
//! the tests have a binary of their own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(all(feature = "access-psp", feature = "http-client"))]
mod causes;
mod conflict;
mod fetches;
mod grpc;
mod keys;
mod page;
mod panics;
mod rejections;
mod runbook;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod users;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tower_bearer_auth::{Clock, Now, SourceStats};

use support::telemetry::Capture;
use support::wait::eventually;

/// Compares each counter with its statistic. Waits and fetches that have not ended are only in `stats`.
#[track_caller]
fn equal_to_stats(capture: &Capture, stats: &SourceStats) {
    let fetches = |outcome| capture.count("token_requests_total", &[("outcome", outcome)]);
    let waits = |outcome| capture.count("waits_total", &[("outcome", outcome)]);
    let rejections = |label, value| capture.count("rejections_total", &[(label, value)]);
    let pairs = [
        ("succeeded", fetches("minted") + fetches("kept"), stats.fetches_succeeded),
        ("failed", fetches("failed"), stats.fetches_failed),
        ("cancelled", fetches("cancelled"), stats.fetches_cancelled),
        ("discarded", fetches("discarded"), stats.fetches_discarded),
        ("fetches", capture.count("token_requests_total", &[]) + stats.fetches_in_flight, stats.fetches),
        ("served", waits("served"), stats.waits_served),
        ("failed waits", waits("failed"), stats.waits_failed),
        ("abandoned", waits("abandoned"), stats.waits_abandoned),
        ("waits", capture.count("waits_total", &[]) + stats.waiting, stats.waits),
        ("failed fast", capture.count("failed_fast_total", &[]), stats.failed_fast),
        ("rejections", capture.count("rejections_total", &[]), stats.rejections),
        (
            "rejected early",
            capture.count("tokens_rejected_total", &[("token", "accepted")]),
            stats.tokens_rejected_early,
        ),
        ("unaccepted", rejections("token", "unaccepted"), stats.rejections_of_unaccepted),
        ("budget exhausted", rejections("refresh", "budget_exhausted"), stats.budget_exhausted),
        ("replays", capture.count("replays_total", &[]), stats.replays),
        ("not stamped", capture.count("not_stamped_total", &[]), stats.not_stamped),
        ("evicted", capture.count("evictions_total", &[]), stats.evicted),
    ];
    for (what, metric, statistic) in pairs {
        assert_eq!(metric, statistic, "{what}: {stats:?}");
    }
}

/// A clock that a test moves, for runtimes that nothing polls.
#[derive(Clone)]
struct StoppedClock(Arc<Mutex<Now>>);

impl StoppedClock {
    #[expect(clippy::disallowed_methods, reason = "an `Instant` can only come from the clock")]
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Now { mono: std::time::Instant::now(), wall: SystemTime::now() })))
    }

    fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        *now = now.after(by);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Now {
        *self.0.lock()
    }
}
