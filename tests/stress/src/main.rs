//! Random operations on one source from many threads and runtimes. Each step is checked against the promises of the crate.
//!
//!     stress seconds 60        for so long
//!     stress requests 1000000  so many requests
//!
//! A second pair `seed N` sets the first seed. A source with its issuer, its API and its threads is called a world here.
//! Each world has a configuration that its seed determines, and lasts some seconds at most. The threads make a run
//! different each time.

mod api;
mod caller;
mod clock;
mod counts;
mod issuer;
mod telemetry;
mod world;

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use counts::Counts;
use world::{Config, World};

const FLOORS: &str = include_str!("../floor");

/// How long a world lasts at most, and how many requests it has.
const TIME: Duration = Duration::from_secs(2);
const REQUESTS: i64 = 200_000;

/// How many worlds a run of a given number of requests has at least. A few worlds have too few configurations: in one of them an
/// operation can be a hundred times as frequent as in another.
const WORLDS: i64 = 40;

/// A request that takes longer than this hangs. No wait takes longer than 2 seconds.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// The world that runs.
static CURRENT: Mutex<Option<Arc<World>>> = Mutex::new(None);

/// Reports a broken promise and ends the process.
fn violation(what: &str) -> ! {
    let world = CURRENT.try_lock_for(Duration::from_secs(1)).and_then(|world| world.clone());
    eprintln!("stress: {what}\nstress: in {world:?}");
    exit(1);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    let (seconds, requests) = (number("seconds"), number("requests"));
    let most = requests.map_or(REQUESTS, |requests| REQUESTS.min(requests as i64 / WORLDS + 1));
    if seconds.is_some() == requests.is_some() {
        eprintln!("stress: usage: stress seconds N | requests N [seed N]");
        exit(2);
    }
    let first = number("seed").unwrap_or_else(|| fastrand::u64(..1 << 32));
    telemetry::install();
    thread::spawn(watch);
    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let mut worlds = 0;
    loop {
        let time =
            seconds.map_or(TIME, |seconds| Duration::from_secs(seconds).saturating_sub(began.elapsed()).min(TIME));
        let left =
            requests.map_or(REQUESTS, |requests| requests as i64 - counts.requests.load(Ordering::Relaxed) as i64);
        if time.is_zero() || left <= 0 {
            break;
        }
        world::run(Config::random(first + worlds), &counts, time, most.min(left));
        worlds += 1;
    }
    print!("{counts}");
    println!("stress: {worlds} worlds from seed {first}, {} s, no broken promise", began.elapsed().as_secs());
    let below = counts.below(FLOORS, seconds);
    if !below.is_empty() {
        eprintln!("stress: fewer than in tests/stress/floor: {}", below.join("; "));
        exit(1);
    }
}

/// Ends the process if a request hangs.
fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let world = CURRENT.lock().clone();
        if let Some(longest) = world.map(|world| world.longest_step()).filter(|longest| *longest > HANGS_AFTER) {
            violation(&format!("a request has not ended after {longest:?}"));
        }
    }
}
