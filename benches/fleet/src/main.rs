//! A day of 100 000 processes that share one issuer, in virtual time: token requests per second, as a table and a plot.
//!
//!     fleet [--shared] [REPLICAS [FILE.svg]]
//!
//! A second table is about a fleet that shares one token through a store. With `--shared` it is the only one.
//!
//! The default for REPLICAS is 100 000. A plot is drawn if there is a file name.

mod compact;
mod plot;
mod shared;
mod world;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use world::{Scenario, Settings};

/// The rules of `RefreshPolicy` for tokens of 30 min: the window is 15 min, and its start is random within its first tenth.
const WINDOW_AT: u32 = 900;
const JITTER: u32 = 90;
/// The `Retry-After` of an issuer that is down.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// What the rules can hold: at most one in so many processes fetches in the busiest second after an outage.
const WITHOUT_RETRY_AFTER: f64 = 13.0;
const WITH_RETRY_AFTER: f64 = 33.0;

/// The average time between two refreshes: the window's start, half of the jitter, and a second until the next request.
const REFRESH_PERIOD: Duration = Duration::from_secs((WINDOW_AT + JITTER / 2 + 1) as u64);

const HOUR: usize = 3_600;
const SHORT_OUTAGE: Range<usize> = 12 * HOUR..12 * HOUR + 600;
const LONG_OUTAGE: Range<usize> = 18 * HOUR..18 * HOUR + 1_800;

/// The result of a scenario: token requests in each second of the day.
struct Day {
    scenario: Scenario,
    seconds: Vec<u32>,
}

impl Day {
    fn title(&self) -> String {
        let start = if self.scenario.together { "started together" } else { "started at random" };
        let jitter = if self.scenario.jitter { "with" } else { "without" };
        let retry_after = self.scenario.retry_after.map(|delay| format!(", `Retry-After: {}`", delay.as_secs()));
        format!("{start}, {jitter} jitter{}", retry_after.unwrap_or_default())
    }

    fn busiest(&self, seconds: Range<usize>) -> u32 {
        self.seconds[seconds].iter().copied().max().unwrap_or(0)
    }

    fn mean(&self, seconds: Range<usize>) -> f64 {
        let length = seconds.len();
        self.seconds[seconds].iter().map(|&requests| f64::from(requests)).sum::<f64>() / length as f64
    }

    /// The `number`-th refresh of a fleet that started together, counted from 1.
    fn wave(&self, number: usize) -> u32 {
        let (first, spread) = (number * WINDOW_AT as usize, number * JITTER as usize);
        self.busiest(first..first + spread + 60)
    }
}

/// The hours after the start and before the outages.
const QUIET: Range<usize> = HOUR..12 * HOUR;

fn after(outage: &Range<usize>) -> Range<usize> {
    outage.end..outage.end + 60
}

/// The two hours after that minute.
fn later(outage: &Range<usize>) -> Range<usize> {
    outage.end + 60..outage.end + 2 * HOUR
}

fn simulate(settings: &Settings) -> Vec<Day> {
    let scenarios = [
        (true, true, None),
        (false, true, None),
        (true, false, None),
        (false, false, None),
        (true, true, Some(RETRY_AFTER)),
        (false, true, Some(RETRY_AFTER)),
    ];
    let scenarios = scenarios.map(|(together, jitter, retry_after)| Scenario { together, jitter, retry_after });
    let mut todo: Vec<_> = scenarios.into_iter().rev().collect();
    let order = |scenario: &Scenario| (scenario.retry_after, !scenario.jitter, !scenario.together);
    let done = Mutex::new(Vec::new());
    let next = Mutex::new(&mut todo);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(scenario) = next.lock().expect("no panic").pop() else { break };
                    let seconds = world::run(settings, scenario);
                    done.lock().expect("no panic").push(Day { scenario, seconds });
                }
            });
        }
    });
    let mut days = done.into_inner().expect("no panic");
    days.sort_by_key(|day| order(&day.scenario));
    days
}

