//! Every example, run as a user runs it: without arguments, and with no variable set.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// What an example has to print, line by line; what a line holds beyond that is the example's affair.
enum Shown {
    Lines(&'static [&'static str]),
    /// By a test file of its own, which runs it and looks closer.
    By(&'static str),
}

const EXAMPLES: &[(&str, Shown)] = &[
    ("accesspsp", Shown::By("tests/main_job.rs")),
    ("aeropay", Shown::By("tests/aeropay_example.rs")),
    (
        "axum_gateway",
        Shown::Lines(&[
            "GET /livez: 200 OK",
            "GET /readyz: 503 Service Unavailable",
            "GET /readyz: 200 OK",
            "POST /wallets/wsps/sessions: 201 Created",
            "POST /wallets/wsps/sessions: 201 Created",
            "upstream: 2 sessions, 1 refused on the way, 2 token requests, leaked: false",
        ]),
    ),
    (
        "custom_provider",
        Shown::Lines(&[
            "acme",
            r#"the API saw "Bearer acme-1""#,
            "globex",
            r#"the API saw "Bearer globex-2""#,
            "acme",
            r#"the API saw "Bearer acme-1""#,
            "umbrella",
            "not sent: the issuer has no contract with umbrella",
            "nobody",
            "not sent: ",
            "3 token requests",
        ]),
    ),
    (
        "hyper",
        Shown::Lines(&[
            "a cold start: 20 sessions over HTTP/2.0, 0 refused on the way, 1 token request",
            "a revocation in flight: 20 sessions over HTTP/2.0, 20 refused on the way, 1 token request",
        ]),
    ),
    (
        "reqwest",
        Shown::Lines(&[
            "alone, cold: 200 OK over HTTP/2.0, 1 sent, 1 token request",
            "alone, after a revocation: 200 OK over HTTP/2.0, 2 sent, 1 token request",
            "as a stack, refused, then sent elsewhere: 200 OK over HTTP/2.0, 2 sent, 1 token request",
            "elsewhere: 1 request, a token in it: false",
        ]),
    ),
    (
        "tonic",
        Shown::Lines(&[
            "a call: SERVING; 1 token request, 0 refused on the way",
            "a stream after a revocation: SERVING, then NOT_SERVING; 1 token request, 1 refused on the way",
        ]),
    ),
];

#[test]
fn every_example_runs_without_arguments_and_variables_and_shows_what_it_should() {
    let built = env::current_exe().unwrap();
    // `cargo test` builds the examples beside the tests.
    let built = built.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    for (name, shown) in EXAMPLES {
        let Shown::Lines(expected) = shown else { continue };
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
fn no_example_is_left_out() {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let there: BTreeSet<_> =
        folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let known: BTreeSet<_> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, known);
    let readme = read("README.md");
    for (name, shown) in EXAMPLES {
        assert!(readme.contains(&format!("| `{name}` |")), "README.md does not name {name}");
        if let Shown::By(file) = shown {
            let test = read(file);
            assert!(test.contains(&format!(r#"join("{name}")"#)) && test.contains("run(&[])"), "{file} runs no {name}");
            assert!(test.contains(".env_clear()"), "{file} does not clear the variables");
        }
    }
}
