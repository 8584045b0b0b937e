//! The plan of the house, held: which room may name which, who asks for the time, and how long a file may be.
//!
//! It reads the sources as text, so that it also sees what is behind a feature that this build has off.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

#[path = "common/source_text.rs"]
mod source_text;

use source_text::{Named, paths, tokens, tree};

/// How many lines of code one file may have; comments and blank lines do not count.
const LONGEST_FILE: usize = 300;

/// What a room may name of another one.
#[derive(Clone, Copy)]
enum May {
    Use(&'static str),
    UseOnly(&'static str, &'static [&'static str]),
    UseAll,
}
use May::{Use, UseAll, UseOnly};

/// The arrows, from the leaves up. A room that is missing here may not exist.
const ARROWS: &[(&str, &[May])] = &[
    ("error", &[]),
    ("clock", &[]),
    // It is told what happens in plain words and numbers, and knows nothing of those who tell it.
    ("observe", &[Use("error")]),
    ("api", &[Use("error")]),
    ("token", &[Use("error"), UseOnly("clock", &["Now"])]),
    ("provider", &[Use("api"), Use("token"), Use("error")]),
    ("refresh", &[Use("token"), Use("error"), UseOnly("clock", &["Now"])]),
    (
        "source",
        &[
            Use("refresh"),
            Use("token"),
            Use("error"),
            Use("clock"),
            Use("provider"),
            Use("observe"),
            // What kind of refusal it was decides whether a token is renewed; how it was read is the layer's business.
            UseOnly("api", &["RequestKey", "Rejection"]),
        ],
    ),
    ("layer", &[Use("source"), Use("provider"), Use("api"), Use("token"), Use("error")]),
    ("exchange", &[Use("api"), Use("error"), Use("token")]),
    ("providers", &[Use("exchange"), Use("provider"), Use("api"), Use("token"), Use("error")]),
    ("sandbox", &[UseAll]),
    // Pages: there is no code in it.
    ("guide", &[]),
];

/// Aeropay refuses inside bodies, and stacks a small layer of its own below the main one. A `Retry-After` date from an
/// issuer that does not say its own time can only be read against this machine's. A signed assertion says when it was made.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/providers/aeropay", "layer"),
    (RETRY_AFTER, "clock"),
    ("src/providers/client_credentials/assertion.rs", "clock"),
];
const RETRY_AFTER: &str = "src/exchange/retry_after.rs";

/// What asks a machine for the time. The default clock counts: asked directly, it cannot be replaced.
const ASKS: &[[&str; 3]] = &[
    ["Instant", "::", "now"],
    ["SystemTime", "::", "now"],
    ["SystemClock", ".", "now"],
    [".", "elapsed", "("],
    ["jsonwebtoken", "::", "get_current_timestamp"],
    ["OffsetDateTime", "::", "now_utc"],
    ["Utc", "::", "now"],
];

fn arrows_of(room: &str) -> Option<&'static [May]> {
    ARROWS.iter().find(|(name, _)| *name == room).map(|(_, may)| *may)
}

/// The room of a file: the first part of its path, nothing for lib.rs.
fn room_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

/// Which room each name at the root of the crate comes from.
fn root_names(sources: &[(String, String)]) -> BTreeMap<String, String> {
    let lib = sources.iter().filter(|(file, _)| file == "src/lib.rs");
    lib.flat_map(|(file, source)| paths(file, &tokens(source)))
        .filter(|named| named.path.len() > 1 && arrows_of(&named.path[0]).is_some())
        .map(|named| (named.alias, named.path[0].clone()))
        .collect()
}

/// Every arrow that the plan does not have.
fn wrong_arrows(sources: &[(String, String)]) -> Vec<String> {
    let exported = root_names(sources);
    let mut wrong = Vec::new();
    for (file, source) in sources {
        let Some(room) = room_of(file) else { continue };
        let Some(allowed) = arrows_of(room) else {
            wrong.push(format!("{file}: the plan has no room `{room}`"));
            continue;
        };
        for Named { path, line, .. } in paths(file, &tokens(source)) {
            let first = path.first().map_or("", String::as_str);
            let (to, name) = match exported.get(first) {
                Some(to) if arrows_of(first).is_none() => (to.as_str(), first),
                _ => (first, path.get(1).map_or("", String::as_str)),
            };
            let excepted = EXCEPTIONS.iter().any(|(from, layer)| file.starts_with(from) && to == *layer);
            let held = allowed.iter().any(|may| match may {
                UseAll => arrows_of(to).is_some(),
                Use(other) => *other == to,
                UseOnly(other, names) => *other == to && names.contains(&name),
            });
            if to != room && !excepted && !held {
                wrong.push(format!("{file}:{line}: `{room}` names `{}`", path.join("::")));
            }
        }
    }
    wrong
}

/// The places that ask for the time, each with the function around it.
fn time_asked(source: &str) -> Vec<(usize, String)> {
    let code = tokens(source);
    let text = |at: usize| code.get(at).map_or("", |token| token.text);
    let (mut found, mut function) = (Vec::new(), String::new());
    for (at, token) in code.iter().enumerate() {
        if text(at) == "fn" && text(at + 1) != "(" {
            text(at + 1).clone_into(&mut function);
        }
        let asks = ASKS.iter().any(|[a, b, c]| text(at) == *a && text(at + 1) == *b && text(at + 2) == *c);
        if asks {
            found.push((token.line, function.clone()));
        }
    }
    found
}

/// Every place that asks for the time and may not: only clock.rs may, and one function of the sandbox, whose servers
/// live by the wall clock that the clients' tokens are judged by.
fn foreign_clocks(sources: &[(String, String)]) -> Vec<String> {
    let (mut wrong, mut sandbox) = (Vec::new(), BTreeSet::new());
    for (file, source) in sources.iter().filter(|(file, _)| file != "src/clock.rs" && file != RETRY_AFTER) {
        for (line, function) in time_asked(source) {
            if room_of(file) == Some("sandbox") {
                sandbox.insert(format!("{file}: fn {function}"));
            } else {
                wrong.push(format!("{file}:{line}: asks for the time in `{function}`"));
            }
        }
    }
    if sandbox.len() > 1 {
        wrong.push(format!("more than one function of the sandbox asks for the time: {sandbox:?}"));
    }
    wrong
}

/// How many lines hold code.
fn lines_of_code(source: &str) -> usize {
    let lines: BTreeSet<usize> = tokens(source).iter().flat_map(|token| token.line..=token.end_line).collect();
    lines.len()
}

fn long_files(sources: &[(String, String)]) -> Vec<String> {
    sources
        .iter()
        .map(|(file, source)| (file, lines_of_code(source)))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(file, lines)| format!("{file}: {lines} lines of code, {LONGEST_FILE} at most"))
        .collect()
}

