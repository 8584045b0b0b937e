//! The rules for the source code: which module may use which, the order of the files in a folder, who reads the time or the
//! environment, how long a file may be, and which words are not used. The paths and the tests that a page names exist.
//!
//! The tests read the sources as text, so they also see code behind a feature that is off.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use support::source_text::{Named, paths, tokens, tree};

/// The largest number of lines of code in a file. Comments and blank lines do not count.
const MAX_LINES: usize = 300;

/// What a module may use of another one.
#[derive(Clone, Copy)]
enum May {
    Use(&'static str),
    UseOnly(&'static str, &'static [&'static str]),
}
use May::{Use, UseOnly};

/// The dependency rules, from the lowest module up. Every module needs a row.
const RULES: &[(&str, &[May])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("rt", &[Use("error")]),
    ("file", &[Use("error")]),
    // It gets plain words and numbers, and depends on no module that emits events.
    ("telemetry", &[Use("error")]),
    ("message", &[Use("error")]),
    ("token", &[Use("error"), UseOnly("clock", &["Now"])]),
    ("refresh", &[UseOnly("token", &["Deadlines"]), UseOnly("clock", &["Now"])]),
    // The context of a fetch judges tokens by the rules of its source, and by the source's clock.
    (
        "provider",
        &[
            Use("message"),
            Use("token"),
            Use("error"),
            Use("refresh"),
            UseOnly("clock", &["AnyClock", "Now", "until_timer"]),
        ],
    ),
    (
        "source",
        &[
            Use("refresh"),
            Use("token"),
            Use("error"),
            Use("clock"),
            Use("rt"),
            Use("provider"),
            Use("telemetry"),
            // The kind of a rejection decides about the refresh. Reading it from a response is the task of the layer.
            UseOnly("message", &["RequestKey", "Rejection"]),
        ],
    ),
    (
        "layer",
        &[
            Use("source"),
            Use("provider"),
            Use("message"),
            Use("token"),
            Use("error"),
            Use("rt"),
            UseOnly("clock", &["Deadline", "SentAt"]),
        ],
    ),
    ("grpc", &[Use("layer"), Use("provider"), Use("message"), Use("error"), Use("rt"), UseOnly("clock", &["SentAt"])]),
    ("token_endpoint", &[Use("message"), Use("error"), Use("token"), Use("rt"), Use("file")]),
    (
        "providers",
        &[Use("token_endpoint"), Use("provider"), Use("message"), Use("token"), Use("error"), Use("rt"), Use("file")],
    ),
    // It gets its time from the context of a fetch, and its store in memory from a clock.
    (
        "shared",
        &[
            Use("providers"),
            Use("provider"),
            Use("message"),
            Use("token"),
            Use("error"),
            Use("rt"),
            UseOnly("clock", &["AnyClock", "Clock", "Now"]),
        ],
    ),
    // It contains pages, and no code.
    ("guide", &[]),
];

/// Aeropay rejects tokens in bodies, so its provider puts a small layer below the main one. The date in a `Retry-After` of an
/// issuer without a clock of its own is compared with this machine's clock. A signed assertion contains its time of issue.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/providers/aeropay", "layer"),
    (RETRY_AFTER, "clock"),
    ("src/providers/client_credentials/assertion.rs", "clock"),
];
const RETRY_AFTER: &str = "src/token_endpoint/retry_after.rs";

/// The order of the files of a folder, from the lowest up. A file uses only files before it.
const ORDERS: &[(&str, &[&str])] = &[
    (
        "src/source",
        &[
            "stats",
            "jitter",
            "atomic",
            "rotations",
            "action",
            "failure",
            "rejections",
            "replacement",
            "slot",
            "status",
            "fetch_handle",
            "entry",
            "entries",
            "map",
            "grant",
            "cache",
            "report",
            "fetch",
            "lookup",
            "reject",
            "waited",
            "wait",
            "handle",
            "middleware",
            "builder",
        ],
    ),
    (
        "src/layer",
        &[
            "api_headers",
            "audit",
            "replay",
            "settings",
            "cached_grant",
            "deadline",
            "sent_token",
            "response",
            "replaying",
            "future",
            "service",
            "layer",
        ],
    ),
    ("src/layer/replay", &["mode", "saved_head", "saved", "bodies", "buffered"]),
    ("src/grpc", &["body", "watch", "service", "layer", "tonic_0_14"]),
    (
        "src/shared",
        &[
            "store",
            "random",
            "key",
            "identity",
            "note",
            "record",
            "client",
            "lease",
            "flow",
            "provider",
            "builder",
            "providers",
            "memory",
            "contract",
        ],
    ),
];

/// Code that reads the time of the machine. The system clock counts too: code that calls it directly ignores the given clock.
const TIME_READS: &[[&str; 3]] = &[
    ["Instant", "::", "now"],
    ["SystemTime", "::", "now"],
    ["SystemClock", ".", "now"],
    [".", "elapsed", "("],
    ["jsonwebtoken", "::", "get_current_timestamp"],
    ["OffsetDateTime", "::", "now_utc"],
    ["Utc", "::", "now"],
];

type Sources = Vec<(String, String)>;

fn rules_of(module: &str) -> Option<&'static [May]> {
    RULES.iter().find(|(name, _)| *name == module).map(|(_, may)| *may)
}

/// The module of a file: the first part of its path. `None` for lib.rs.
fn module_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("src/")?;
    let module = inside.split('/').next()?.trim_end_matches(".rs");
    (module != "lib").then_some(module)
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// The names at the root of the crate, with their paths.
fn root_names(sources: &Sources) -> BTreeMap<String, Vec<String>> {
    let lib = sources.iter().filter(|(file, _)| file == "src/lib.rs");
    lib.flat_map(|(file, source)| paths(file, &tokens(source)))
        .filter(|named| named.path.len() > 1 && rules_of(&named.path[0]).is_some())
        .map(|named| (named.alias, named.path))
        .collect()
}

/// `path` from the root of the crate, without a re-export of lib.rs.
fn resolved(path: Vec<String>, exported: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    match path.first().and_then(|first| exported.get(first).filter(|_| rules_of(first).is_none())) {
        Some(full) => full.iter().chain(&path[1..]).cloned().collect(),
        None => path,
    }
}

/// Every use of a module that the rules do not allow.
fn forbidden_uses(sources: &Sources) -> Vec<String> {
    let exported = root_names(sources);
    let mut wrong = Vec::new();
    for (file, source) in sources {
        let Some(module) = module_of(file) else { continue };
        let Some(allowed) = rules_of(module) else {
            wrong.push(format!("{file}: there is no rule for the module `{module}`"));
            continue;
        };
        for Named { path, line, .. } in paths(file, &tokens(source)) {
            let full = resolved(path.clone(), &exported);
            let [to, name] = [0, 1].map(|at| full.get(at).map_or("", String::as_str));
            let excepted = EXCEPTIONS.iter().any(|(from, other)| file.starts_with(from) && to == *other);
            let may = allowed.iter().any(|may| match may {
                Use(other) => *other == to,
                UseOnly(other, names) => *other == to && names.contains(&name),
            });
            if to != module && !excepted && !may {
                wrong.push(format!("{file}:{line}: `{module}` uses `{}`", path.join("::")));
            }
        }
    }
    wrong
}

/// A folder of `src`, as its files see it.
struct Folder {
    /// Its files and subfolders, without mod.rs and tests.
    units: BTreeSet<String>,
    /// Which unit uses which, and where.
    uses: BTreeMap<(String, String), String>,
    /// The uses that name the unit, and not a re-export of mod.rs.
    direct: BTreeSet<(String, String)>,
    /// Uses of items that mod.rs defines itself.
    uses_of_index: Vec<String>,
}

impl Folder {
    fn read(folder: &str, sources: &Sources) -> Self {
        let exported = root_names(sources);
        let module: Vec<String> = folder.split('/').skip(1).map(str::to_owned).collect();
        let unit_of = |file: &str| {
            let inside = file.strip_prefix(folder)?.strip_prefix('/')?;
            let unit = inside.split('/').next()?.trim_end_matches(".rs");
            (!is_test(file) && !matches!(unit, "mod" | "lib")).then(|| unit.to_owned())
        };
        let units: BTreeSet<String> = sources.iter().filter_map(|(file, _)| unit_of(file)).collect();
        let within = |path: &[String]| path.strip_prefix(&module[..]).map(<[String]>::to_vec);
        // What mod.rs re-exports, and from which unit.
        let index = format!("{folder}/mod.rs");
        let reexports: BTreeMap<String, String> = sources
            .iter()
            .filter(|(file, _)| *file == index)
            .flat_map(|(file, source)| paths(file, &tokens(source)))
            .filter_map(|named| Some((named.alias, within(&named.path)?.first()?.clone())))
            .filter(|(_, unit)| units.contains(unit))
            .collect();
        let (mut uses, mut direct, mut uses_of_index) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for (file, source) in sources {
            let Some(unit) = unit_of(file) else { continue };
            for Named { path, line, .. } in paths(file, &tokens(source)) {
                let Some(name) = within(&resolved(path, &exported)).and_then(|inside| inside.first().cloned()) else {
                    continue;
                };
                let at = format!("{file}:{line}");
                match if units.contains(&name) { Some(&name) } else { reexports.get(&name) } {
                    Some(target) if *target != unit => {
                        if *target == name {
                            direct.insert((unit.clone(), name.clone()));
                        }
                        uses.entry((unit.clone(), target.clone())).or_insert(at);
                    }
                    Some(_) => {}
                    None => uses_of_index.push(format!("{at}: `{name}` of mod.rs")),
                }
            }
        }
        Self { units, uses, direct, uses_of_index }
    }