fn tables(days: &[Day], replicas: u32) {
    println!("{replicas} processes, tokens of 30 min, one request per second each; token requests per second:");
    println!();
    println!(
        "| | cold start, busiest | waves 1 to 4, busiest | 1 h to 12 h, mean | busiest | busiest / mean | the day's mean | total |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for day in days {
        let waves = if day.scenario.together {
            (1..=4).map(|number| day.wave(number).to_string()).collect::<Vec<_>>().join(", ")
        } else {
            "none".to_owned()
        };
        let (mean, busiest, whole) = (day.mean(QUIET), day.busiest(QUIET), 0..day.seconds.len());
        let total: u64 = day.seconds.iter().map(|&requests| u64::from(requests)).sum();
        let start = day.busiest(0..WINDOW_AT as usize / 2);
        let ratio = f64::from(busiest) / mean;
        println!(
            "| {} | {start} | {waves} | {mean:.1} | {busiest} | {ratio:.2} | {:.1} | {total} |",
            day.title(),
            day.mean(whole)
        );
    }
    println!();
    println!(
        "| | 10 min outage: busiest, mean | the minute after: busiest | the 2 h after that: busiest | 30 min outage: busiest, mean | the minute after: busiest | the 2 h after that: busiest |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for day in days {
        print!("| {} |", day.title());
        for outage in [&SHORT_OUTAGE, &LONG_OUTAGE] {
            let (busiest, mean) = (day.busiest(outage.clone()), day.mean(outage.clone()));
            print!(" {busiest}, {mean:.0} | {} | {} |", day.busiest(after(outage)), day.busiest(later(outage)));
        }
        println!();
    }
}

fn marks(days: &[Day], replicas: u32) {
    let held = |what: &str, value: f64, most: f64| {
        println!("| {what} | {value:.2} | {most:.2} | {} |", if value <= most { "met" } else { "**missed**" });
    };
    let share = |part: f64| f64::from(replicas) / part;
    println!();
    println!("| mark, with jitter | | at most | |");
    println!("| --- | ---: | ---: | --- |");
    for day in days.iter().filter(|day| day.scenario.jitter) {
        // `Retry-After` changes only the outages.
        match (day.scenario.retry_after, day.scenario.together) {
            (Some(_), _) => {}
            (None, true) => {
                for number in 1..=4 {
                    held(
                        &format!("started together, wave {number}"),
                        f64::from(day.wave(number)),
                        1.2 * share(JITTER.into()),
                    );
                }
            }
            (None, false) => {
                held("started at random, busiest / mean", f64::from(day.busiest(QUIET)) / day.mean(QUIET), 1.5);
            }
        }
        for (outage, minutes) in [(&SHORT_OUTAGE, 10), (&LONG_OUTAGE, 30)] {
            let what = format!("{}, after {minutes} min of outage", day.title());
            let part = if day.scenario.retry_after.is_some() { WITH_RETRY_AFTER } else { WITHOUT_RETRY_AFTER };
            held(&what, f64::from(day.busiest(after(outage))), share(part));
        }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let only_shared = words.next_if(|word| word == "--shared").is_some();
    let Ok(replicas) = words.next().map_or(Ok(100_000), |replicas| replicas.parse()) else {
        eprintln!("fleet [--shared] [REPLICAS [FILE.svg]]");
        return ExitCode::from(2);
    };
    if only_shared {
        shared::table(replicas);
        return ExitCode::SUCCESS;
    }
    let seconds =
        |outage: Range<usize>| (Duration::from_secs(outage.start as u64), Duration::from_secs(outage.end as u64));
    let settings = Settings {
        replicas,
        day: Duration::from_secs(24 * HOUR as u64),
        starts_within: REFRESH_PERIOD,
        outages: vec![seconds(SHORT_OUTAGE), seconds(LONG_OUTAGE)],
    };
    let days = simulate(&settings);
    tables(&days, replicas);
    marks(&days, replicas);
    shared::table(replicas);
    if let Some(file) = words.next() {
        if let Err(error) = plot::draw(&file, &days, replicas) {
            eprintln!("fleet: {file}: {error}");
            return ExitCode::FAILURE;
        }
        println!("\nthe plot is in {file}");
    }
    ExitCode::SUCCESS
}
