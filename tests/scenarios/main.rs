//! The rules of a cache entry as a table of scenarios, in virtual time. README.md describes the format.
//!
//! `cargo test --test scenarios -- --nocapture` prints how many scenarios of each rule hold.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

mod api;
mod callers;
mod check;
mod clock;
mod format;
mod issuer;
mod on_demand;
#[path = "../support/mod.rs"]
mod support;
mod units;
mod user_code;
mod world;

use check::{check, check_varying};
use format::{File, Scenario, Side};

/// The least number of scenarios.
const LEAST: usize = 120;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn read(name: &str) -> File {
    let text = std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The differences between a scenario and its runs.
fn faults(scenario: &Scenario) -> Vec<String> {
    let mut varying = Vec::new();
    for seed in 0..scenario.seeds {
        let observed = match catch_unwind(AssertUnwindSafe(|| world::run(scenario, seed))) {
            Ok(observed) => observed,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                return vec![format!("seed {seed}: {text}")];
            }
        };
        let (faults, times) = check(scenario, &observed);
        varying.extend(times);
        if !faults.found.is_empty() {
            return faults.found.into_iter().map(|fault| format!("seed {seed}: {fault}")).collect();
        }
    }
    check_varying(&varying)
}

/// Runs the scenarios of one file. Fails if one of them does not hold.
fn run(name: &str) {
    let file = read(name);
    let (pending, active): (Vec<_>, Vec<_>) = file.scenarios.iter().partition(|scenario| scenario.pending);
    let mut report = String::new();
    let mut failed = 0;
    for scenario in &active {
        let faults = faults(scenario);
        failed += usize::from(!faults.is_empty());
        for (number, fault) in faults.iter().enumerate() {
            if number == 0 {
                report.push_str(&format!("\n{name}: {}\n", scenario.name));
            }
            if number < 5 {
                report.push_str(&format!("    {fault}\n"));
            }
        }
        if !faults.is_empty() {
            report.push_str(&format!("    why: {}\n", scenario.why));
        }
    }
    let sides = |side| active.iter().filter(|scenario| scenario.side == side).count();
    println!(
        "rule {:2} ({}): {} of {} scenarios hold (before {}, after {}, both {}), {} pending",
        file.rule,
        file.title,
        active.len() - failed,
        active.len(),
        sides(Side::Before),
        sides(Side::After),
        sides(Side::Both),
        pending.len()
    );
    assert!(failed == 0, "{failed} scenarios of {name} do not hold\n{report}");
}

/// A test for each file, so that a failure names the rule.
macro_rules! files {
    ($($test:ident: $file:literal,)*) => {
        const FILES: &[&str] = &[$($file),*];
        $(
            #[test]
            fn $test() {
                run($file);
            }
        )*
    };
}

files! {
    rule_01_lifetimes_windows_and_margins: "rule-01.json",
    rule_02_two_clocks: "rule-02.json",
    rule_03_tokens_that_arrive_late: "rule-03.json",
    rule_04_early_refreshes: "rule-04.json",
    rule_05_failures_beside_a_usable_token: "rule-05.json",
    rule_06_backoff_of_transient_failures: "rule-06.json",
    rule_07_backoff_of_permanent_failures: "rule-07.json",
    rule_08_retry_after: "rule-08.json",
    rule_09_a_rejection_ends_a_backoff: "rule-09.json",
    rule_10_which_rejections_start_a_fetch: "rule-10.json",
    rule_11_an_empty_budget: "rule-11.json",
    rule_12_what_a_rejection_does: "rule-12.json",
    rule_13_callers_without_the_layer: "rule-13.json",
    rule_14_invalidate_and_rotate: "rule-14.json",
    rule_15_max_wait_and_panics: "rule-15.json",
    rule_16_eviction: "rule-16.json",
    rule_17_one_fetch_at_a_time: "rule-17.json",
    rule_18_patience: "rule-18.json",
    rule_19_rejected_and_accepted_in_turn: "rule-19.json",
    rule_20_how_strong_a_rejection_is: "rule-20.json",
    rule_21_a_new_token_that_is_not_known_yet: "rule-21.json",
    rule_22_fetch_on_demand: "rule-22.json",
    rule_23_what_a_fetch_is_told: "rule-23.json",
    rule_24_user_code_and_locks: "rule-24.json",
    marks_of_rule_12: "marks-12-rejections.json",
    marks_of_rule_14: "marks-14-invalidate.json",
    marks_of_rule_16: "marks-16-keys.json",
    marks_of_rule_18: "marks-18-start-up.json",
    marks_of_rule_19: "marks-19-rejected-and-accepted.json",
    marks_of_rule_21: "marks-21-lags.json",
}

#[test]
fn every_file_of_scenarios_has_a_test() {
    let entries = std::fs::read_dir(folder()).expect("the folder of this test");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    let mut listed = FILES.to_vec();
    listed.sort_unstable();
    assert_eq!(names, listed);
}

#[test]
fn every_rule_has_scenarios_on_both_sides_of_its_bounds() {
    let mut rules: BTreeMap<u8, Vec<Side>> = BTreeMap::new();
    let mut names = Vec::new();
    for name in FILES {
        let file = read(name);
        rules.entry(file.rule).or_default().extend(file.scenarios.iter().map(|scenario| scenario.side));
        names.extend(file.scenarios.into_iter().map(|scenario| scenario.name));
    }
    let total = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), total, "two scenarios have the same name");
    assert!(total >= LEAST, "{total} scenarios");
    for rule in 1..=24 {
        let sides = rules.get(&rule).map_or(&[][..], Vec::as_slice);
        let both = sides.contains(&Side::Both) || sides.contains(&Side::Before) && sides.contains(&Side::After);
        assert!(both, "rule {rule} has no scenario on one side of its bounds");
    }
}