    /// The units that a unit depends on through uses that name a unit.
    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let (mut found, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(unit) = next.pop() {
            for (_, target) in self.direct.iter().filter(|(user, _)| user == unit) {
                if found.insert(target.as_str()) {
                    next.push(target);
                }
            }
        }
        found
    }
}

/// Every use that runs against the order of its folder.
fn uses_against_order(folder: &str, order: &[&str], sources: &Sources) -> Vec<String> {
    let read = Folder::read(folder, sources);
    let listed: BTreeSet<String> = order.iter().map(|&name| name.to_owned()).collect();
    let mut wrong: Vec<String> = read
        .units
        .symmetric_difference(&listed)
        .map(|unit| format!("{folder}: `{unit}` is only in the order, or only in the folder"))
        .collect();
    let rank = |unit: &String| order.iter().position(|name| name == unit);
    for ((unit, target), at) in &read.uses {
        if rank(target) > rank(unit) {
            wrong.push(format!("{at}: `{unit}` uses `{target}`, which is above it"));
        }
    }
    wrong.extend(read.uses_of_index);
    wrong
}

/// Every cycle of files in one folder.
fn cycles(sources: &Sources) -> Vec<String> {
    let folders: BTreeSet<&str> =
        sources.iter().filter_map(|(file, _)| file.rsplit_once('/')).map(|(folder, _)| folder).collect();
    let mut wrong = Vec::new();
    for folder in folders.into_iter().filter(|folder| *folder != "src" && !folder.ends_with("/tests")) {
        let read = Folder::read(folder, sources);
        let in_cycle: Vec<&String> =
            read.units.iter().filter(|unit| read.reachable(unit).contains(unit.as_str())).collect();
        if !in_cycle.is_empty() {
            wrong.push(format!("{folder}: a cycle of {in_cycle:?}"));
        }
    }
    wrong
}

/// The places that read the time, with the functions around them.
fn time_reads(source: &str) -> Vec<(usize, String)> {
    let code = tokens(source);
    let text = |at: usize| code.get(at).map_or("", |token| token.text);
    let (mut found, mut function) = (Vec::new(), String::new());
    for (at, token) in code.iter().enumerate() {
        if text(at) == "fn" && text(at + 1) != "(" {
            text(at + 1).clone_into(&mut function);
        }
        if TIME_READS.iter().any(|[a, b, c]| text(at) == *a && text(at + 1) == *b && text(at + 2) == *c) {
            found.push((token.line, function.clone()));
        }
    }
    found
}

/// Every place that reads the time and must not. Allowed are clock.rs, and one function of the sandbox: its servers judge tokens
/// by the wall clock.
fn forbidden_time_reads(sources: &Sources) -> Vec<String> {
    let (mut wrong, mut sandbox) = (Vec::new(), BTreeSet::new());
    for (file, source) in sources.iter().filter(|(file, _)| file != "src/clock.rs" && file != RETRY_AFTER) {
        for (line, function) in time_reads(source) {
            if file.starts_with("sandbox/") {
                sandbox.insert(format!("{file}: fn {function}"));
            } else {
                wrong.push(format!("{file}:{line}: `{function}` reads the time"));
            }
        }
    }
    if sandbox.len() > 1 {
        wrong.push(format!("more than one function of the sandbox reads the time: {sandbox:?}"));
    }
    wrong
}

/// Every use of a file or of an environment variable outside of tests, by file.
fn outside_uses(sources: &Sources) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, source) in sources.iter().filter(|(file, _)| !is_test(file)) {
        let code = tokens(source);
        let text = |at: usize| code.get(at).map_or("", |token| token.text);
        for at in 0..code.len() {
            let used = match (text(at), text(at + 1), text(at + 2)) {
                ("std" | "tokio", "::", module @ ("fs" | "env")) if text(at + 3) != "::" || text(at + 4) == "{" => {
                    format!("{}::{module}", text(at))
                }
                (module @ ("fs" | "File"), "::", item) => format!("{module}::{item}"),
                // The crate has a module of this name.
                ("env", "::", item) if item.contains("var") => format!("env::{item}"),
                ("OpenOptions", ..) => "OpenOptions".to_owned(),
                _ => continue,
            };
            found.push((file.clone(), used));
        }
    }
    found
}

