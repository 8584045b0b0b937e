//! A fleet whose processes share one token through a store, in virtual time.
//!
//! Each process is a task with a [`TokenSource`] of its own. It sends a request every 20 s to 60 s. The issuer counts the token
//! requests. The store counts its calls in each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tower_bearer_auth::shared::{
    Claim, Identity, MemoryStore, Outcome, SealingKey, Shareable, Shared, StoreError, TokenStore,
};
use tower_bearer_auth::{Error, FetchContext, IssuedToken, TokenProvider, TokenSource};

use crate::world::LIFETIME;

/// Two hours. Then an outage of the issuer that no token outlives, and ten minutes.
const QUIET: Duration = Duration::from_secs(2 * 3_600);
const DAY: Duration = Duration::from_secs(3 * 3_600);
/// From the start to the end of what counts as the cold start.
const COLD: Duration = Duration::from_secs(19);
/// In an outage every process looks into the store about once a second, so the fleet is this many times smaller there.
const SMALLER: u32 = 50;
const OUTAGE: (Duration, Duration) = (Duration::from_secs(7_200), Duration::from_secs(7_200 + 3_000));

#[derive(Clone)]
struct Issuer {
    started: Instant,
    latency: Duration,
    requests: Arc<Mutex<Vec<Duration>>>,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let at = self.started.elapsed();
        let number = {
            let mut requests = self.requests.lock();
            requests.push(at);
            requests.len()
        };
        sleep(self.latency).await;
        if (OUTAGE.0..OUTAGE.1).contains(&at) {
            return Err(Error::transient("the issuer is down"));
        }
        Ok(IssuedToken::bearer(format!("token-{number}"))?.expires_in(LIFETIME))
    }
}

impl Shareable for Issuer {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        Ok(Identity::new("https://issuer.example/token").field("client", "orders").credential("secret"))
    }
}

/// A store in memory. It serves a number of calls a second, each after a millisecond. A call waits for those before it.
#[derive(Clone)]
struct Server {
    memory: MemoryStore,
    /// The time for one call, and when the server is free again. `None`: it serves any number of calls at once.
    limit: Option<(Duration, Arc<Mutex<Instant>>)>,
    started: Instant,
    calls: Arc<Mutex<Vec<u32>>>,
}

impl Server {
    async fn serve(&self) {
        let second = usize::try_from(self.started.elapsed().as_secs()).expect("some hours");
        {
            let mut calls = self.calls.lock();
            if calls.len() <= second {
                calls.resize(second + 1, 0);
            }
            calls[second] += 1;
        }
        if let Some((time, free_at)) = &self.limit {
            let done = {
                let mut free_at = free_at.lock();
                *free_at = (*free_at).max(Instant::now()) + *time;
                *free_at
            };
            sleep_until(done + Duration::from_millis(1)).await;
        }
    }
}

impl TokenStore for Server {
    async fn claim(
        &self,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        self.serve().await;
        self.memory.claim(name, owner, ttl, seen).await
    }

    async fn publish(&self, name: &str, owner: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        self.serve().await;
        self.memory.publish(name, owner, outcome).await
    }
}

/// What one fleet did.
struct Counts {
    cold_start: usize,
    /// From the cold start to the outage.
    steady: usize,
    outage: usize,
    after_outage: usize,
    calls_per_process: f64,
    busiest_second: u32,
}

