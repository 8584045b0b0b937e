//! Runs every example as a user does: without arguments and without environment variables.
//!
//! The examples are processes of their own. `cargo test` builds them beside the tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aeropay_example;
mod main_job;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// How the output of an example is checked.
enum Check {
    /// Each line begins with the text at the same position.
    Lines(&'static [&'static str]),
    /// Another test file runs and checks the example.
    By(&'static str),
}

const EXAMPLES: &[(&str, Check)] = &[
    ("accesspsp", Check::By("tests/examples/main_job.rs")),
    ("aeropay", Check::By("tests/examples/aeropay_example.rs")),
    (
        "axum_gateway",
        Check::Lines(&[
            "GET /livez: 200 OK",
            "GET /readyz: 503 Service Unavailable",
            "GET /readyz: 200 OK",
            "POST /wallets/wsps/sessions: 201 Created",
            "POST /wallets/wsps/sessions: 201 Created",
            "upstream: 2 sessions, 1 rejected, 2 token requests, leaked: false",
        ]),
    ),
    (
        "custom_provider",
        Check::Lines(&[
            "acme",
            r#"the API received "Bearer acme-1""#,
            "globex",
            r#"the API received "Bearer globex-2""#,
            "acme",
            r#"the API received "Bearer acme-1""#,
            "umbrella",
            "request not sent: the issuer rejects the credentials",
            "hint: sign a contract with umbrella first",
            "no tenant",
            "request not sent: the request names no identity",
            "hint: ",
            "3 token requests",
        ]),
    ),
    (
        "hyper",
        Check::Lines(&[
            "a cold start: 20 sessions over HTTP/2.0, 0 rejected requests, 1 token request",
            "a revocation while requests are pending: 20 sessions over HTTP/2.0, 20 rejected requests, 1 token request",
        ]),
    ),
    (
        "reqwest",
        Check::Lines(&[
            "tower stack, cold start: 200 OK over HTTP/2.0, sent 1 time(s), 1 token request",
            "tower stack, after a revocation: 200 OK over HTTP/2.0, sent 2 time(s), 1 token request",
            "tower stack, a redirect: 200 OK over HTTP/2.0, sent 1 time(s), 0 token request",
            "token source, after a revocation: 200 OK over HTTP/2.0, sent 2 time(s), 1 token request",
            "token source, a foreign URL: not a URL of the API",
            "foreign server: 1 request, with a token: false",
        ]),
    ),
    (
        "shared_token",
        Check::Lines(&[
            "three replicas start at the same time",
            "a replica has token-1",
            "a replica has token-1",
            "a replica has token-1",
            "the API rejects the token",
            "a replica has token-2",
            "a replica has token-2",
            "a replica has token-2",
            "2 token requests",
        ]),
    ),
    (
        "tonic",
        Check::Lines(&[
            "a call: SERVING; 1 token request, 0 rejected",
            "a stream after a revocation: SERVING, then NOT_SERVING; 1 token request, 1 rejected",
        ]),
    ),
    (
        "tonic_calls",
        Check::Lines(&[
            "Trailers-Only: 0 of 4 fail; the server got 8 calls and rejected 4; 4 token requests",
            "head, trailers: 0 of 4 fail; the server got 8 calls and rejected 4; 4 token requests",
            "head, empty message, trailers: 0 of 4 fail; the server got 8 calls and rejected 4; 4 token requests",
            "head, message, trailers: 4 of 4 fail; the server got 8 calls and rejected 4; 4 token requests",
            "head, messages, trailers: 4 of 4 fail; the server got 8 calls and rejected 4; 4 token requests",
        ]),
    ),
];

#[test]
fn every_example_runs_without_arguments_or_variables_and_prints_the_expected_lines() {
    let built = env::current_exe().unwrap();
    // `cargo test` builds the examples beside the tests.
    let built = built.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    for (name, check) in EXAMPLES {
        let Check::Lines(expected) = check else { continue };
        let example = built.join(name).with_extension(env::consts::EXE_EXTENSION);
        assert!(example.exists(), "{} is missing: run `cargo build --examples` first", example.display());
        let output = Command::new(example).env_clear().output().unwrap();
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{name}: {printed}{errors}");
        assert_eq!(errors, "", "{name}");
        let lines: Vec<_> = printed.lines().map(str::trim).collect();
        assert_eq!(lines.len(), expected.len(), "{name}: {printed}");
        for (line, expected) in lines.iter().zip(*expected) {
            assert!(line.starts_with(expected), "{name}: `{line}` instead of `{expected}`");
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[test]
fn every_example_is_tested_and_is_in_the_readme() {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let files: BTreeSet<_> =
        folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let tested: BTreeSet<_> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, tested);
    let readme = read("README.md");
    for (name, check) in EXAMPLES {
        assert!(readme.contains(&format!("examples/{name}")), "README.md does not list {name}");
        if let Check::By(file) = check {
            let test = read(file);
            assert!(
                test.contains(&format!(r#"join("{name}")"#)) && test.contains("run(&[])"),
                "{file} does not run {name}"
            );
            assert!(test.contains(".env_clear()"), "{file} does not clear the variables");
        }
    }
}
