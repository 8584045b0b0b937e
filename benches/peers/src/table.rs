//! Cells and rows. A figure that differs between the repeats is printed as a range.

use std::fmt::Display;
use std::time::Duration;

use crate::experiments::Ended;
use crate::experiments::impatient::{Impatient, WINDOW};
use crate::experiments::rejection::{Recovery, Twice};
use crate::experiments::runtime::{Ends, Later};
use crate::experiments::storm::Storm;
use crate::peer::Kind;

/// A table with a row for each experiment and a column for each crate.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(kinds: &[Kind]) -> Self {
        let head = kinds.iter().map(|kind| format!("{} {}", kind.name, kind.version())).collect();
        Self { head, rows: Vec::new() }
    }

    pub fn row(&mut self, what: &str, cells: impl IntoIterator<Item = String>) {
        let row: Vec<_> = [what.to_owned()].into_iter().chain(cells).collect();
        assert_eq!(row.len(), self.head.len() + 1, "a cell for each crate");
        self.rows.push(row);
    }

    pub fn print(&self) {
        println!("| | {} |", self.head.join(" | "));
        println!("|{}", " --- |".repeat(self.head.len() + 1));
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}

fn range<T: Ord + Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable();
    match values.as_slice() {
        [] => String::new(),
        [first, .., last] if first != last => format!("{first}–{last}"),
        [first, ..] => first.to_string(),
    }
}

/// The median of times.
fn median(times: impl IntoIterator<Item = Duration>) -> String {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    if middle < Duration::from_secs(1) {
        format!("{} ms", middle.as_millis())
    } else {
        format!("{:.1} s", middle.as_secs_f64())
    }
}

/// Token requests / callers with a token / wall time.
pub fn storm(repeats: &[Storm]) -> String {
    let requests = range(repeats.iter().map(|storm| storm.token_requests));
    let served = range(repeats.iter().map(|storm| storm.served));
    let wall = median(repeats.iter().map(|storm| storm.wall));
    if repeats.iter().any(|storm| storm.waiting > 0) {
        let waiting = range(repeats.iter().map(|storm| storm.waiting));
        return format!("{requests} / {served} / {waiting} still waiting after {wall}");
    }
    format!("{requests} / {served} / {wall}")
}

/// Token requests / time of the first token.
pub fn impatient(repeats: &[Impatient]) -> String {
    let requests = range(repeats.iter().map(|outcome| outcome.token_requests));
    let firsts: Vec<_> = repeats.iter().filter_map(|outcome| outcome.first_success).collect();
    let first = if firsts.is_empty() {
        format!("none within {} s", WINDOW.as_secs())
    } else if firsts.len() < repeats.len() {
        format!("{} of {} times, {}", firsts.len(), repeats.len(), median(firsts.clone()))
    } else {
        median(firsts)
    };
    format!("{requests} / {first}")
}

/// Token requests / outcome of the call.
pub fn ends(repeats: &[Ends], of: fn(&Ends) -> &Later) -> String {
    let mut outcomes: Vec<_> = repeats.iter().map(|ends| later(of(ends))).collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    outcomes.join(" or ")
}

fn later(later: &Later) -> String {
    let ended = match &later.ended {
        Some(Ended::Ok) => "a token".to_owned(),
        Some(Ended::Failed(error)) => format!("error: {error}"),
        Some(Ended::Panicked) => "**panic in the caller**".to_owned(),
        Some(Ended::Aborted) => "the task was aborted".to_owned(),
        None => "**hangs**".to_owned(),
    };
    format!("{} / {ended}", later.token_requests)
}

/// Recovered / token requests / sends / wall time.
pub fn recovery(repeats: &[Twice], of: fn(&Twice) -> &Recovery) -> String {
    format!(
        "{} / {} / {} / {}",
        range(repeats.iter().map(|twice| of(twice).recovered)),
        range(repeats.iter().map(|twice| of(twice).token_requests)),
        range(repeats.iter().map(|twice| of(twice).sends)),
        median(repeats.iter().map(|twice| of(twice).wall)),
    )
}

/// The median of ratios, and their quartiles.
pub struct Quartiles {
    pub lower: f64,
    pub median: f64,
    pub upper: f64,
}

impl Quartiles {
    /// Of this crate's times to those of another crate, in the same runs.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        let mut ratios: Vec<_> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| ratios[(ratios.len() - 1) * quarter / 4];
        // The upper quartile is not rounded down.
        Self { lower: at(1), median: at(2), upper: ratios[((ratios.len() - 1) * 3).div_ceil(4)] }
    }
}

impl Display for Quartiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.lower, self.upper)
    }
}

/// The median of the times, and the allocations.
pub fn time(nanoseconds: &[f64], allocations: f64) -> String {
    let mut sorted = nanoseconds.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Not a whole number if only some calls allocate.
    let allocations = (allocations * 10.0).round() / 10.0;
    format!("{:.0} ns / {allocations}", sorted[sorted.len() / 2])
}
