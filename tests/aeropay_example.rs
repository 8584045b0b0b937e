//! The Aeropay example, run as a user runs it, against what it printed when it was written.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// `cargo test` builds the examples beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("aeropay");
    assert!(built.exists(), "{} is missing: run `cargo build --examples` first", built.display());
    built
}

fn run(args: &[&str]) -> Output {
    Command::new(example()).args(args).env_clear().output().unwrap()
}

// R22, R29, R30: who each request went as is what the server says.
#[test]
fn each_request_goes_as_whom_the_golden_file_says() {
    let output = run(&[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let golden = include_str!("golden/aeropay.txt");
    for (nth, (printed, golden)) in printed.lines().zip(golden.lines()).enumerate() {
        assert_eq!(printed, golden, "line {}", nth + 1);
    }
    assert_eq!(printed, golden);
}

#[test]
fn live_needs_credentials_and_names_the_variable() {
    let output = run(&["--live"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AEROPAY_API_KEY"));
}
