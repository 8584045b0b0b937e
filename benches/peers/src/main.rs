//! This crate and the published ones that do part of its job, in the same experiments. Prints the table of
//! BENCHMARKS.md.
//!
//!     peers                    everything
//!     peers NAME ..            these crates alone, beside this one

mod batch;
mod experiments;
mod issuer;
mod peer;
mod peers;
mod sink;
mod table;
mod wire;

use std::io::Write as _;
use std::time::Duration;

use experiments::refusal::{Refused, Token, Twice};
use experiments::{FETCH, cached, impatient, leader, refusal, runtime, storm};
use issuer::Answer;
use peer::{ALL, Kind};
use table::Table;

const REPEATS: usize = 3;
const FEW: usize = 20;
const MANY: usize = 1_000;
const IN_FLIGHT: usize = 100;
/// Some make one failing request after the other, for as many callers as there are.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_OF_MANY: Duration = Duration::from_secs(5);

fn main() {
    // Where TLS is compiled in without a choice of cryptography, it wants one, even for clear text.
    rustls::crypto::ring::default_provider().install_default().expect("the first to choose");
    silence_panics_of_peers();
    let kinds = chosen();

    // What is first used here is paid for here.
    for kind in &kinds {
        storm::run(*kind, FEW, Answer::good(FETCH), PATIENCE);
    }
    let mut table = Table::new(&kinds);
    cached_rows(&mut table, &kinds);
    storm_rows(&mut table, &kinds);
    trouble_rows(&mut table, &kinds);
    table.print();
}

fn chosen() -> Vec<Kind> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|kind| kind.name == **name)) {
        eprintln!("peers: there is no {unknown}");
        std::process::exit(2);
    }
    let wanted = |kind: &Kind| names.is_empty() || kind.ours() || names.iter().any(|name| name == kind.name);
    ALL.iter().copied().filter(wanted).collect()
}

/// A panic of a caller inside of a peer is an outcome here. One of this program is not.
fn silence_panics_of_peers() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().starts_with("src/")) {
            hook(panic);
        }
    }));
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
    let costs = cached::run(kinds);
    for (kind, of_kind) in kinds.iter().zip(&costs) {
        for cost in of_kind.read.iter().chain(&of_kind.stamped) {
            eprintln!("cached: {}, {}: {:.0} ns", kind.name, cost.label, cost.nanoseconds);
        }
    }
    let read: Vec<_> = costs.iter().map(|of_kind| of_kind.read.as_ref()).collect();
    let whole: Vec<_> = costs.iter().map(|of_kind| of_kind.stamped.first()).collect();
    let least: Vec<_> = costs.iter().map(|of_kind| of_kind.stamped.last()).collect();
    for (what, of_kinds) in [
        ("cached token read: ratio / time / allocations", read),
        ("request stamped, as it comes: ratio / time / allocations", whole),
        ("request stamped, nothing kept for a second sending: ratio / time / allocations", least),
    ] {
        table.row(what, of_kinds.iter().map(|cost| table::cost(*cost, of_kinds[0])));
    }
}

fn storm_rows(table: &mut Table, kinds: &[Kind]) {
    for (what, callers, answer, patience) in [
        ("20 callers, none cached, 200", FEW, Answer::good(FETCH), PATIENCE),
        ("1 000 callers, none cached, 200", MANY, Answer::good(FETCH), PATIENCE),
        ("20 callers, none cached, 503", FEW, Answer::unavailable(FETCH), PATIENCE),
        ("1 000 callers, none cached, 503", MANY, Answer::unavailable(FETCH), PATIENCE_OF_MANY),
    ] {
        let run = |kind: &Kind| table::storm(&repeat(what, *kind, || storm::run(*kind, callers, answer, patience)));
        table.row(&format!("{what}: token requests / served / time"), kinds.iter().map(run));
    }
}

fn trouble_rows(table: &mut Table, kinds: &[Kind]) {
    let run = |kind: &Kind| table::storm(&repeat("leader", *kind, || leader::run(*kind, FEW)));
    table.row("leader leaves: token requests / served of 19 / time", kinds.iter().map(run));

    let run = |kind: &Kind| table::impatient(&repeat("impatient", *kind, || impatient::run(*kind, FEW)));
    table.row("impatient callers: token requests / first served", kinds.iter().map(run));

    let ends: Vec<_> = kinds.iter().map(|kind| repeat("runtime", *kind, || runtime::run(*kind))).collect();
    let valid = ends.iter().map(|of_kind| table::ends(of_kind, |ends| &ends.while_valid));
    table.row("runtime ended, token valid: token requests / outcome", valid);
    let ended = ends.iter().map(|of_kind| table::ends(of_kind, |ends| &ends.after_the_end));
    table.row("runtime ended, token ended: token requests / outcome", ended);

    for (token, before) in [(Token::Accepted, ""), (Token::Unused, ", a token never accepted")] {
        let run = |kind: &Kind| repeat("refused", *kind, || refusal::run(*kind, IN_FLIGHT, token));
        let bursts: Vec<_> = kinds.iter().map(run).collect();
        for (what, of) in [("", (|twice| &twice.first) as fn(&Twice) -> &Refused), (", again", |twice| &twice.second)] {
            let cells = kinds.iter().zip(&bursts);
            let cells = cells.map(|(kind, repeats)| table::refused(repeats, of) + kind.refusals.note());
            table.row(&format!("100 refused at once{before}{what}: recovered / token requests / sends / time"), cells);
        }
    }
}