fn run(replicas: u32, latency: Duration, claims_a_second: Option<u32>, day: Duration) -> Counts {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let started = Instant::now();
        let issuer = Issuer { started, latency, requests: Arc::default() };
        let limit = claims_a_second.map(|calls| (Duration::from_secs(1) / calls, Arc::new(Mutex::new(started))));
        let server = Server { memory: MemoryStore::new(), limit, started, calls: Arc::default() };
        let key = SealingKey::new(std::array::from_fn(|at| at as u8)).expect("a key");
        let cold_calls = Arc::new(AtomicUsize::new(0));
        let mut fleet = tokio::task::JoinSet::new();
        for seed in 0..u64::from(replicas) {
            let shared =
                Shared::builder(issuer.clone(), server.clone()).sealing_key(key.clone()).build().expect("a key");
            let source = TokenSource::builder(shared).jitter_seed(seed).build();
            fleet.spawn(async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                while started.elapsed() < day {
                    let _ = source.token().await;
                    sleep(Duration::from_millis(rng.u64(20_000..60_000))).await;
                }
            });
        }
        let count_cold = {
            let (server, cold_calls) = (server.clone(), Arc::clone(&cold_calls));
            tokio::spawn(async move {
                sleep(COLD).await;
                let calls: u32 = server.calls.lock().iter().sum();
                cold_calls.store(calls as usize, Ordering::Relaxed);
            })
        };
        fleet.join_all().await;
        count_cold.await.expect("it counts");
        let requests = issuer.requests.lock().clone();
        let within = |from: Duration, until: Duration| requests.iter().filter(|at| (from..until).contains(*at)).count();
        Counts {
            cold_start: within(Duration::ZERO, COLD),
            steady: within(COLD, QUIET),
            outage: within(OUTAGE.0, OUTAGE.1),
            after_outage: within(OUTAGE.1, DAY),
            calls_per_process: cold_calls.load(Ordering::Relaxed) as f64 / f64::from(replicas),
            busiest_second: server.calls.lock().iter().copied().max().unwrap_or(0),
        }
    })
}

/// The store, the latency of the issuer in ms, and how many calls the store serves in a second.
const ROWS: [(&str, u64, Option<u32>); 3] = [
    ("any number of calls", 200, None),
    ("any number of calls", 3_000, None),
    ("50 000 calls a second, 1 ms", 200, Some(50_000)),
];

/// Prints the tables, and whether each mark is met.
pub fn table(replicas: u32) {
    println!();
    println!("{replicas} processes that start together and share one token, tokens of 30 min, 2 h:");
    println!();
    println!(
        "| store, issuer | token requests: cold start | in the 2 h | store calls per process at the cold start | store calls in the busiest second |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut marks = Vec::new();
    for (name, latency, limit) in ROWS {
        let counts = run(replicas, Duration::from_millis(latency), limit, QUIET);
        let Counts { cold_start, steady, calls_per_process, busiest_second, .. } = counts;
        let seconds = latency as f64 / 1_000.0;
        println!("| {name}, {seconds} s | {cold_start} | {steady} | {calls_per_process:.1} | {busiest_second} |");
        if limit.is_none() {
            let what = format!("{name}, {seconds} s");
            marks.push((format!("{what}: token requests at the cold start"), cold_start as f64, 1.0));
            marks.push((format!("{what}: token requests in the 2 h, 1 per (L - window)"), steady as f64, 8.0));
            let most = if latency == 200 { 4.0 } else { 11.0 };
            marks.push((format!("{what}: store calls per process"), calls_per_process, most));
        }
    }
    let fewer = replicas.div_ceil(SMALLER);
    println!();
    println!("{fewer} processes; the issuer is down for 50 min after the 2 h, and then 10 min:");
    println!();
    println!("| store, issuer | token requests: in the outage | after it | store calls in the busiest second |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, latency, limit) in ROWS {
        let Counts { outage, after_outage, busiest_second, .. } =
            run(fewer, Duration::from_millis(latency), limit, DAY);
        println!("| {name}, {} s | {outage} | {after_outage} | {busiest_second} |", latency as f64 / 1_000.0);
    }
    println!();
    println!("| mark, with a store | | at most | |");
    println!("| --- | ---: | ---: | --- |");
    for (what, value, most) in marks {
        println!("| {what} | {value:.1} | {most:.0} | {} |", if value <= most { "met" } else { "**missed**" });
    }
}
