//! Many tasks that need a token at the same moment, of which there is none: token requests, the last answer, CPU.
//!
//! Real time, two worker threads, on each of which half of the tasks are spawned. The clock starts before the first of them;
//! the requests are made before. A round in which somebody asked only after the issuer had answered was no storm: who comes
//! later is served from the cache, or may find the pause after a failure over. Such a round is repeated, but for a machine that
//! is too busy to do better, and then the table says so.

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

/// Times count from the first task's spawning.
struct Ran {
    served: u64,
    last_asked: Duration,
    last_answered: Duration,
    cpu: Duration,
}

/// The latest of many moments.
#[derive(Clone, Default)]
struct Latest(Arc<AtomicU64>);

impl Latest {
    fn note(&self, begun: Instant) {
        let at = u64::try_from(begun.elapsed().as_nanos()).expect("a short time");
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

/// A task for each input, which awaits what `wait` makes of it.
fn spawn_all<I, W>(runtime: &Runtime, mut inputs: Vec<I>, wait: impl Fn(I) -> W + Clone + Send + 'static) -> Ran
where
    I: Send + 'static,
    W: Future<Output = bool> + Send + 'static,
{
    let (asked, answered) = (Latest::default(), Latest::default());
    let half = inputs.split_off(inputs.len() / 2);
    let (begun, spent) = (Instant::now(), cpu());
    let spawners = [inputs, half].map(|inputs| {
        let (wait, asked, answered) = (wait.clone(), asked.clone(), answered.clone());
        runtime.spawn(async move {
            let mut tasks = Vec::with_capacity(inputs.len());
            for input in inputs {
                let (wait, asked, answered) = (wait(input), asked.clone(), answered.clone());
                tasks.push(tokio::spawn(async move {
                    asked.note(begun);
                    let served = wait.await;
                    answered.note(begun);
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
    Ran { served, last_asked: asked.read(), last_answered: answered.read(), cpu: cpu() - spent }
}

fn source_alone(runtime: &Runtime, waiters: usize, up: bool) -> Storm {
    let issuer = Issuer::new(LATENCY, HALF_AN_HOUR, up);
    let source = TokenSource::new(issuer.clone());
    let asked = source.clone();
    let ran = spawn_all(runtime, vec![(); waiters], move |()| {
        let token = asked.token();
        async move { token.await.is_ok() }
    });
    assert_eq!(source.stats().fetches, issuer.requests(), "stats() says what the issuer counted");
    Storm { token_requests: issuer.requests(), ran }
}

fn through_the_layer(runtime: &Runtime, waiters: usize, up: bool) -> Storm {
    let (issuer, api) = (Issuer::new(LATENCY, HALF_AN_HOUR, up), Api::default());
    let source = TokenSource::new(issuer.clone());
    let service = stampede::layer(&source).layer(api.clone());
    let requests = (0..waiters).map(|_| stampede::request()).collect();
    let ran = spawn_all(runtime, requests, move |request| {
        let mut service = service.clone();
        async move { service.call(request).await.is_ok() }
    });
    assert_eq!(api.seen(), ran.served, "as many arrived as were answered");
    assert_eq!(source.stats().fetches, issuer.requests(), "stats() says what the issuer counted");
    Storm { token_requests: issuer.requests(), ran }
}

/// What the tasks and the machine take by themselves.
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
        "| waiters | way | token requests | served | all had asked | last answer, median | best | worst | CPU a waiter |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let (mut missed, mut with_latecomers) = (Vec::new(), 0);
    for waiters in [1_000, 10_000, 100_000] {
        for (name, way, up, expected) in ways {
            let mut storms = Vec::new();
            for tried in 1.. {
                // A runtime of its own, so that none inherits the threads or the timers of the last.
                let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
                let storm = way(&runtime, waiters, up);
                let late = storm.ran.last_asked >= LATENCY;
                if late && tried <= MOST_TRIES - ROUNDS + storms.len() {
                    continue;
                }
                with_latecomers += usize::from(late);
                let token_requests = storm.token_requests;
                assert!(token_requests == expected || (late && !up), "{name}: {token_requests} token requests");
                assert_eq!(storm.ran.served, if up { waiters as u64 } else { 0 }, "{name}: served");
                storms.push(storm);
                if storms.len() == ROUNDS {
                    break;
                }
            }
            storms.sort_by_key(|storm| storm.ran.last_answered);
            let (best, median, worst) = (&storms[0].ran, &storms[ROUNDS / 2].ran, &storms[ROUNDS - 1].ran);
            println!(
                "| {waiters} | {name} | {} | {} | {} | {} | {} | {} | {:.2} µs |",
                storms.iter().map(|storm| storm.token_requests).max().unwrap_or(0),
                median.served,
                milliseconds(median.last_asked),
                milliseconds(median.last_answered),
                milliseconds(best.last_answered),
                milliseconds(worst.last_answered),
                median.cpu.as_secs_f64() * 1e6 / waiters as f64,
            );
            if expected > 0 && median.last_answered > MARK {
                missed.push(format!("{waiters} waiters, {name}"));
            }
        }
    }
    println!();
    println!("{ROUNDS} rounds of each, {with_latecomers} of them with latecomers");
    println!("mark: one token request: met where nobody came late, or this would have stopped");
    let verdict = if missed.is_empty() { "met".to_owned() } else { format!("missed by {}", missed.join("; ")) };
    println!("mark: the last answer, median, within {} ms: {verdict}", MARK.as_millis());
}