fn lines_of_code(source: &str) -> usize {
    let lines: BTreeSet<usize> = tokens(source).iter().flat_map(|token| token.line..=token.end_line).collect();
    lines.len()
}

fn long_files(sources: &Sources) -> Vec<String> {
    sources
        .iter()
        .map(|(file, source)| (file, lines_of_code(source)))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(file, lines)| format!("{file}: {lines} lines of code, at most {MAX_LINES} are allowed"))
        .collect()
}

/// Every use of an HTTP crate in `source/` other than `http::HeaderValue`.
fn http_in_source(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, source) in sources.iter().filter(|(file, _)| module_of(file) == Some("source")) {
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
                wrong.push(format!("{file}:{}: uses `{}`", code[at].line, code[at].text));
            }
        }
    }
    wrong
}

/// The files below `folder` whose names have one of these endings, by their paths in the package.
fn files(folder: &str, endings: &[&str]) -> Sources {
    fn walk(folder: &Path, name: &str, endings: &[&str], into: &mut Sources) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let path = if name.is_empty() { file.clone() } else { format!("{name}/{file}") };
            if entry.path().is_dir() {
                // The root itself is read without its folders.
                if file != "target" && !name.is_empty() {
                    walk(&entry.path(), &path, endings, into)?;
                }
            } else if endings.iter().any(|ending| file.ends_with(ending)) {
                into.push((path, String::from_utf8_lossy(&fs::read(entry.path())?).into_owned()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if root.is_dir() {
        let read = walk(&root, folder, endings, &mut found);
        assert!(read.is_ok(), "{folder} cannot be read: {read:?}");
    }
    found.sort();
    found
}

fn sources() -> Sources {
    let sources = files("src", &[".rs"]);
    assert!(sources.iter().any(|(file, _)| file == "src/lib.rs"), "there are no sources");
    sources
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_module_uses_a_module_above_it() {
    none(&forbidden_uses(&sources()));
}

#[test]
fn no_file_of_an_ordered_folder_uses_a_file_above_it() {
    let sources = sources();
    none(&ORDERS.iter().flat_map(|(folder, order)| uses_against_order(folder, order, &sources)).collect::<Vec<_>>());
}

#[test]
fn no_folder_has_a_cycle_of_files() {
    none(&cycles(&sources()));
}

#[test]
fn only_the_clock_reads_the_time() {
    let mut all = sources();
    all.extend(files("sandbox/src", &[".rs"]));
    none(&forbidden_time_reads(&all));
}

#[test]
fn the_source_writes_no_file_and_reads_the_environment_in_two_places() {
    let uses = outside_uses(&sources());
    assert_eq!(
        uses,
        [
            ("src/file.rs", "fs::File"),
            ("src/file.rs", "File::open"),
            ("src/providers/env.rs", "env::vars_os"),
            ("src/providers/env.rs", "env::var_os"),
            ("src/token_endpoint/http_client_builder.rs", "env::var_os"),
        ]
        .map(|(file, what)| (file.to_owned(), what.to_owned()))
    );
}

#[test]
fn a_use_of_a_file_or_of_the_environment_is_found() {
    for (source, found) in [
        ("fn f() { std::fs::write(a, b) }", "fs::write"),
        ("use std::fs;", "std::fs"),
        ("use std::env::{self, var};", "std::env"),
        ("fn f() { tokio::fs::File::create(a) }", "File::create"),
        ("fn f() { File::options() }", "File::options"),
        ("fn f() { OpenOptions::new() }", "OpenOptions"),
        ("fn f() { env::vars() }", "env::vars"),
    ] {
        let uses = outside_uses(&one("src/layer/mod.rs", source));
        assert!(uses.iter().any(|(_, what)| what == found), "{source}: {uses:?}");
    }
    assert_eq!(outside_uses(&one("src/source/slot/tests/x.rs", "fn f() { std::fs::write(a, b) }")), []);
    assert_eq!(outside_uses(&one("src/layer/mod.rs", "// fs::write\nfn f() { let x = env!(\"A\"); }")), []);
}

#[test]
fn no_file_is_too_long() {
    none(&long_files(&sources()));
}

#[test]
fn the_source_contains_no_http() {
    none(&http_in_source(&sources()));
}

/// Two sources: a small lib.rs, and `source`.
fn one(file: &str, source: &str) -> Sources {
    let lib = "mod error; mod layer; pub use crate::{error::Error, layer::{BearerAuth as Auth}}; pub use source::TokenSource;";
    vec![("src/lib.rs".to_owned(), lib.to_owned()), (file.to_owned(), source.to_owned())]
}

#[test]
fn each_forbidden_use_is_found() {
    let wrong = [
        ("src/source/slot.rs", "use crate::layer::Service;"),
        ("src/source/slot.rs", "use crate::{error::Error, layer::replay::Empty};"),
        ("src/source/mod.rs", "fn f() { crate::token_endpoint::limits() }"),
        ("src/source/mod.rs", "fn f() { let x: crate::Auth = g(); }"),
        ("src/source/mod.rs", "use crate::message::Origins;"),
        ("src/source/mod.rs", "use crate::message;"),
        ("src/source/slot.rs", "use super::super::layer::Service;"),
        ("src/token.rs", "use super::layer;"),
        ("src/token.rs", "mod tests { use super::super::provider::TokenProvider; }"),
        ("src/error/mod.rs", "use crate::message::Rejection;"),
        ("src/error/kind.rs", "use crate::*;"),
        ("src/clock.rs", "use crate::error::Error;"),
        ("src/clock.rs", "use crate::Error;"),
        ("src/rt.rs", "use crate::clock::Now;"),
        ("src/refresh.rs", "use crate::clock::Clock;"),
        ("src/refresh.rs", "use crate::clock::{Now, SystemClock as Clock};"),
        ("src/refresh.rs", "use crate::token::Token;"),
        ("src/telemetry/mod.rs", "use crate::token::Token;"),
        ("src/provider.rs", "use crate::source::TokenSource;"),
        ("src/layer/service.rs", "use crate::clock::Now;"),
        ("src/providers/access_psp.rs", "use crate::layer::BearerAuthLayer;"),
        ("src/providers/access_psp.rs", "use crate::TokenSource;"),
        ("src/providers/client_credentials/mod.rs", "use crate::clock::Clock;"),
        ("src/token_endpoint/mod.rs", "use crate::providers::AccessPsp;"),
        ("src/token_endpoint/mod.rs", "fn f<'a>() { let c = '\"'; crate::source::TokenSource::new() }"),
        ("src/cellar/mod.rs", ""),
    ];
    for (file, source) in wrong {
        let found = forbidden_uses(&one(file, source));
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
    }
}

#[test]
fn no_allowed_use_is_reported() {
    let right = [
        ("src/source/slot.rs", "use super::failure::Failure; use crate::error::{Error, ErrorKind};"),
        ("src/source/slot.rs", "pub(in crate::layer) fn f() { /* crate::layer */ let s = r#\"crate::layer::x\"#; }"),
        (
            "src/source/mod.rs",
            "//! See [`crate::layer::BearerAuth`].\nuse crate::{message::RequestKey, clock::{Clock, Now}};",
        ),
        ("src/source/mod.rs", "mod a { mod b {} fn f() { super::super::Error::new() } }"),
        ("src/token.rs", "fn f() { super::error::Error::new() } mod tests { use super::*; }"),
        ("src/refresh.rs", "fn f(now: crate::clock::Now) -> crate::token::Deadlines { g::<'static>() }"),
        ("src/providers/aeropay/rejection.rs", "use crate::layer::BearerAuthLayer;"),
        (RETRY_AFTER, "use crate::clock::{Clock, SystemClock};"),
    ];
    for (file, source) in right {
        none(&forbidden_uses(&one(file, source)));
    }
}

/// A folder of files `low`, `middle` and `high`, with these contents.
fn folder(low: &str, middle: &str, high: &str) -> Sources {
    let index = "mod low; mod middle; mod high; pub use self::low::Low; pub use self::high::{High as Top};";
    let files = [("mod.rs", index), ("low.rs", low), ("middle/mod.rs", middle), ("high.rs", high)];
    let mut sources = one("src/source/low/tests.rs", "use super::super::high::High;");
    sources.extend(files.map(|(file, source)| (format!("src/source/{file}"), source.to_owned())));
    sources
}

const LOW_TO_HIGH: &[&str] = &["low", "middle", "high"];

#[test]
fn each_use_against_the_order_is_found() {
    let wrong = [
        folder("use super::high::High;", "", ""),
        folder("use super::{middle::Middle};", "", ""),
        folder("", "fn f() { super::high::g() }", ""),
        folder("", "use crate::source::high::High;", ""),
        // By way of a re-export of mod.rs, under another name.
        folder("use super::Top;", "", ""),
        // An item that mod.rs defines.
        folder("", "", "use super::Elsewhere;"),
    ];
    for sources in wrong {
        let found = uses_against_order("src/source", LOW_TO_HIGH, &sources);
        assert_eq!(found.len(), 1, "{sources:?}: {found:?}");
    }
    let right = folder("", "use super::Low; use crate::source::low::f;", "use super::{low, middle::Middle};");
    none(&uses_against_order("src/source", LOW_TO_HIGH, &right));
    let unknown = uses_against_order("src/source", &["low", "high", "missing"], &right);
    assert!(unknown.iter().filter(|fault| fault.contains("is only in")).count() == 2, "{unknown:?}");
}

#[test]
fn each_cycle_is_found() {
    let wrong = [
        folder("use super::high::High;", "", "use super::low::Low;"),
        folder("use super::high::High;", "use super::low::Low;", "use super::middle::Middle;"),
    ];
    for sources in wrong {
        let found = cycles(&sources);
        assert_eq!(found.len(), 1, "{sources:?}: {found:?}");
    }
    none(&cycles(&folder("use super::high::High;", "use super::low::Low;", "")));
}

#[test]
fn each_forbidden_time_read_is_found() {
    let wrong = [
        ("src/layer/mod.rs", "fn f() { let now = std::time::Instant::now(); }"),
        ("src/token.rs", "fn f() { tokio::time::Instant::now() }"),
        ("src/token_endpoint/mod.rs", "fn f() { std::time::SystemTime::now() }"),
        ("src/source/fetch.rs", "fn f(started: Instant) { started.elapsed() }"),
        ("src/source/mod.rs", "fn f() { SystemClock.now() }"),
        ("sandbox/src/issuer.rs", "fn f() { SystemTime::now() } fn g() { SystemTime::now() }"),
    ];
    for (file, source) in wrong {
        assert_eq!(forbidden_time_reads(&one(file, source)).len(), 1, "{file}: {source}");
    }
    let right = [
        ("src/clock.rs", "fn now() { Instant::now(); SystemTime::now() }"),
        ("sandbox/src/time.rs", "fn now() { SystemTime::now() } fn after() -> Instant { todo() }"),
        ("src/layer/mod.rs", "// Instant::now()\nfn f(clock: &dyn Clock) { clock.now(); \"Instant::now\" }"),
    ];
    for (file, source) in right {
        none(&forbidden_time_reads(&one(file, source)));
    }
}

#[test]
fn http_in_the_source_is_found() {
    for source in ["use http::{HeaderValue, Request};", "fn f(r: http::Uri) {}", "use hyper::body::Body;"] {
        assert_eq!(http_in_source(&one("src/source/mod.rs", source)).len(), 1, "{source}");
    }
    none(&http_in_source(&one("src/source/mod.rs", "use http::HeaderValue; use http::header::HeaderValue as H;")));
}

#[test]
fn a_long_file_is_found_and_comments_do_not_count() {
    let code = "let x = \"a\nb\";\n// why\n\n";
    assert_eq!(lines_of_code(&code.repeat(10)), 20);
    assert!(long_files(&one("src/a.rs", &code.repeat(150))).is_empty());
    assert_eq!(long_files(&one("src/a.rs", &code.repeat(151))).len(), 1);
}

/// How often the old words may be used, in all files together.
const MAX_OLD_WORDS: usize = 20;

/// One old word or phrase. Each is split, so that this file does not use it.
struct Old {
    word: [&'static str; 2],
    /// The endings that count, the longest first.
    endings: &'static [&'static str],
    /// Whether it counts only at the start of a word, and only at the end of one.
    starts_word: bool,
    ends_word: bool,
    /// Whether it may not be followed by a letter.
    no_letter_after: bool,
    /// It does not count after one of these.
    not_after: &'static [&'static str],
}

const ANYWHERE: Old = Old {
    word: ["", ""],
    endings: &[""],
    starts_word: false,
    ends_word: false,
    no_letter_after: false,
    not_after: &[],
};
const VERB: Old = Old { starts_word: true, no_letter_after: true, ..ANYWHERE };

/// The words that other words have replaced.
const OLD_WORDS: &[Old] = &[
    Old { word: ["fli", "ght"], starts_word: true, not_after: &["single ", "single-", "single_"], ..ANYWHERE },
    Old { word: ["in the", " air"], ..ANYWHERE },
    Old { word: ["second", " sending"], ..ANYWHERE },
    Old { word: ["he", "al"], endings: &["ing", "ed", "s", ""], ..VERB },
    Old { word: ["thr", "o"], endings: &["wn out", "ws out", "w out"], ..ANYWHERE },
    Old { word: ["thr", "ew out"], ..ANYWHERE },
    Old { word: ["left", " alone"], ..ANYWHERE },
    Old { word: ["me", "nd"], endings: &["ed", "s", ""], ..VERB },
    Old { word: ["usable", " end"], ..ANYWHERE },
    Old { word: ["nominal", " end"], ..ANYWHERE },
    Old { word: ["ref", "us"], endings: &["als", "al", "es", "ed", "e"], no_letter_after: true, ..ANYWHERE },
    Old { word: ["ey", "es"], starts_word: true, ends_word: true, ..ANYWHERE },
    Old { word: ["la", "nd"], endings: &["ings", "ing", "ed", "s", ""], ..VERB },
    Old { word: ["dep", "art"], endings: &["ed", "s", ""], ..VERB },
    Old { word: ["that is", " none"], ..ANYWHERE },
    Old { word: ["but", " for"], starts_word: true, ends_word: true, ..ANYWHERE },
    Old { word: ["ans", "wer"], ..ANYWHERE },
    Old { word: ["pau", "se"], endings: &["s", ""], ..VERB },
];

/// Terms of other people that contain an old word.
const KEPT: &[[&str; 2]] = &[
    ["connection ref", "used"],
    ["connection_ref", "used"],
    ["connectionref", "used"],
    ["econnref", "used"],
    ["ref", "used to connect"],
    ["tokio::time::pau", "se"],
    ["start_pau", "sed"],
    ["::pau", "se("],
];

impl Old {
    /// The length of this word at the start of `rest`, in lower case, with the text `before` it.
    fn matches(&self, before: &str, rest: &str) -> Option<usize> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if self.starts_word && before.ends_with(is_word) || self.not_after.iter().any(|not| before.ends_with(not)) {
            return None;
        }
        let tail = rest.strip_prefix(self.word[0])?.strip_prefix(self.word[1])?;
        self.endings.iter().find_map(|ending| {
            let after = tail.strip_prefix(ending)?;
            let goes_on = self.ends_word && after.starts_with(is_word)
                || self.no_letter_after && after.starts_with(|c: char| c.is_ascii_lowercase());
            (!goes_on).then(|| rest.len() - after.len())
        })
    }
}

/// The lines that use an old word, once for each use.
fn old_words(text: &str) -> Vec<usize> {
    let mut text = text.to_lowercase();
    for kept in KEPT {
        text = text.replace(&kept.concat(), "");
    }
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(next) = text[at..].chars().next() {
        let (before, rest) = text.split_at(at);
        let length = OLD_WORDS.iter().find_map(|old| old.matches(before, rest));
        found.extend(length.map(|_| line));
        line += usize::from(next == '\n');
        at += length.unwrap_or_else(|| next.len_utf8());
    }
    found
}

#[test]
fn the_old_words_are_gone() {
    let mut all = Vec::new();
    for folder in ["src", "sandbox", "tests", "benches", "examples", "stores"] {
        all.extend(files(folder, &[".rs"]));
    }
    all.extend(files("docs", &[".md"]));
    all.extend(files("scripts", &[""]));
    all.extend(files("", &[".md"]).into_iter().filter(|(file, _)| file != "CHANGELOG.md"));
    let uses: Vec<String> = all
        .iter()
        .flat_map(|(file, text)| old_words(text).into_iter().map(move |line| format!("{file}:{line}")))
        .collect();
    println!("{} uses of old words in {} files", uses.len(), all.len());
    assert!(uses.len() <= MAX_OLD_WORDS, "{} uses of old words:\n{}", uses.len(), uses.join("\n"));
}

#[test]
fn each_old_word_is_found() {
    for old in OLD_WORDS {
        for ending in old.endings {
            let word = format!("{}{ending}", old.word.concat());
            for text in [format!("It is {word} here."), word.to_uppercase(), format!("{word}.\n")] {
                assert_eq!(old_words(&text).len(), 1, "{text}");
            }
            if old.starts_word {
                assert_eq!(old_words(&format!("x{word}")), [0; 0], "{word}");
            }
            if old.no_letter_after {
                assert_eq!(old_words(&format!("{word}x")), [0; 0], "{word}");
                assert_eq!(old_words(&format!("{word}_x")).len(), 1, "{word}");
            }
        }
    }
    let fli = ["Fli", "ght"].concat();
    assert_eq!(old_words(&format!("a\n{fli}\n{fli}s {fli}")), [2, 3, 3]);
    assert_eq!(old_words(&format!("single {fli}, single-{fli}, single_{fli}")), [0; 0]);
    for kept in KEPT {
        assert_eq!(old_words(&kept.concat()), [0; 0], "{kept:?}");
    }
}

const ROOTS: &[&str] = &["src/", "tests/", "docs/", "scripts/", "examples/", "sandbox/", "benches/", ".ci/"];

/// The paths in a page that do not exist. In a row of a table, a bare `x.rs` or `x/` is in the folder of the path before it.
fn stale_paths(name: &str, page: &str) -> Vec<String> {
    let (mut stale, mut fenced) = (Vec::new(), false);
    for (index, line) in page.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let mut folder = None;
        for code in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            let path = code.split([' ', ':']).next().unwrap_or_default();
            let full = if ROOTS.iter().any(|root| path.starts_with(root)) && !path.contains('*') {
                let full = PathBuf::from(path);
                folder = if path.ends_with('/') { Some(full.clone()) } else { full.parent().map(Path::to_path_buf) };
                full
            } else if line.starts_with('|') && (path.ends_with(".rs") || path.ends_with('/')) {
                let Some(folder) = &folder else { continue };
                folder.join(path)
            } else {
                continue;
            };
            if !full.exists() {
                stale.push(format!("{name}:{}: {}", index + 1, full.display()));
            }
        }
    }
    stale
}

