//! What an operator sees: each span, event and metric, with what is in it, and how many there are of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tower_bearer_auth::{Clock, Now, SourceStats};

#[path = "common/api.rs"]
mod api;
#[path = "common/eventually.rs"]
mod eventually;
#[path = "observability/flights.rs"]
mod flights;
#[path = "common/issuer.rs"]
mod issuer;
#[path = "observability/keys.rs"]
mod keys;
#[path = "common/observed.rs"]
mod observed;
#[path = "observability/page.rs"]
mod page;
#[path = "observability/refusals.rs"]
mod refusals;
#[path = "observability/runbook.rs"]
mod runbook;
#[path = "observability/users.rs"]
mod users;
#[path = "common/variants.rs"]
mod variants;
#[path = "common/virtual_time.rs"]
mod virtual_time;

use eventually::eventually;
use observed::Watch;

/// Each counter beside the statistics that say the same. Waits that go on and flights in the air are in `stats` alone.
#[track_caller]
fn equal_to_stats(watch: &Watch, stats: &SourceStats) {
    let flights = |outcome| watch.count("token_requests_total", &[("outcome", outcome)]);
    let waits = |outcome| watch.count("waits_total", &[("outcome", outcome)]);
    let refusals = |label, value| watch.count("refusals_total", &[(label, value)]);
    let seen = [
        ("succeeded", flights("minted") + flights("kept"), stats.fetches_succeeded),
        ("failed", flights("failed"), stats.fetches_failed),
        ("lost", flights("lost"), stats.fetches_cancelled),
        ("stale", flights("stale"), stats.fetches_stale),
        ("flights", watch.count("token_requests_total", &[]) + stats.fetches_in_flight, stats.fetches),
        ("served", waits("served"), stats.waits_served),
        ("unserved", waits("failed"), stats.waits_failed),
        ("abandoned", waits("abandoned"), stats.waits_abandoned),
        ("waits", watch.count("waits_total", &[]) + stats.waiting, stats.waits),
        ("turned away", watch.count("turned_away_total", &[]), stats.failed_fast),
        ("refusals", watch.count("refusals_total", &[]), stats.rejections),
        ("unaccepted", refusals("token", "unaccepted"), stats.rejections_of_unaccepted),
        ("declined", refusals("renewal", "declined"), stats.budget_exhausted),
        ("replays", watch.count("replays_total", &[]), stats.replays),
        ("not stamped", watch.count("not_stamped_total", &[]), stats.not_stamped),
        ("evicted", watch.count("evictions_total", &[]), stats.evicted),
    ];
    for (what, metric, statistic) in seen {
        assert_eq!(metric, statistic, "{what}: {stats:?}");
    }
}

/// A clock that goes on when it is told to, for tests of runtimes that are not driven.
#[derive(Clone)]
struct StoppedClock(Arc<Mutex<Now>>);

impl StoppedClock {
    #[expect(clippy::disallowed_methods, reason = "an instant cannot be made out of nothing")]
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
