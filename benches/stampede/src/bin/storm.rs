//! Many tasks that need a token at the same moment while none is cached: token requests, the last result, CPU.
//!
//! Real time, two worker threads. Half of the tasks are spawned on each thread. The time starts before the first task, and the
//! requests are created before that. If a task starts after the issuer has responded, the round does not count: a late task uses
//! the cache, or may come after the backoff of a failure. Such a round is repeated. On a machine that is too busy the round
//! counts after some repeats, and the output says how many rounds did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use stampede::{Api, HALF_AN_HOUR, Issuer, LATENCY};
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::TokenSource;
use tower_layer::Layer;
use tower_service::Service;

const ROUNDS: usize = 5;
const MOST_TRIES: usize = 3 * ROUNDS;
const MARK: Duration = Duration::from_millis(450);

struct Storm {
    token_requests: u64,
    ran: Ran,
}

/// Times since the first task was spawned.
struct Ran {
    served: u64,
    last_started: Duration,
    last_finished: Duration,
    cpu: Duration,
}

/// The latest of many points in time.
#[derive(Clone, Default)]
struct Latest(Arc<AtomicU64>);

impl Latest {
    fn record(&self, start: Instant) {
        let at = u64::try_from(start.elapsed().as_nanos()).expect("a short time");
        self.0.fetch_max(at, Ordering::Relaxed);
    }

    fn read(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).expect("forward"), u32::try_from(spent.tv_nsec).expect("below a second"))
}

/// Spawns a task for each input. The task awaits the future that `wait` returns.
fn spawn_all<I, W>(runtime: &Runtime, mut inputs: Vec<I>, wait: impl Fn(I) -> W + Clone + Send + 'static) -> Ran
where
    I: Send + 'static,
    W: Future<Output = bool> + Send + 'static,
{
    let (started, finished) = (Latest::default(), Latest::default());
    let half = inputs.split_off(inputs.len() / 2);
    let (start, spent) = (Instant::now(), cpu());
    let spawners = [inputs, half].map(|inputs| {
        let (wait, started, finished) = (wait.clone(), started.clone(), finished.clone());
        runtime.spawn(async move {
            let mut tasks = Vec::with_capacity(inputs.len());
            for input in inputs {
                let (wait, started, finished) = (wait(input), started.clone(), finished.clone());
                tasks.push(tokio::spawn(async move {
                    started.record(start);
                    let served = wait.await;
                    finished.record(start);
                    u64::from(served)
                }));
            }
            tasks
        })
    });
    let served = runtime.block_on(async {
        let mut served = 0;
        for spawner in spawners {
            for task in spawner.await.expect("no panic") {
                served += task.await.expect("no panic");
            }
        }
        served
    });
    Ran { served, last_started: started.read(), last_finished: finished.read(), cpu: cpu() - spent }
}

/// `patience` is 0, so one failure ends the wait of each task.
fn source_of(issuer: &Issuer) -> TokenSource<Issuer> {
    TokenSource::builder(issuer.clone()).patience(Duration::ZERO).build()
}

fn source_alone(runtime: &Runtime, waiters: usize, up: bool) -> Storm {
    let issuer = Issuer::new(LATENCY, HALF_AN_HOUR, up);
    let source = source_of(&issuer);
    let shared = source.clone();
    let ran = spawn_all(runtime, vec![(); waiters], move |()| {
        let token = shared.token();
        async move { token.await.is_ok() }
    });
    assert_eq!(source.stats().fetches, issuer.requests(), "stats() agrees with the count of the issuer");
    Storm { token_requests: issuer.requests(), ran }
}

fn through_the_layer(runtime: &Runtime, waiters: usize, up: bool) -> Storm {
    let (issuer, api) = (Issuer::new(LATENCY, HALF_AN_HOUR, up), Api::default());
    let source = source_of(&issuer);
    let service = stampede::layer(&source).layer(api.clone());
    let requests = (0..waiters).map(|_| stampede::request()).collect();
    let ran = spawn_all(runtime, requests, move |request| {
        let mut service = service.clone();
        async move { service.call(request).await.is_ok() }
    });
    assert_eq!(api.received(), ran.served, "each served request arrived");
    assert_eq!(source.stats().fetches, issuer.requests(), "stats() agrees with the count of the issuer");
    Storm { token_requests: issuer.requests(), ran }
}

/// The cost of the tasks without a token.
fn no_token_at_all(runtime: &Runtime, waiters: usize, _: bool) -> Storm {
    let ran = spawn_all(runtime, vec![(); waiters], |()| async {
        tokio::time::sleep(LATENCY).await;
        true
    });
    Storm { token_requests: 0, ran }
}

type Way = fn(&Runtime, usize, bool) -> Storm;

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn main() {
    let ways: [(&str, Way, bool, u64); 5] = [
        ("`sleep` for as long, no token", no_token_at_all, true, 0),
        ("`source.token()`, success", source_alone, true, 1),
        ("`source.token()`, failure", source_alone, false, 1),
        ("layer, success", through_the_layer, true, 1),
        ("layer, failure", through_the_layer, false, 1),
    ];
    println!(
        "| waiters | way | token requests | served | last start | last result, median | best | worst | CPU per waiter |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let (mut missed, mut with_late_tasks) = (Vec::new(), 0);
    for waiters in [1_000, 10_000, 100_000] {
        for (name, way, up, expected) in ways {
            let mut storms = Vec::new();
            for tried in 1.. {
                // A new runtime, so that no round inherits threads or timers.
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
                let storm = way(&runtime, waiters, up);
                let late = storm.ran.last_started >= LATENCY;
                if late && tried <= MOST_TRIES - ROUNDS + storms.len() {
                    continue;
                }
                with_late_tasks += usize::from(late);
                let token_requests = storm.token_requests;
                assert!(token_requests == expected || (late && !up), "{name}: {token_requests} token requests");
                assert_eq!(storm.ran.served, if up { waiters as u64 } else { 0 }, "{name}: served");
                storms.push(storm);
                if storms.len() == ROUNDS {
                    break;
                }
            }
            storms.sort_by_key(|storm| storm.ran.last_finished);
            let (best, median, worst) = (&storms[0].ran, &storms[ROUNDS / 2].ran, &storms[ROUNDS - 1].ran);
            println!(
                "| {waiters} | {name} | {} | {} | {} | {} | {} | {} | {:.2} µs |",
                storms.iter().map(|storm| storm.token_requests).max().unwrap_or(0),
                median.served,
                milliseconds(median.last_started),
                milliseconds(median.last_finished),
                milliseconds(best.last_finished),
                milliseconds(worst.last_finished),
                median.cpu.as_secs_f64() * 1e6 / waiters as f64,
            );
            if expected > 0 && median.last_finished > MARK {
                missed.push(format!("{waiters} waiters, {name}"));
            }
        }
    }
    println!();
    println!("{ROUNDS} rounds of each, {with_late_tasks} of them with late tasks");
    println!("mark: one token request: met in all rounds without late tasks; otherwise the program would have stopped");
    let verdict = if missed.is_empty() { "met".to_owned() } else { format!("missed by {}", missed.join("; ")) };
    println!("mark: the last result, median, within {} ms: {verdict}", MARK.as_millis());
}
