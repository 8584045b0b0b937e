//! Compares what a run observed with what its scenario expects.

use std::fmt::{Debug, Display};
use std::time::Duration;

use crate::callers::{Outcome, Record, since_start};
use crate::format::{Do, Ended, Expect, Expected, Scenario, Step};
use crate::issuer::TokenRequest;
use crate::units::{Range, Time};
use crate::world::Observed;

/// The differences of one run.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) found: Vec<String>,
    /// Where the fault is.
    place: String,
}

/// A time that must differ from seed to seed: which expectation it belongs to, and how wide its range is.
pub(crate) struct Varying {
    pub(crate) place: (usize, usize),
    pub(crate) width: Duration,
    pub(crate) at: Duration,
}

impl Faults {
    fn add(&mut self, expected: impl Display, got: impl Display) {
        self.found.push(format!("{}: expected {expected}, got {got}", self.place));
    }

    fn equal<T: PartialEq + Debug>(&mut self, what: &str, expected: Option<T>, got: T) {
        if expected.as_ref().is_some_and(|expected| *expected != got) {
            self.add(format_args!("{what} {:?}", expected.as_ref()), format_args!("{got:?}"));
        }
    }

    fn within<T: PartialOrd + Copy + Display>(&mut self, what: &str, expected: Option<Range<T>>, got: T) {
        if let Some(expected) = expected.filter(|range| !range.contains(got)) {
            self.add(format_args!("{what} {expected}"), got);
        }
    }
}

pub(crate) fn check(scenario: &Scenario, observed: &Observed) -> (Faults, Vec<Varying>) {
    let mut faults = Faults::default();
    let mut varying = Vec::new();
    for record in &observed.records {
        let step = &scenario.steps[record.step];
        if let Some(expect) = &step.expect {
            faults.place = format!("step {} ({:?} at {})", record.step + 1, step.action, Time(record.start));
            check_record(expect, step, record, &mut faults);
        }
    }
    for (number, step) in scenario.steps.iter().enumerate() {
        let seen = observed.records.iter().any(|record| record.step == number);
        if step.expect.is_some() && !seen {
            faults.found.push(format!("step {} ({:?}) did not end", number + 1, step.action));
        }
    }
    for (number, expected) in scenario.expected.iter().enumerate() {
        faults.place = format!("expected {}", number + 1);
        check_fetches(number, expected, observed, &mut faults, &mut varying);
        check_callers(expected, scenario, observed, &mut faults);
        check_stats(expected, observed, &mut faults);
    }
    (faults, varying)
}

fn check_record(expect: &Expect, step: &Step, record: &Record, faults: &mut Faults) {
    let future =
        matches!(step.action, Do::Call | Do::Request | Do::Send | Do::WarmUp | Do::Refresh | Do::TokenValidFor);
    if future && expect.waited.is_none() && !record.at_once {
        faults.add("no wait", format_args!("a wait of {}, {:?}", Time(record.waited), record.outcome));
    }
    faults.within("a wait of", expect.waited, Time(record.waited));
    faults.within("the end after", expect.took, Time(record.took));
    let number = match &record.outcome {
        Outcome::Token { number, .. } => *number,
        _ => record.sent.last().map_or(0, |(_, number)| *number),
    };
    if let Some(range) = expect.token.filter(|range| !range.contains(number)) {
        faults.add(format_args!("token {range}"), format_args!("{number} ({:?})", record.outcome));
    }
    match (&expect.error, &record.outcome) {
        (Some(expected), Outcome::Error { kind, transient, retry_after }) => {
            faults.equal("the error", Some(expected.as_str()), *kind);
            faults.equal("transient", expect.transient, *transient);
            faults.within("retry_after", expect.retry_after, Time(retry_after.unwrap_or_default()));
        }
        (Some(expected), outcome) => faults.add(format_args!("the error {expected}"), format_args!("{outcome:?}")),
        (None, outcome @ Outcome::Error { .. }) if expect.result != Some(Ended::Failed) => {
            faults.add("no error", format_args!("{outcome:?}"));
        }
        (None, _) => {}
    }
    let ended = match &record.outcome {
        Outcome::Accepted => Some(Ended::Accepted),
        Outcome::Rejected => Some(Ended::Rejected),
        Outcome::Other => Some(Ended::Other),
        Outcome::Error { .. } => Some(Ended::Failed),
        _ => None,
    };
    faults.equal("the request", expect.result.map(Some), ended);
    faults.equal("replayed", expect.replayed, record.is_replayed());
    match &record.outcome {
        Outcome::Token { expires_at, .. } => faults.within("expires_at", expect.expires_at, Time(*expires_at)),
        Outcome::Replay(replay) => faults.equal("replay", expect.replay, *replay),
        Outcome::Status(status) => {
            faults.equal("the state", expect.state.clone(), format!("{:?}", status.state).to_lowercase());
            let last_error = status.last_error.map_or("none", |kind| kind.as_str());
            faults.equal("last_error", expect.last_error.clone(), last_error.to_owned());
            let usable_until = status.usable_until.map(since_start).unwrap_or_default();
            faults.within("usable_until", expect.usable_until, Time(usable_until));
            faults.within("next_try", expect.next_try, Time(status.next_try.unwrap_or_default()));
        }
        _ => {}
    }
    faults.equal("no token", expect.none, matches!(record.outcome, Outcome::NoToken));
}

