//! This crate and published crates with part of its functions, in the same experiments. Prints the table of BENCHMARKS.md.
//!
//!     peers                    everything
//!     peers NAME ..            this crate and these ones

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use peers::experiments::cached::{Call, Cost, HEADERS};
use peers::experiments::rejection::{Recovery, Token, Twice};
use peers::experiments::{FETCH, impatient, leader, rejection, runtime, storm};
use peers::issuer::Behavior;
use peers::peer::Kind;
use peers::table::{self, Quartiles, Table};

const REPEATS: usize = 3;
/// How often the costs of a cached token are measured.
const RUNS: usize = 20;
const FEW: usize = 20;
const MANY: usize = 1_000;
const IN_FLIGHT: usize = 100;
/// Some crates make one failing token request after another, one for each caller.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_OF_MANY: Duration = Duration::from_secs(5);

fn main() {
    let kinds = peers::begin();

    // Warm up, so that no measurement includes the first use.
    for kind in kinds.iter().filter(|kind| kind.fetches) {
        storm::run(*kind, FEW, Behavior::good(FETCH), PATIENCE);
    }
    let mut table = Table::new(&kinds);
    let missed = cached_rows(&mut table, &kinds);
    if std::env::var_os("PEERS_CACHED_ONLY").is_none() {
        storm_rows(&mut table, &kinds);
        trouble_rows(&mut table, &kinds);
    }
    table.print();
    println!("\nThe ratio is this crate's time divided by the other's: the median of {RUNS} runs, and the quartiles.");
    println!("Ratios whose upper quartile is not below 1: {missed}");
}

fn repeat<T>(what: &str, kind: Kind, run: impl Fn() -> T) -> Vec<T> {
    eprint!("{what}: {} ", kind.name);
    let outcomes = (0..REPEATS)
        .map(|_| {
            let outcome = run();
            eprint!(".");
            let _ = std::io::stderr().flush();
            outcome
        })
        .collect();
    eprintln!();
    outcomes
}

/// The times of all runs of a call, in the order of the runs, and its allocations.
struct Measured {
    call: Call,
    times: Vec<f64>,
    allocations: f64,
}

fn cached_rows(table: &mut Table, kinds: &[Kind]) -> usize {
    let with_allocations = |Cost { call, value }| Measured { call, times: Vec::new(), allocations: value };
    let mut measured: Vec<_> = costs_of("allocations").into_iter().map(with_allocations).collect();
    for run in 1..=RUNS {
        eprintln!("cached: run {run} of {RUNS}");
        for (Cost { call, value }, known) in costs_of("times").into_iter().zip(&mut measured) {
            assert_eq!(call, known.call, "both programs have the same ways");
            known.times.push(value);
        }
    }
    let mut missed = 0;
    let mut plotted = String::new();
    let read = ("cached token read".to_owned(), None, false);
    let stamped = HEADERS.map(|count| (format!("request stamped, {count} headers"), Some(count), false));
    let least =
        HEADERS.map(|count| (format!("the same, {count} headers, nothing kept for a replay"), Some(count), true));
    for (what, headers, least) in [read].into_iter().chain(stamped).chain(least) {
        let of = |kind: &Kind| {
            let mut ways =
                measured.iter().filter(|way| way.call.crate_name == kind.name && way.call.headers == headers);
            if least { ways.next_back() } else { ways.next() }
        };
        let ours = of(&kinds[0]).expect("this crate has every way");
        let cells = kinds.iter().map(|kind| match of(kind) {
            None => "not returned".to_owned(),
            Some(way) if kind.ours() => table::time(&way.times, way.allocations),
            Some(way) => {
                let ratio = Quartiles::of_ratios(&ours.times, &way.times);
                missed += usize::from(ratio.upper >= 1.0);
                if !least {
                    let Quartiles { lower, median, upper } = ratio;
                    plotted += &format!("{what}\t{}\t0\t{lower}\t{median}\t{upper}\n", kind.name);
                }
                format!("{ratio} / {}", table::time(&way.times, way.allocations))
            }
        });
        table.row(&format!("{what}: ratio / time / allocations"), cells.collect::<Vec<_>>());
    }
    std::fs::write(sibling("peers.tsv"), plotted).expect("the folder of this program can be written");
    missed
}

