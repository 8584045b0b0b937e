//! Runs the Aeropay example as a user does, and compares its output with a golden file.

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

// R22, R29, R30: the server reports the identity of each request.
#[test]
fn each_request_has_the_identity_of_the_golden_file() {
    let output = run(&[]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let golden = include_str!("../golden/aeropay.txt");
    for (nth, (printed, golden)) in printed.lines().zip(golden.lines()).enumerate() {
        assert_eq!(printed, golden, "line {}", nth + 1);
    }
    assert_eq!(printed, golden);
}

#[test]
fn live_without_credentials_names_the_missing_variable() {
    let output = run(&["--live"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("AEROPAY_API_KEY"));
}
