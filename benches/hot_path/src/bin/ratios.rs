//! Times of a stamped request and their ratios, by the number of headers and of threads. The samples of all ways alternate. A
//! ratio is computed within a round. The tables have its median and its quartiles.
//!
//!     ratios [FILE]    FILE gets the medians and the quartiles, for the plots

use std::fmt::Write as _;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hot_path::{Bare, Head, Plain, STAMP, Sink, SinkResponse};
use http::Request;
use tower_bearer_auth::replay;
use tower_layer::Layer;
use tower_service::Service;

const ROUNDS: usize = 201;
const CALLS: usize = 1_000;
/// For each thread, so that the threads run at the same time for most of a sample.
const CALLS_OF_THREADS: usize = 4_000;
const ROUNDS_OF_THREADS: usize = 101;
/// How often a sample is repeated, and which part of it all threads must have run at the same time.
const TRIES: usize = 1_000;
const TOGETHER: f64 = 0.9;
const HEADERS: [usize; 5] = [2, 5, 10, 15, 20];
const THREADS: [usize; 2] = [1, 2];

fn main() {
    let mut plotted = String::new();
    by_headers(&mut plotted);
    by_threads(&mut plotted);
    if let Some(file) = std::env::args().nth(1) {
        std::fs::write(file, plotted).expect("the file can be written");
    }
}

/// Sends many requests. Only `run` is measured.
trait Batch {
    fn prepare(&mut self, head: Head, calls: usize);
    fn run(&mut self);
}

struct Way {
    name: &'static str,
    /// Called in the thread that sends.
    make: Box<dyn Fn() -> Box<dyn Batch> + Sync>,
}

/// One service for all requests.
struct Alone<S> {
    service: S,
    requests: Vec<Request<Plain>>,
}

/// A clone of the service for each request.
struct Clones<S> {
    service: S,
    requests: Vec<Request<Plain>>,
}

impl<S: Service<Request<Plain>, Response = SinkResponse, Error: std::fmt::Debug>> Batch for Alone<S> {
    fn prepare(&mut self, head: Head, calls: usize) {
        self.requests.extend((0..calls).map(|_| head.empty()));
    }

    fn run(&mut self) {
        for request in self.requests.drain(..) {
            black_box(hot_path::send(&mut self.service, request));
        }
    }
}

impl<S: Service<Request<Plain>, Response = SinkResponse, Error: std::fmt::Debug> + Clone> Batch for Clones<S> {
    fn prepare(&mut self, head: Head, calls: usize) {
        self.requests.extend((0..calls).map(|_| head.empty()));
    }

    fn run(&mut self) {
        for request in self.requests.drain(..) {
            black_box(hot_path::send(&mut self.service.clone(), request));
        }
    }
}

fn alone<L>(name: &'static str, layer: L, stamp: Option<&'static str>) -> Way
where
    L: Layer<Sink>,
    L::Service: Service<Request<Plain>, Response = SinkResponse, Error: std::fmt::Debug> + Clone + Sync + 'static,
{
    let service = hot_path::checked(&layer, Head::Headers(2).empty(), stamp);
    Way { name, make: Box::new(move || Box::new(Alone { service: service.clone(), requests: Vec::new() })) }
}