/// The lines that the program `name` prints.
fn costs_of(name: &str) -> Vec<Cost> {
    let output =
        Command::new(sibling(name)).args(std::env::args().skip(1)).output().expect("a program in the same folder");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| Cost::parse(line).unwrap_or_else(|| panic!("unexpected line: {line}"))).collect()
}

fn sibling(name: &str) -> PathBuf {
    std::env::current_exe().expect("a program").with_file_name(name)
}

fn storm_rows(table: &mut Table, kinds: &[Kind]) {
    for (what, callers, behavior, patience) in [
        ("20 callers, none cached, 200", FEW, Behavior::good(FETCH), PATIENCE),
        ("1 000 callers, none cached, 200", MANY, Behavior::good(FETCH), PATIENCE),
        ("20 callers, none cached, 503", FEW, Behavior::unavailable(FETCH), PATIENCE),
        ("1 000 callers, none cached, 503", MANY, Behavior::unavailable(FETCH), PATIENCE_OF_MANY),
    ] {
        let run = |kind: Kind| table::storm(&repeat(what, kind, || storm::run(kind, callers, behavior, patience)));
        table.row(&format!("{what}: token requests / served / time"), fetching(kinds, run));
    }
}

fn trouble_rows(table: &mut Table, kinds: &[Kind]) {
    let run = |kind: Kind| table::storm(&repeat("first caller aborted", kind, || leader::run(kind, FEW)));
    table.row("first caller aborted: token requests / served of 19 / time", fetching(kinds, run));

    let run = |kind: Kind| table::impatient(&repeat("impatient", kind, || impatient::run(kind, FEW)));
    table.row("impatient callers: token requests / first served", fetching(kinds, run));

    let run = |kind: Kind| {
        let ends = repeat("runtime", kind, || runtime::run(kind));
        [table::ends(&ends, |ends| &ends.while_valid), table::ends(&ends, |ends| &ends.after_expiry)]
    };
    let rows = ["runtime ended, token valid", "runtime ended, token expired"];
    add_rows(table, &rows.map(|row| format!("{row}: token requests / outcome")), fetching(kinds, run));

    for (token, before) in [(Token::Accepted, ""), (Token::Unused, ", a token never accepted")] {
        let run = |kind: Kind| {
            let repeats = repeat("rejected", kind, || rejection::run(kind, IN_FLIGHT, token));
            let cell = |of: fn(&Twice) -> &Recovery| table::recovery(&repeats, of) + kind.rejections.note();
            [cell(|twice| &twice.first), cell(|twice| &twice.second)]
        };
        let rows = ["", ", again"]
            .map(|again| format!("100 rejected at once{before}{again}: recovered / token requests / sends / time"));
        add_rows(table, &rows, fetching(kinds, run));
    }
}

/// The cells of the crates that make token requests, and those of the others.
fn fetching<T: Cell>(kinds: &[Kind], run: impl Fn(Kind) -> T) -> Vec<T> {
    kinds.iter().map(|kind| if kind.fetches { run(*kind) } else { T::none() }).collect()
}

trait Cell {
    fn none() -> Self;
}

impl Cell for String {
    fn none() -> Self {
        "no token requests".to_owned()
    }
}

impl Cell for [String; 2] {
    fn none() -> Self {
        [Cell::none(), Cell::none()]
    }
}

fn add_rows(table: &mut Table, rows: &[String; 2], cells: Vec<[String; 2]>) {
    let (first, second): (Vec<_>, Vec<_>) = cells.into_iter().map(<(String, String)>::from).unzip();
    for (row, cells) in rows.iter().zip([first, second]) {
        table.row(row, cells);
    }
}