#[test]
fn every_path_in_a_page_exists() {
    let mut pages = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).to_vec();
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let stale: Vec<String> = pages
        .iter()
        .flat_map(|page| stale_paths(&page.display().to_string(), &fs::read_to_string(page).unwrap()))
        .collect();
    assert!(stale.is_empty(), "{stale:#?}");
}

#[test]
fn a_path_that_does_not_exist_is_found() {
    let page = "| which file | `src/source/slot.rs`, `entry.rs`, `nowhere.rs` |\nSee `src/nowhere/`, and `scripts/bench count`.\n";
    assert_eq!(stale_paths("page", page), ["page:1: src/source/nowhere.rs", "page:2: src/nowhere/"]);
}

/// The tests in code spans of a text: `FILE.rs::NAME`.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter_map(|code| code.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect()
}

/// Whether a file has a test function of this name: a function with an attribute that ends with `test`.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        function.is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    };
    let is_test = |attribute: &str| {
        let path = attribute.strip_prefix("#[").and_then(|rest| rest.split([']', '(']).next());
        path.is_some_and(|path| path.rsplit("::").next() == Some("test"))
    };
    lines.iter().enumerate().filter(|(_, line)| declares(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.into_iter().any(|line| is_test(line))
    })
}

#[test]
fn every_test_that_a_page_names_exists() {
    let mut missing = Vec::new();
    for (page, text) in files("docs", &[".md"]) {
        for (file, name) in named_tests(&text) {
            if !fs::read_to_string(file).is_ok_and(|source| has_test(&source, name)) {
                missing.push(format!("{page}: {file}::{name}"));
            }
        }
    }
    none(&missing);
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    let source = "#[test]\nfn a() {}\n\n#[tokio::test(start_paused = true)]\n// R1\nasync fn b() {}\n\nfn c() {}\n// fn d() {}\n\
                  #[test]\n#[cfg(x)]\nfn e() {}\n#[testing]\nfn f() {}\n";
    let found = ["a", "b", "c", "d", "e", "f", "aa"].map(|name| has_test(source, name));
    assert_eq!(found, [true, true, false, false, true, false, false]);
    assert_eq!(named_tests("`a.rs::b`<br>`x::y` and `c/d.rs::e`, a.rs::f"), [("a.rs", "b"), ("c/d.rs", "e")]);
}