fn clones<L>(name: &'static str, layer: L) -> Way
where
    L: Layer<Sink>,
    L::Service: Service<Request<Plain>, Response = SinkResponse, Error: std::fmt::Debug> + Clone + Sync + 'static,
{
    let service = hot_path::checked(&layer, Head::Headers(2).empty(), Some(STAMP));
    Way { name, make: Box::new(move || Box::new(Clones { service: service.clone(), requests: Vec::new() })) }
}

fn by_headers(plotted: &mut String) {
    let ways = [
        alone("no layer", Bare, None),
        alone("static header", hot_path::fixed(), Some(STAMP)),
        alone("replay off", hot_path::ours().bodies(replay::Off), Some(STAMP)),
        alone("default", hot_path::ours(), Some(STAMP)),
    ];
    let mut batches: Vec<_> = ways.iter().map(|way| (way.make)()).collect();
    println!("| headers | way | median | ratio to the static header |\n| ---: | --- | ---: | ---: |");
    for headers in HEADERS {
        let mut times = vec![Vec::with_capacity(ROUNDS); ways.len()];
        // The first round is a warm-up.
        for round in 0..=ROUNDS {
            for (batch, times) in batches.iter_mut().zip(&mut times) {
                batch.prepare(Head::Headers(headers), CALLS);
                let start = Instant::now();
                batch.run();
                let took = start.elapsed().as_nanos() as f64 / CALLS as f64;
                if round > 0 {
                    times.push(took);
                }
            }
        }
        for (way, of_way) in ways.iter().zip(&times) {
            let ratio = Quartiles::of_ratios(of_way, &times[1]);
            report(plotted, "headers", headers, way.name, &Quartiles::of(of_way.clone()), &ratio);
        }
    }
}

fn by_threads(plotted: &mut String) {
    let ways = [
        alone("static header", hot_path::fixed(), Some(STAMP)),
        alone("default", hot_path::ours(), Some(STAMP)),
        clones("static header, cloned", hot_path::fixed()),
        clones("default, cloned", hot_path::ours()),
    ];
    // By way and number of threads.
    let mut times = vec![[const { Vec::new() }; THREADS.len()]; ways.len()];
    for round in 0..=ROUNDS_OF_THREADS {
        for (way, times) in ways.iter().zip(&mut times) {
            for (threads, times) in THREADS.into_iter().zip(times) {
                let took = with_threads(way, threads);
                if round > 0 {
                    times.push(took);
                }
            }
        }
    }
    println!("\n| threads | way | median | ratio to one thread |\n| ---: | --- | ---: | ---: |");
    for (turn, threads) in THREADS.into_iter().enumerate() {
        for (way, times) in ways.iter().zip(&times) {
            let ratio = Quartiles::of_ratios(&times[turn], &times[0]);
            report(plotted, "threads", threads, way.name, &Quartiles::of(times[turn].clone()), &ratio);
        }
    }
}

/// The mean time of a request in one thread, while as many threads send. A sample does not count if the threads did not run at the
/// same time, because another program had a core. It is repeated.
fn with_threads(way: &Way, threads: usize) -> f64 {
    for _ in 0..TRIES {
        let times = sample(way, threads);
        let (mut first, mut last) = (times[0].0, times[0].1);
        let (mut begun, mut ended) = (first, last);
        for (start, end) in times.iter().copied() {
            (first, begun) = (first.min(start), begun.max(start));
            (ended, last) = (ended.min(end), last.max(end));
        }
        if ended.saturating_duration_since(begun) >= (last - first).mul_f64(TOGETHER) {
            let sum: Duration = times.iter().map(|(start, end)| *end - *start).sum();
            return sum.as_nanos() as f64 / (threads * CALLS_OF_THREADS) as f64;
        }
    }
    panic!("{}: {threads} threads never ran at the same time", way.name);
}

/// When each thread began and ended.
fn sample(way: &Way, threads: usize) -> Vec<(Instant, Instant)> {
    let ready = AtomicUsize::new(0);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut batch = (way.make)();
                    batch.prepare(Head::Headers(2), CALLS_OF_THREADS);
                    // A barrier that sleeps would start the threads one after the other.
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < threads {
                        spin_loop();
                    }
                    let start = Instant::now();
                    batch.run();
                    (start, Instant::now())
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

struct Quartiles {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
        Self { lower: at(1), median: at(2), upper: at(3) }
    }

    /// Of values to others of the same rounds.
    fn of_ratios(values: &[f64], others: &[f64]) -> Self {
        Self::of(values.iter().zip(others).map(|(value, other)| value / other).collect())
    }
}

fn report(plotted: &mut String, what: &str, count: usize, way: &str, time: &Quartiles, ratio: &Quartiles) {
    let Quartiles { lower, median, upper } = ratio;
    println!("| {count} | {way} | {:.0} ns | {median:.2} ({lower:.2} to {upper:.2}) |", time.median);
    let Quartiles { lower, median, upper } = time;
    let _ = writeln!(plotted, "{what}\t{way}\t{count}\t{lower:.1}\t{median:.1}\t{upper:.1}");
}
