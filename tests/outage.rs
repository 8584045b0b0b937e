//! An issuer that goes down at every second of a token's life, in virtual time.
//!
//! What is stamped is judged by what the issuer minted and when, and by ends written out by hand from the rules.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/virtual_time.rs"]
mod virtual_time;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tower_bearer_auth::{Error, ErrorKind, FetchContext, IssuedToken, TokenProvider, TokenSource};

use virtual_time::Paused;

/// A lifetime, and what the rules make of it; all in ms.
struct Life {
    lifetime: u64,
    /// The window's earliest start.
    window_at: u64,
    usable_end: u64,
    /// How far requests lie apart once the token nears its window, where the table is measured.
    step: u64,
}

/// By hand: window = min(L/2, 20 min), margin = min(30 s, L/4).
const LIVES: [Life; 12] = [
    Life { lifetime: 10_000, window_at: 5_000, usable_end: 7_500, step: 100 },
    Life { lifetime: 30_000, window_at: 15_000, usable_end: 22_500, step: 100 },
    Life { lifetime: 60_000, window_at: 30_000, usable_end: 45_000, step: 100 },
    Life { lifetime: 120_000, window_at: 60_000, usable_end: 90_000, step: 500 },
    Life { lifetime: 300_000, window_at: 150_000, usable_end: 270_000, step: 1_000 },
    Life { lifetime: 600_000, window_at: 300_000, usable_end: 570_000, step: 1_000 },
    Life { lifetime: 1_800_000, window_at: 900_000, usable_end: 1_770_000, step: 1_000 },
    Life { lifetime: 2_400_000, window_at: 1_200_000, usable_end: 2_370_000, step: 1_000 },
    Life { lifetime: 3_600_000, window_at: 2_400_000, usable_end: 3_570_000, step: 1_000 },
    Life { lifetime: 7_200_000, window_at: 6_000_000, usable_end: 7_170_000, step: 1_000 },
    Life { lifetime: 43_200_000, window_at: 42_000_000, usable_end: 43_170_000, step: 1_000 },
    Life { lifetime: 86_400_000, window_at: 85_200_000, usable_end: 86_370_000, step: 1_000 },
];

const SEEDS: u64 = 200;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Mints at once or fails at once, and writes down when. The secret is the ms at which it was minted.
#[derive(Clone)]
struct Issuer {
    clock: Paused,
    lifetime: u64,
    down: Arc<AtomicBool>,
    minted: Arc<Mutex<Vec<u64>>>,
    failed: Arc<Mutex<Vec<u64>>>,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let now = passed(&self.clock);
        if self.down.load(Ordering::Relaxed) {
            self.failed.lock().push(now);
            return Err(Error::transient("connection refused").with_kind(ErrorKind::Unavailable));
        }
        self.minted.lock().push(now);
        Ok(IssuedToken::bearer(now.to_string())?.expires_in(ms(self.lifetime)))
    }
}

fn passed(clock: &Paused) -> u64 {
    u64::try_from(clock.passed().as_millis()).unwrap()
}

struct World {
    life: &'static Life,
    clock: Paused,
    issuer: Issuer,
    source: TokenSource<Issuer>,
    /// How far requests lie apart once the token nears its window.
    step: u64,
}

impl World {
    async fn new(life: &'static Life, seed: u64) -> Self {
        let clock = Paused::start();
        let issuer = Issuer {
            clock,
            lifetime: life.lifetime,
            down: Arc::default(),
            minted: Arc::default(),
            failed: Arc::default(),
        };
        let source = TokenSource::builder(issuer.clone()).clock(clock).jitter_seed(seed).build();
        source.warm_up().await.unwrap();
        Self { life, clock, issuer, source, step: life.step }
    }

    fn now(&self) -> u64 {
        passed(&self.clock)
    }

    fn last_minted(&self) -> u64 {
        *self.issuer.minted.lock().last().unwrap()
    }

    fn is_down(&self, down: bool) {
        self.issuer.down.store(down, Ordering::Relaxed);
    }

    fn usable_until(&self) -> u64 {
        self.last_minted() + self.life.usable_end
    }

    /// A request. While the newest token is usable it must be answered without waiting, with a usable token; past that it
    /// is never answered with a token of before.
    async fn request(&self) -> Result<(), Error> {
        let now = self.now();
        let usable = now < self.usable_until();
        let case = || format!("{} ms of life, seen at {now} ms", self.life.lifetime);
        let answer = if usable {
            let at_once = self.source.token().now_or_never();
            at_once.unwrap_or_else(|| panic!("a request waits beside a usable token: {}", case()))
        } else {
            self.source.token().await
        };
        match &answer {
            Ok(token) => {
                let minted: u64 = token.expose_secret().parse().unwrap();
                assert!(now < minted + self.life.usable_end, "stamped past its usable end: {}", case());
            }
            Err(error) => {
                assert!(!usable, "a usable token was taken away: {}: {error}", case());
                assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{}", case());
            }
        }
        // An early flight departs before the clock goes on.
        tokio::task::yield_now().await;
        answer.map(drop)
    }

