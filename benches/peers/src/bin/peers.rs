//! This crate and published crates with part of its functions, in the same experiments. Prints the table of BENCHMARKS.md.
//!
//!     peers                    everything
//!     peers NAME ..            this crate and these ones

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use peers::experiments::rejection::{Recovery, Token, Twice};
use peers::experiments::{FETCH, cached, impatient, leader, rejection, runtime, storm};
use peers::issuer::Behavior;
use peers::peer::Kind;
use peers::table::{self, Table};

const REPEATS: usize = 3;
const FEW: usize = 20;
const MANY: usize = 1_000;
const IN_FLIGHT: usize = 100;
/// Some crates make one failing token request after another, one for each caller.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_OF_MANY: Duration = Duration::from_secs(5);

fn main() {
    let kinds = peers::begin();

    // Warm up, so that no measurement includes the first use.
    for kind in &kinds {
        storm::run(*kind, FEW, Behavior::good(FETCH), PATIENCE);
    }
    let mut table = Table::new(&kinds);
    cached_rows(&mut table, &kinds);
    storm_rows(&mut table, &kinds);
    trouble_rows(&mut table, &kinds);
    table.print();
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

fn cached_rows(table: &mut Table, kinds: &[Kind]) {
    let times = cached::times(kinds);
    let counted = allocations();
    for cost in &times {
        eprintln!("cached: {}, {}: {:.0} ns", cost.crate_name, cost.label, cost.value);
    }
    let of = |kind: &Kind, is_read: bool| {
        let name = kind.name;
        times.iter().filter(move |cost| cost.crate_name == name && cost.is_read == is_read)
    };
    let read: Vec<_> = kinds.iter().map(|kind| of(kind, true).next()).collect();
    let whole: Vec<_> = kinds.iter().map(|kind| of(kind, false).next()).collect();
    let least: Vec<_> = kinds.iter().map(|kind| of(kind, false).next_back()).collect();
    for (what, of_kinds) in [
        ("cached token read", read),
        ("request stamped, default settings", whole),
        ("request stamped, nothing kept for a replay", least),
    ] {
        let ours = of_kinds[0].expect("this crate has every way").value;
        let cells = of_kinds.iter().map(|cost| match cost {
            None => "not returned".to_owned(),
            Some(cost) => {
                let key = (cost.crate_name.to_owned(), cost.label.to_owned());
                let count = counted.get(&key).expect("both programs have the same ways");
                table::cost(cost.value, ours, *count)
            }
        });
        table.row(&format!("{what}: ratio / time / allocations"), cells);
    }
}

/// The counts of the program `allocations`.
fn allocations() -> HashMap<(String, String), f64> {
    let program = std::env::current_exe().expect("a program").with_file_name("allocations");
    let output = Command::new(program)
        .args(std::env::args().skip(1))
        .output()
        .expect("the program `allocations` in the same folder");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let fields = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    fields
        .map(|fields| match fields[..] {
            [name, label, count] => ((name.to_owned(), label.to_owned()), count.parse().expect("a number")),
            _ => panic!("unexpected line: {fields:?}"),
        })
        .collect()
}

fn storm_rows(table: &mut Table, kinds: &[Kind]) {
    for (what, callers, behavior, patience) in [
        ("20 callers, none cached, 200", FEW, Behavior::good(FETCH), PATIENCE),
        ("1 000 callers, none cached, 200", MANY, Behavior::good(FETCH), PATIENCE),
        ("20 callers, none cached, 503", FEW, Behavior::unavailable(FETCH), PATIENCE),
        ("1 000 callers, none cached, 503", MANY, Behavior::unavailable(FETCH), PATIENCE_OF_MANY),
    ] {
        let run = |kind: &Kind| table::storm(&repeat(what, *kind, || storm::run(*kind, callers, behavior, patience)));
        table.row(&format!("{what}: token requests / served / time"), kinds.iter().map(run));
    }
}

fn trouble_rows(table: &mut Table, kinds: &[Kind]) {
    let run = |kind: &Kind| table::storm(&repeat("first caller aborted", *kind, || leader::run(*kind, FEW)));
    table.row("first caller aborted: token requests / served of 19 / time", kinds.iter().map(run));

    let run = |kind: &Kind| table::impatient(&repeat("impatient", *kind, || impatient::run(*kind, FEW)));
    table.row("impatient callers: token requests / first served", kinds.iter().map(run));

    let ends: Vec<_> = kinds.iter().map(|kind| repeat("runtime", *kind, || runtime::run(*kind))).collect();
    let valid = ends.iter().map(|of_kind| table::ends(of_kind, |ends| &ends.while_valid));
    table.row("runtime ended, token valid: token requests / outcome", valid);
    let ended = ends.iter().map(|of_kind| table::ends(of_kind, |ends| &ends.after_expiry));
    table.row("runtime ended, token expired: token requests / outcome", ended);

    for (token, before) in [(Token::Accepted, ""), (Token::Unused, ", a token never accepted")] {
        let run = |kind: &Kind| repeat("rejected", *kind, || rejection::run(*kind, IN_FLIGHT, token));
        let bursts: Vec<_> = kinds.iter().map(run).collect();
        for (what, of) in [("", (|twice| &twice.first) as fn(&Twice) -> &Recovery), (", again", |twice| &twice.second)]
        {
            let cells = kinds.iter().zip(&bursts);
            let cells = cells.map(|(kind, repeats)| table::recovery(repeats, of) + kind.rejections.note());
            table.row(&format!("100 rejected at once{before}{what}: recovered / token requests / sends / time"), cells);
        }
    }
}
