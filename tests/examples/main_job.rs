//! Runs the main job as a user does, and with each error that its checks must find.

use std::path::PathBuf;
use std::process::{Command, Output};

/// `cargo test` builds the examples beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join("accesspsp");
    assert!(built.exists(), "{} is missing: run `cargo build --examples` first", built.display());
    built
}

fn run(args: &[&str]) -> Output {
    let mut job = Command::new(example());
    job.args(args).env_clear().output().unwrap()
}

fn expect_failed_check(error: &str, finding: &str) {
    let output = run(&["--break", error]);
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}: {}: {printed}{errors}", output.status);
    let wrong: Vec<_> = printed.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert!(wrong.iter().any(|line| line.contains(finding)), "{error}: {printed}");
}

// R22, R23, R52
#[test]
fn the_main_job_opens_each_session_once_across_expired_tokens_and_a_revocation() {
    let output = run(&[]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("1000, 1000 of them distinct"), "{printed}");
    assert!(!printed.contains("WRONG"), "{printed}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // On a pipe, the counts of the servers are lines of plain text.
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
    let counts: Vec<_> = printed.lines().filter(|line| line.contains(" of 1000 sessions; token requests: ")).collect();
    assert!(counts.len() >= 2, "{printed}");
    for count in ["tokens expired: ", "requests rejected: ", "replayed: "] {
        assert!(counts.iter().all(|line| line.contains(count)), "{count}: {printed}");
    }
}

#[test]
fn a_missing_session_fails_the_main_job() {
    expect_failed_check("lose-session", "999 sessions were created");
}

#[test]
fn a_session_created_twice_fails_the_main_job() {
    expect_failed_check("double-session", "created twice");
}

#[test]
fn a_job_without_expired_tokens_fails() {
    expect_failed_check("no-expiry", "0 tokens expired");
}

#[test]
fn a_job_without_a_rejected_request_fails() {
    expect_failed_check("no-rejection", "no pending request was rejected");
}

#[test]
fn too_many_token_requests_fail_the_main_job() {
    expect_failed_check("token-storm", "token requests, more than");
}

#[test]
fn live_without_credentials_names_the_missing_variable() {
    let output = run(&["--live", "https://api.example.com"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ACCESS_PSP_CLIENT_ID"));
}