    /// Requests until `end`: sparse while the newest token is far from its window, then at every step.
    async fn requests_until(&self, end: u64) {
        loop {
            let now = self.now();
            let window_at = self.last_minted() + self.life.window_at;
            let sparse = (now + self.life.lifetime / 20).min(window_at);
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

    /// The worst moment for an outage to begin: the first renewal is the first to fail.
    async fn down_at_the_first_renewal(&self) {
        self.clock.go_to(ms(self.life.window_at)).await;
        self.is_down(true);
        self.request().await.unwrap();
        while self.issuer.failed.lock().is_empty() {
            self.clock.go_to(ms(self.now() + self.step)).await;
            self.request().await.unwrap();
        }
    }

    /// The issuer is down from now on. How long an outage may have lasted without anyone noticing, in ms.
    async fn survive(&self) -> u64 {
        let from = self.now();
        self.is_down(true);
        let end = self.usable_until();
        self.request().await.unwrap();
        self.requests_until(end).await;
        let last_try = self.issuer.failed.lock().last().copied().unwrap();
        // The token has ended: nobody is stamped with it, and everyone is told when to come back.
        for _ in 0..3 {
            let error = self.request().await.unwrap_err();
            let pause = error.retry_after().unwrap();
            assert!(pause <= Duration::from_secs(30), "{pause:?} to the next try");
            self.clock.go_to(self.clock.passed() + pause + ms(1)).await;
        }
        self.is_down(false);
        self.clock.go_to(self.clock.passed() + Duration::from_secs(31)).await;
        self.request().await.unwrap();
        last_try - from
    }
}

/// The seconds of a life at which the outage begins. All of them, unless the life is long: then no token request is made
/// before the window, which is asserted, and an outage that begins there is the same outage from wherever it begins.
fn starts(life: &Life) -> Vec<u64> {
    let seconds = 0..life.usable_end / 1_000;
    let all = life.lifetime <= 1_800_000;
    let near = |second: &u64| {
        let at = second * 1_000;
        at < 5_000 || at + 5_000 > life.window_at && at < life.window_at + 130_000 || at + 60_000 > life.usable_end
    };
    seconds.filter(|second| all || near(second) || second % 307 == 0).collect()
}

/// What `docs/outage.md` says: the outage survived by each seed and by half of them, in s, by lifetime in s.
fn documented() -> BTreeMap<u64, (u64, u64)> {
    let page = include_str!("../docs/outage.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = |at: usize| cells.get(at)?.strip_suffix(" s")?.replace(' ', "").parse::<u64>().ok();
        Some((number(0)?, (number(3)?, number(4)?)))
    });
    rows.collect()
}

async fn walk(lives: &'static [Life]) {
    let documented = documented();
    for life in lives {
        let mut shortest = u64::MAX;
        for second in starts(life) {
            let mut world = World::new(life, second).await;
            // Fewer requests than where the table is measured: there are many walks.
            world.step *= 4;
            world.requests_until(second * 1_000).await;
            if second * 1_000 < life.window_at {
                assert_eq!(world.issuer.minted.lock().len(), 1, "no token request before the window");
            }
            shortest = shortest.min(world.survive().await);
        }
        let (every, _) = documented[&(life.lifetime / 1_000)];
        assert!(
            shortest + 2 * 4 * life.step >= every * 1_000,
            "a token of {} s survived {shortest} ms, {every} s are documented",
            life.lifetime / 1_000
        );
    }
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_a_short_life_is_invisible_until_the_usable_end() {
    walk(&LIVES[..6]).await;
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_half_an_hour_is_invisible_until_the_usable_end() {
    walk(&LIVES[6..7]).await;
}

// R38, R40, R44
#[tokio::test(start_paused = true)]
async fn an_outage_at_any_second_of_a_long_life_is_invisible_until_the_usable_end() {
    walk(&LIVES[7..]).await;
}

// R44
#[tokio::test(start_paused = true)]
async fn the_documented_table_of_outages_survived_is_what_is_measured() {
    let mut measured = BTreeMap::new();
    for life in &LIVES {
        let mut survived = Vec::new();
        for seed in 0..SEEDS {
            let world = World::new(life, seed).await;
            world.down_at_the_first_renewal().await;
            survived.push(world.survive().await);
        }
        survived.sort_unstable();
        measured.insert(life.lifetime / 1_000, (survived[0] / 1_000, survived[survived.len() / 2] / 1_000));
    }
    assert_eq!(documented(), measured, "docs/outage.md says something else");
}

// R44
#[tokio::test(start_paused = true)]
async fn an_outage_no_longer_than_documented_is_never_noticed() {
    let documented = documented();
    for life in &LIVES {
        let (every, _) = documented[&(life.lifetime / 1_000)];
        for seed in 0..SEEDS / 5 {
            let world = World::new(life, seed).await;
            world.down_at_the_first_renewal().await;
            world.requests_until(world.now() + every * 1_000).await;
            world.is_down(false);
            world.requests_until(life.lifetime).await;
            assert_eq!(world.issuer.minted.lock().len(), 2, "{} s, seed {seed}", life.lifetime / 1_000);
        }
    }
}
