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
#[path = "../support/mod.rs"]
mod support;
mod units;
mod user_code;
mod world;

use check::{check, check_varying};
use format::{File, Scenario, Side};

/// The least number of scenarios that run.
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

#[test]
fn rule_01_lifetimes_windows_and_margins() {
    run("rule-01.json");
}

#[test]
fn rule_02_a_clock_that_is_set_keeps_no_expired_token() {
    run("rule-02.json");
}

#[test]
fn rule_03_a_token_that_arrives_late_serves_its_waiters_alone() {
    run("rule-03.json");
}

#[test]
fn rule_04_an_early_refresh_that_returns_no_better_token() {
    run("rule-04.json");
}

#[test]
fn rule_05_a_failed_fetch_takes_no_usable_token_away() {
    run("rule-05.json");
}

#[test]
fn rule_06_the_backoff_of_transient_failures() {
    run("rule-06.json");
}

// R67
#[test]
fn rule_07_the_backoff_of_permanent_failures() {
    run("rule-07.json");
}

// R69, R70
#[test]
fn rule_08_a_retry_after_is_a_lower_bound_and_has_a_cap() {
    run("rule-08.json");
}

#[test]
fn rule_09_a_rejection_ends_a_backoff_once() {
    run("rule-09.json");
}

#[test]
fn rule_10_which_rejections_start_a_fetch() {
    run("rule-10.json");
}

#[test]
fn rule_11_an_empty_budget_keeps_the_token() {
    run("rule-11.json");
}

// R69
#[test]
fn rule_12_a_rejected_token_is_set_aside_for_a_bounded_time() {
    run("rule-12.json");
}

#[test]
fn rule_13_callers_without_the_layer() {
    run("rule-13.json");
}

// R68, R80
#[test]
fn rule_14_what_invalidate_and_rotate_do() {
    run("rule-14.json");
}

// R71
#[test]
fn rule_15_max_wait_bounds_all_waits_of_a_request() {
    run("rule-15.json");
}

// R74
#[test]
fn rule_16_which_keys_are_evicted() {
    run("rule-16.json");
}

#[test]
fn rule_17_one_fetch_at_a_time() {
    run("rule-17.json");
}

// R66
#[test]
fn rule_18_a_caller_waits_through_a_short_backoff() {
    run("rule-18.json");
}

// R64
#[test]
fn rule_19_a_token_that_is_rejected_and_accepted_in_turn() {
    run("rule-19.json");
}

#[test]
fn rule_20_how_strong_a_rejection_is() {
    run("rule-20.json");
}

// R65
#[test]
fn rule_21_a_new_token_that_is_not_known_everywhere_yet() {
    run("rule-21.json");
}

// R101
#[test]
fn rule_22_a_fetch_on_demand() {
    run("rule-22.json");
}

#[test]
fn rule_23_what_a_fetch_is_told() {
    run("rule-23.json");
}

// R79
#[test]
fn rule_24_user_code_runs_under_no_lock() {
    run("rule-24.json");
}

// R69
#[test]
fn mark_one_stray_rejection_in_an_outage_fails_nobody_else() {
    run("marks-12-rejections.json");
}

// R68
#[test]
fn mark_invalidations_in_a_loop_serve_everyone() {
    run("marks-14-invalidate.json");
}

// R74
#[test]
fn mark_invented_keys_evict_no_honest_one() {
    run("marks-16-keys.json");
}

// R66
#[test]
fn mark_one_failed_fetch_at_start_up_fails_nobody() {
    run("marks-18-start-up.json");
}

// R64, R100
#[test]
fn mark_one_bad_route_costs_few_tokens() {
    run("marks-19-rejected-and-accepted.json");
}

// R65
#[test]
fn mark_an_api_that_learns_of_a_token_later_rejects_nothing() {
    run("marks-21-lags.json");
}

/// The names of all files of scenarios.
fn files() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder of this test");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    names
}

#[test]
fn every_file_of_scenarios_has_a_test() {
    for name in files() {
        assert!(include_str!("main.rs").contains(&format!("run(\"{name}\");")), "no test runs {name}");
    }
}

#[test]
fn every_rule_has_scenarios_on_both_sides_of_its_bounds() {
    let mut rules: BTreeMap<u8, Vec<Side>> = BTreeMap::new();
    let mut names = Vec::new();
    for name in files() {
        let file = read(&name);
        let active = file.scenarios.iter().filter(|scenario| !scenario.pending);
        rules.entry(file.rule).or_default().extend(active.map(|scenario| scenario.side));
        names.extend(file.scenarios.into_iter().map(|scenario| scenario.name));
    }
    let active: usize = rules.values().map(Vec::len).sum();
    assert!(active >= LEAST, "{active} scenarios run, at least {LEAST} are required");
    let total = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), total, "two scenarios have the same name");
    for rule in 1..=24 {
        let sides = rules.get(&rule).map_or(&[][..], Vec::as_slice);
        let both = sides.contains(&Side::Both) || sides.contains(&Side::Before) && sides.contains(&Side::After);
        assert!(both, "rule {rule} has no scenario on one side of its bounds");
    }
}