/// Names of `http` in `source/` beside `HeaderValue`: the cache knows no HTTP.
fn http_in_the_source(sources: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, source) in sources.iter().filter(|(file, _)| room_of(file) == Some("source")) {
        let code = tokens(source);
        for at in 0..code.len() {
            let preceded = at > 0 && matches!(code[at - 1].text, "::" | ".");
            let crates = ["http", "http_body", "http_body_util", "hyper", "hyper_util"];
            if preceded || !crates.contains(&code[at].text) || code.get(at + 1).is_none_or(|t| t.text != "::") {
                continue;
            }
            let mut named = Vec::new();
            tree(&code, at + 2, Vec::new(), &mut named);
            let only_header = code[at].text == "http"
                && named.iter().all(|named| named.path.iter().any(|name| name == "HeaderValue"));
            if !only_header {
                wrong.push(format!("{file}:{}: the cache names `{}`", code[at].line, code[at].text));
            }
        }
    }
    wrong
}

/// The sources of this package, by their path in it.
fn house() -> Vec<(String, String)> {
    fn walk(directory: &Path, name: &str, into: &mut Vec<(String, String)>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &name, into)?;
            } else if name.ends_with(".rs") {
                into.push((name, fs::read_to_string(entry.path())?));
            }
        }
        Ok(())
    }
    let mut sources = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = walk(&root, "src", &mut sources);
    assert!(read.is_ok(), "the sources cannot be read: {read:?}");
    assert!(sources.iter().any(|(file, _)| file == "src/lib.rs"), "no sources were found");
    sources.sort();
    sources
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_room_names_a_room_above_it() {
    none(&wrong_arrows(&house()));
}

#[test]
fn only_the_clock_asks_for_the_time() {
    none(&foreign_clocks(&house()));
}

#[test]
fn no_file_outgrows_a_reader() {
    none(&long_files(&house()));
}

#[test]
fn the_cache_knows_no_http() {
    none(&http_in_the_source(&house()));
}

fn one(file: &str, source: &str) -> Vec<(String, String)> {
    let lib = "mod error; mod layer; pub use crate::{error::Error, layer::{BearerAuth as Auth}}; pub use source::TokenSource;";
    vec![("src/lib.rs".to_owned(), lib.to_owned()), (file.to_owned(), source.to_owned())]
}

