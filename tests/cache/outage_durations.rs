//! An issuer that goes down at every second of a token's lifetime, in virtual time.
//!
//! The stamped tokens are checked against the tokens that the issuer returned, and against times that are computed by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use tower_bearer_auth::{Error, ErrorKind, TokenSource};

use crate::support::issuer::Issuer;
use crate::support::time::{Paused, ms};

/// A lifetime and the times that follow from the rules, in ms.
struct Case {
    lifetime: u64,
    /// The earliest start of the window.
    window_at: u64,
    usable_for: u64,
    /// The time between requests near the window, for the measured table.
    step: u64,
}

/// By hand: window = min(L/2, 20 min), margin = min(30 s, L/4).
const CASES: [Case; 12] = [
    Case { lifetime: 10_000, window_at: 5_000, usable_for: 7_500, step: 100 },
    Case { lifetime: 30_000, window_at: 15_000, usable_for: 22_500, step: 100 },
    Case { lifetime: 60_000, window_at: 30_000, usable_for: 45_000, step: 100 },
    Case { lifetime: 120_000, window_at: 60_000, usable_for: 90_000, step: 500 },
    Case { lifetime: 300_000, window_at: 150_000, usable_for: 270_000, step: 1_000 },
    Case { lifetime: 600_000, window_at: 300_000, usable_for: 570_000, step: 1_000 },
    Case { lifetime: 1_800_000, window_at: 900_000, usable_for: 1_770_000, step: 1_000 },
    Case { lifetime: 2_400_000, window_at: 1_200_000, usable_for: 2_370_000, step: 1_000 },
    Case { lifetime: 3_600_000, window_at: 2_400_000, usable_for: 3_570_000, step: 1_000 },
    Case { lifetime: 7_200_000, window_at: 6_000_000, usable_for: 7_170_000, step: 1_000 },
    Case { lifetime: 43_200_000, window_at: 42_000_000, usable_for: 43_170_000, step: 1_000 },
    Case { lifetime: 86_400_000, window_at: 85_200_000, usable_for: 86_370_000, step: 1_000 },
];

const SEEDS: u64 = 200;

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

struct World {
    case: &'static Case,
    clock: Paused,
    issuer: Issuer,
    source: TokenSource<Issuer>,
    /// The time between requests near the window.
    step: u64,
}

impl World {
    async fn new(case: &'static Case, seed: u64) -> Self {
        let clock = Paused::start();
        let issuer = Issuer::new();
        issuer.set_latency(Duration::ZERO);
        issuer.set_lifetime(ms(case.lifetime));
        // The secret is the time in ms.
        issuer.name_tokens(|request| request.at.as_millis().to_string());
        let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(seed).build();
        source.warm_up().await.unwrap();
        Self { case, clock, issuer, source, step: case.step }
    }

    fn now(&self) -> u64 {
        in_ms(self.clock.passed())
    }

    fn last_minted(&self) -> u64 {
        in_ms(self.issuer.last_minted_at().unwrap())
    }

    fn usable_until(&self) -> u64 {
        self.last_minted() + self.case.usable_for
    }

    /// A request. While the newest token is usable, it must get a usable token without a wait. After that it must never get
    /// the old token.
    async fn request(&self) -> Result<(), Error> {
        let now = self.now();
        let usable = now < self.usable_until();
        let context = || format!("a lifetime of {} ms, at {now} ms", self.case.lifetime);
        let response = if usable {
            let at_once = self.source.token().now_or_never();
            at_once.unwrap_or_else(|| panic!("a request waits beside a usable token: {}", context()))
        } else {
            self.source.token().await
        };
        match &response {
            Ok(token) => {
                let minted: u64 = token.expose_secret().parse().unwrap();
                assert!(now < minted + self.case.usable_for, "stamped after usable_until: {}", context());
            }
            Err(error) => {
                assert!(!usable, "a usable token was removed: {}: {error}", context());
                assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{}", context());
            }
        }
        // An early refresh starts before the clock advances.
        tokio::task::yield_now().await;
        response.map(drop)
    }

    /// Requests until `end`: a few while the newest token is far from its window, then one per step.
    async fn requests_until(&self, end: u64) {
        loop {
            let now = self.now();
            let window_at = self.last_minted() + self.case.window_at;
            let sparse = (now + self.case.lifetime / 20).min(window_at);
            let next = sparse.max(now + self.step).min(end);
            if now >= end {
                return;
            }
            self.clock.go_to(ms(next)).await;
            if next < end {
                self.request().await.unwrap();
            }
        }
    }