fn in_time(expected: &Expected, at: Duration) -> bool {
    expected.from.is_none_or(|from| from.0 <= at) && expected.to.is_none_or(|to| at < to.0)
}

/// The first times of a list.
fn listed(times: impl IntoIterator<Item = Duration>) -> String {
    times.into_iter().take(20).map(|at| Time(at).to_string()).collect::<Vec<_>>().join(", ")
}

fn check_fetches(
    number: usize,
    expected: &Expected,
    observed: &Observed,
    faults: &mut Faults,
    varying: &mut Vec<Varying>,
) {
    let counts = |request: &&TokenRequest| {
        in_time(expected, request.at)
            && expected.key.as_ref().is_none_or(|key| request.key.starts_with(key.as_str()))
            && expected.source.is_none_or(|source| source == request.source)
    };
    let requests: Vec<&TokenRequest> = observed.requests.iter().filter(counts).collect();
    let starts = || listed(requests.iter().map(|request| request.at));
    if let Some(range) = expected.fetches.filter(|range| !range.contains(requests.len() as u64)) {
        faults.add(format_args!("{range} fetches"), format_args!("{}, at {}", requests.len(), starts()));
    }
    faults.within("most fetches at once", expected.most_at_once, observed.most_at_once);
    let Some(list) = &expected.fetch_starts else { return };
    if list.len() != requests.len() {
        return faults.add(format_args!("{} fetches", list.len()), format_args!("{}, at {}", requests.len(), starts()));
    }
    let place = faults.place.clone();
    for (nth, (expected, request)) in list.iter().zip(&requests).enumerate() {
        let expected = expected.described();
        faults.place = format!("{place}, fetch {}", nth + 1);
        faults.within("a start at", Some(expected.at), Time(request.at));
        faults.equal("the reason", expected.reason.as_deref(), request.reason);
        faults.equal("the replaced token", expected.replaces, request.replaces);
        faults.equal("the number of challenges", expected.challenges, request.challenges);
        faults.equal("dropped", expected.dropped, !request.open && !request.responded);
        if expected.varies {
            let width = expected.at.most.0 - expected.at.least.0;
            varying.push(Varying { place: (number, nth), width, at: request.at });
        }
    }
    faults.place = place;
}

fn check_callers(expected: &Expected, scenario: &Scenario, observed: &Observed, faults: &mut Faults) {
    let Some(callers) = &expected.callers else { return };
    let counts = |record: &&Record| scenario.steps[record.step].callers == *callers && in_time(expected, record.start);
    let records: Vec<&Record> = observed.records.iter().filter(counts).collect();
    let place = faults.place.clone();
    faults.place = format!("{place}, {callers}");
    faults.within("in total", expected.total, records.len() as u64);
    let mut count = |what: &str, range: Option<Range<u64>>, which: fn(&Record) -> bool| {
        let starts: Vec<_> = records.iter().filter(|record| which(record)).map(|record| record.start).collect();
        if let Some(range) = range.filter(|range| !range.contains(starts.len() as u64)) {
            faults.add(format_args!("{what} {range}"), format_args!("{}, at {}", starts.len(), listed(starts)));
        }
    };
    count("served", expected.served, |record| !record.is_failed() && !record.is_rejected());
    count("failed", expected.failed, Record::is_failed);
    count("rejected", expected.rejected, Record::is_rejected);
    count("replayed", expected.replayed, Record::is_replayed);
    count("waited", expected.waited, |record| !record.at_once);
    let longest = records.iter().map(|record| record.waited).max().unwrap_or_default();
    faults.within("the longest wait", expected.longest_wait, Time(longest));
    faults.place = place;
}

fn check_stats(expected: &Expected, observed: &Observed, faults: &mut Faults) {
    let stats = &observed.stats[expected.source.map_or(0, |source| source - 1)];
    for (name, range) in &expected.stats {
        // The counters by name, so that a new one needs no change here.
        let counter = stats.split([' ', '{', ',', '}']).skip_while(|word| *word != format!("{name}:")).nth(1);
        match counter.and_then(|counter| counter.parse::<u64>().ok()) {
            Some(counter) => faults.within(name, Some(*range), counter),
            None => faults.add(format_args!("a counter `{name}`"), stats),
        }
    }
}

/// The times that must differ from seed to seed, over all runs.
pub(crate) fn check_varying(all: &[Varying]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut places: Vec<_> = all.iter().map(|varying| varying.place).collect();
    places.sort_unstable();
    places.dedup();
    for (expected, fetch) in places {
        let of_place = all.iter().filter(|varying| varying.place == (expected, fetch));
        let times: Vec<Duration> = of_place.clone().map(|varying| varying.at).collect();
        let width = of_place.map(|varying| varying.width).max().unwrap_or_default();
        let spread = times.iter().max().copied().unwrap_or_default() - times.iter().min().copied().unwrap_or_default();
        if spread < width.mul_f64(0.2) {
            faults.push(format!(
                "expected {}, fetch {}: expected times that differ by a fifth of {} from seed to seed, got {}",
                expected + 1,
                fetch + 1,
                Time(width),
                Time(spread)
            ));
        }
    }
    faults
}