#[test]
fn each_wrong_arrow_is_found() {
    let wrong = [
        ("src/source/slot.rs", "use crate::layer::Service;"),
        ("src/source/slot.rs", "use crate::{error::Error, layer::replay::Empty};"),
        ("src/source/mod.rs", "fn f() { crate::token_endpoint::limits() }"),
        ("src/source/mod.rs", "fn f() { let x: crate::Auth = g(); }"),
        ("src/source/mod.rs", "use crate::api::Origins;"),
        ("src/source/mod.rs", "use crate::api;"),
        ("src/source/slot.rs", "use super::super::layer::Service;"),
        ("src/token.rs", "use super::layer;"),
        ("src/token.rs", "mod tests { use super::super::provider::Secret; }"),
        ("src/error.rs", "use crate::api::Rejection;"),
        ("src/error.rs", "use crate::*;"),
        ("src/clock.rs", "use crate::error::Error;"),
        ("src/clock.rs", "use crate::Error;"),
        ("src/refresh.rs", "use crate::clock::Clock;"),
        ("src/refresh.rs", "use crate::clock::{Now, SystemClock as Clock};"),
        ("src/layer/service.rs", "use crate::clock::Now;"),
        ("src/providers/access_psp.rs", "use crate::layer::BearerAuthLayer;"),
        ("src/providers/access_psp.rs", "use crate::TokenSource;"),
        ("src/providers/client_credentials/mod.rs", "use crate::clock::Clock;"),
        ("src/exchange/mod.rs", "use crate::providers::AccessPsp;"),
        ("src/exchange/mod.rs", "fn f<'a>() { let c = '\"'; crate::sandbox::Issuer::start() }"),
        ("src/cellar/mod.rs", ""),
    ];
    for (file, source) in wrong {
        let found = wrong_arrows(&one(file, source));
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
    }
}

#[test]
fn what_the_plan_allows_is_not_reported() {
    let right = [
        ("src/source/slot.rs", "use super::flight::Flight; use crate::error::{Error, ErrorKind};"),
        ("src/source/slot.rs", "pub(in crate::layer) fn f() { /* crate::layer */ let s = r#\"crate::layer::x\"#; }"),
        (
            "src/source/mod.rs",
            "//! See [`crate::layer::BearerAuth`].\nuse crate::{api::RequestKey, clock::{Clock, Now}};",
        ),
        ("src/source/mod.rs", "mod a { mod b {} fn f() { super::super::Error::new() } }"),
        ("src/token.rs", "fn f() { super::error::Error::new() } mod tests { use super::*; }"),
        ("src/refresh.rs", "fn f(now: crate::clock::Now) -> crate::Error { crate::token::Token::<'static>::x() }"),
        ("src/providers/aeropay/refusal.rs", "use crate::layer::BearerAuthLayer;"),
        ("src/sandbox/mod.rs", "use crate::{layer, source::TokenSource};"),
    ];
    for (file, source) in right {
        none(&wrong_arrows(&one(file, source)));
    }
}

#[test]
fn each_clock_outside_the_clock_is_found() {
    let wrong = [
        ("src/layer/mod.rs", "fn f() { let now = std::time::Instant::now(); }"),
        ("src/token.rs", "fn f() { tokio::time::Instant::now() }"),
        ("src/exchange/mod.rs", "fn f() { std::time::SystemTime::now() }"),
        ("src/source/flight.rs", "fn f(begun: Instant) { begun.elapsed() }"),
        ("src/source/mod.rs", "fn f() { SystemClock.now() }"),
        ("src/sandbox/issuer.rs", "fn f() { SystemTime::now() } fn g() { SystemTime::now() }"),
    ];
    for (file, source) in wrong {
        assert_eq!(foreign_clocks(&one(file, source)).len(), 1, "{file}: {source}");
    }
    let right = [
        ("src/clock.rs", "fn now() { Instant::now(); SystemTime::now() }"),
        ("src/sandbox/time.rs", "fn now() { SystemTime::now() } fn after() -> Instant { todo() }"),
        ("src/layer/mod.rs", "// Instant::now()\nfn f(clock: &dyn Clock) { clock.now(); \"Instant::now\" }"),
    ];
    for (file, source) in right {
        none(&foreign_clocks(&one(file, source)));
    }
}

#[test]
fn http_in_the_cache_is_found() {
    for source in ["use http::{HeaderValue, Request};", "fn f(r: http::Uri) {}", "use hyper::body::Body;"] {
        assert_eq!(http_in_the_source(&one("src/source/mod.rs", source)).len(), 1, "{source}");
    }
    none(&http_in_the_source(&one("src/source/mod.rs", "use http::HeaderValue; use http::header::HeaderValue as H;")));
}

#[test]
fn a_long_file_is_found_and_comments_do_not_count() {
    let code = "let x = \"a\nb\";\n// why\n\n";
    assert_eq!(lines_of_code(&code.repeat(10)), 20);
    assert!(long_files(&one("src/a.rs", &code.repeat(150))).is_empty());
    assert_eq!(long_files(&one("src/a.rs", &code.repeat(151))).len(), 1);
}