    /// The worst start of an outage: the first refresh is the first token request that fails.
    async fn down_at_the_first_refresh(&self) {
        self.clock.go_to(ms(self.case.window_at)).await;
        self.issuer.set_down(true);
        self.request().await.unwrap();
        while self.issuer.last_failed_at().is_none() {
            self.clock.go_to(ms(self.now() + self.step)).await;
            self.request().await.unwrap();
        }
    }

    /// The issuer is down from now on. Returns how long an outage may last without a failed request, in ms.
    async fn survive(&self) -> u64 {
        let from = self.now();
        self.issuer.set_down(true);
        let end = self.usable_until();
        self.request().await.unwrap();
        self.requests_until(end).await;
        let last_try = in_ms(self.issuer.last_failed_at().unwrap());
        // The token is not usable any more: requests fail, with the time until the next try.
        for _ in 0..3 {
            let error = self.request().await.unwrap_err();
            let backoff = error.retry_after().unwrap();
            assert!(backoff <= Duration::from_secs(30), "{backoff:?} to the next try");
            self.clock.go_to(self.clock.passed() + backoff + ms(1)).await;
        }
        self.issuer.set_down(false);
        self.clock.go_to(self.clock.passed() + Duration::from_secs(31)).await;
        self.request().await.unwrap();
        last_try - from
    }
}

/// The seconds of a lifetime at which the outage starts. For a long lifetime not all of them: before the window there is no
/// token request (which is asserted), so all outages that start there are equal.
fn outage_starts(case: &Case) -> Vec<u64> {
    let seconds = 0..case.usable_for / 1_000;
    let all = case.lifetime <= 1_800_000;
    let near = |second: &u64| {
        let at = second * 1_000;
        at < 5_000 || at + 5_000 > case.window_at && at < case.window_at + 130_000 || at + 60_000 > case.usable_for
    };
    seconds.filter(|second| all || near(second) || second % 307 == 0).collect()
}

/// The table of `docs/outage.md`: by lifetime in s, the outage that every seed and that half of the seeds survive, in s.
fn documented() -> BTreeMap<u64, (u64, u64)> {
    let page = include_str!("../../docs/outage.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = |at: usize| cells.get(at)?.strip_suffix(" s")?.replace(' ', "").parse::<u64>().ok();
        Some((number(0)?, (number(3)?, number(4)?)))
    });
    rows.collect()
}

async fn check_every_second(cases: &'static [Case]) {
    let documented = documented();
    for case in cases {
        let mut shortest = u64::MAX;
        for second in outage_starts(case) {
            let mut world = World::new(case, second).await;
            // Fewer requests than for the measured table, because there are many starts.
            world.step *= 4;
            world.requests_until(second * 1_000).await;
            if second * 1_000 < case.window_at {
                assert_eq!(world.issuer.minted(), 1, "no token request before the window");
            }
            shortest = shortest.min(world.survive().await);
        }
        let (every, _) = documented[&(case.lifetime / 1_000)];
        assert!(
            shortest + 2 * 4 * case.step >= every * 1_000,
            "a token of {} s survived {shortest} ms, {every} s are documented",
            case.lifetime / 1_000
        );
    }
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_a_short_lifetime_fails_no_request_until_usable_until() {
    check_every_second(&CASES[..6]).await;
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_half_an_hour_fails_no_request_until_usable_until() {
    check_every_second(&CASES[6..7]).await;
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_a_long_lifetime_fails_no_request_until_usable_until() {
    check_every_second(&CASES[7..]).await;
}

// R44
#[tokio::test(start_paused = true)]
async fn the_documented_table_of_survived_outages_is_measured() {
    let mut measured = BTreeMap::new();
    for case in &CASES {
        let mut survived = Vec::new();
        for seed in 0..SEEDS {
            let world = World::new(case, seed).await;
            world.down_at_the_first_refresh().await;
            survived.push(world.survive().await);
        }
        survived.sort_unstable();
        measured.insert(case.lifetime / 1_000, (survived[0] / 1_000, survived[survived.len() / 2] / 1_000));
    }
    assert_eq!(documented(), measured, "docs/outage.md has other values");
}

// R44
#[tokio::test(start_paused = true)]
async fn an_outage_no_longer_than_documented_fails_no_request() {
    let documented = documented();
    for case in &CASES {
        let (every, _) = documented[&(case.lifetime / 1_000)];
        for seed in 0..SEEDS / 5 {
            let world = World::new(case, seed).await;
            world.down_at_the_first_refresh().await;
            world.requests_until(world.now() + every * 1_000).await;
            world.issuer.set_down(false);
            world.requests_until(case.lifetime).await;
            assert_eq!(world.issuer.minted(), 2, "{} s, seed {seed}", case.lifetime / 1_000);
        }
    }
}