/// The number of rows of the tables whose last column has the tests, and the rows without the name of a test.
fn rows_without_a_test(page: &str) -> (usize, Vec<&str>) {
    let (mut rows, mut untested, mut in_table) = (0, Vec::new(), false);
    for line in page.lines() {
        if line.ends_with("| tests |") {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("| ---") {
            rows += 1;
            let column = line.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
            if named_tests(column).is_empty() {
                untested.push(line);
            }
        }
    }
    (rows, untested)
}

#[test]
fn each_row_of_the_threat_model_names_its_tests() {
    let page = include_str!("../docs/security.md");
    let (rows, untested) = rows_without_a_test(page);
    assert_eq!(untested, [""; 0]);
    // The tests are in tables of their own, because their names are long.
    let numbers = |header: &str| -> Vec<usize> {
        let mut in_table = false;
        let lines = page.lines().filter(|line| {
            in_table = line == &header || in_table && line.starts_with('|');
            in_table
        });
        lines.filter_map(|line| line.split('|').nth(1)?.trim().parse().ok()).collect()
    };
    let claims = numbers("| row | the attacker cannot | because |");
    assert_eq!(claims, (1..=rows).collect::<Vec<_>>());
    assert_eq!(numbers("| row | tests |"), claims);
    let attackers = ["caller of a gateway", "API", "issuer", "network", "tenant", "log reader"];
    for attacker in attackers {
        let heading = page.lines().position(|line| line.starts_with("### ") && line.ends_with(attacker));
        assert!(heading.is_some(), "no section for: {attacker}");
    }
    assert!(rows > 30, "a loop over nothing proves nothing");
    let broken = "| a | tests |\n| --- | --- |\n| b | `c.rs::d` |\n| e | - |\n\n| f | g |\n| h | i |\n";
    assert_eq!(rows_without_a_test(broken), (2, vec!["| e | - |"]));
}

/// The function that a line of cargo-mutants is about: `replace F -> T with V`, `replace + with - in F`, `delete ! in F`.
fn changed_function(change: &str) -> &str {
    let function = match change.rsplit_once(" in ") {
        Some((_, function)) => function,
        None => change.split(" -> ").next().and_then(|start| start.split(" with ").next()).unwrap_or_default(),
    };
    function.rsplit("::").next().unwrap_or(function).trim_start_matches("replace ")
}

// The line numbers are not in the list, so it changes only if the code of a survivor does.
#[test]
fn every_explained_survivor_is_in_a_function_that_exists() {
    let list = include_str!("mutants/survivors.txt");
    let mut missing = Vec::new();
    for line in list.lines().filter(|line| line.starts_with("src/")) {
        let Some((file, change)) = line.split_once(": ") else {
            missing.push(format!("not FILE: CHANGE: {line}"));
            continue;
        };
        let function = format!("fn {}", changed_function(change));
        if !fs::read_to_string(file).is_ok_and(|source| source.contains(&function)) {
            missing.push(format!("{file} has no {function}: {change}"));
        }
    }
    none(&missing);
    for (change, function) in [
        ("replace Entry<K>::evict -> bool with true", "evict"),
        ("replace && with || in FailuresInARow::is_empty", "is_empty"),
        ("replace was_set_back -> bool with false", "was_set_back"),
        ("replace Slot<F>::wake with ()", "wake"),
        ("replace <impl Key for ()>::read -> Result<Self, Error> with Ok(Default::default())", "read"),
        ("delete match arm Self::Unused in GrantCache<P>::record", "record"),
    ] {
        assert_eq!(changed_function(change), function);
    }
}
