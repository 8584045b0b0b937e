//! The guide: every page is listed, every link works in the repository and on docs.rs, and the figures of the refresh page are
//! the measured ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tower_bearer_auth::{Error, FetchContext, IssuedToken, RefreshPolicy, TokenProvider, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, AeropaySandbox};

use support::time::Paused;

const GUIDE: &str = include_str!("../src/guide.rs");
const CONTENTS: &str = include_str!("../src/guide/contents.md");
const LISTING: &str = include_str!("golden/public-api.txt");
const DOCS_RS: &str = "https://docs.rs/tower-bearer-auth/latest/tower_bearer_auth/";
/// The files of the published package.
const SOURCE: &str = "https://docs.rs/crate/tower-bearer-auth/latest/source/";
const SANDBOX_DOCS_RS: &str = "https://docs.rs/tower-bearer-auth-sandbox/latest/tower_bearer_auth_sandbox/";

/// Files of `docs/` for contributors. They are not in the guide.
const NOT_IN_THE_GUIDE: &[&str] = &["requirements.md"];

/// The file name and the text of each page.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files = files.filter(|file| file.ends_with(".md") && !NOT_IN_THE_GUIDE.contains(&file.as_str()));
    files.map(|file| (file.clone(), fs::read_to_string(format!("docs/{file}")).unwrap())).collect()
}

/// The modules of the guide, each with the name of its file.
fn modules() -> BTreeMap<String, String> {
    let invoked = GUIDE.lines().filter_map(|line| line.strip_prefix("page!(")?.strip_suffix("\");"));
    let pairs = invoked.map(|call| call.split_once(", \"").unwrap());
    pairs.map(|(module, file)| (module.to_owned(), file.to_owned())).collect()
}

#[test]
fn every_page_is_a_module_of_the_guide_and_is_in_its_contents() {
    let (pages, modules) = (pages(), modules());
    assert_eq!(modules.values().collect::<BTreeSet<_>>(), pages.keys().collect::<BTreeSet<_>>());
    assert!(modules.len() > 8, "a loop over nothing proves nothing");
    for (module, file) in &modules {
        assert_eq!(file.trim_end_matches(".md").replace('-', "_"), *module);
        let title = pages[file].lines().next().unwrap().strip_prefix("# ").unwrap();
        let row = format!("| [{title}]({module}) | ");
        assert_eq!(CONTENTS.lines().filter(|line| line.starts_with(&row)).count(), 1, "contents.md: {row}");
    }
    assert_eq!(CONTENTS.lines().filter(|line| line.starts_with("| [")).count(), modules.len());
}

/// A text without its fenced code blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A line that is `[label]: target`.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (label, rest) = line.strip_prefix('[')?.split_once(']')?;
    rest.strip_prefix(": ").map(|target| (label, target))
}

fn definitions(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(definition).map(|(label, target)| (label.to_owned(), target.to_owned())).collect()
}

/// The labels that a text uses: each `[text][label]`, and each `[label]` that is code or one of `known`.
fn used(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let text: Vec<String> = prose(text).lines().filter(|line| definition(line).is_none()).map(str::to_owned).collect();
    // A link may continue on the next line.
    let text = text.join(" ");
    let pieces: Vec<(&str, &str)> = text.split('[').skip(1).filter_map(|piece| piece.split_once(']')).collect();
    for (at, (piece, after)) in pieces.iter().enumerate() {
        let label_follows = after.is_empty() && at + 1 < pieces.len();
        let labelled = at > 0 && pieces[at - 1].1.is_empty();
        let alone = !label_follows && !after.starts_with('(') && (piece.starts_with('`') || known.contains(*piece));
        if labelled || alone {
            found.insert((*piece).to_owned());
        }
    }
    found
}

/// The targets of inline links: `[text](target)`.
fn inline(text: &str) -> Vec<String> {
    let text = prose(text);
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The path that rustdoc needs in place of a URL of docs.rs.
fn path_of(url: &str) -> Option<String> {
    let page = url.strip_prefix(DOCS_RS)?;
    let (page, member) = page.split_once('#').map_or((page, None), |(page, member)| (page, Some(member)));
    let mut parts: Vec<&str> = page.split('/').collect();
    let last = parts.pop()?;
    let mut path = String::from("crate");
    let mut name = None;
    if last != "index.html" {
        name = Some(last.strip_suffix(".html")?.split_once('.')?);
    }
    parts.extend(name.map(|(_, name)| name));
    parts.extend(member.and_then(|member| member.split_once('.')).map(|(_, name)| name));
    for part in parts {
        path.push_str("::");
        path.push_str(part);
    }
    if name.is_some_and(|(kind, _)| kind == "fn") {
        path.push_str("()");
    }
    Some(path)
}

/// Whether docs.rs has such a page, according to the listing of public items.
fn is_listed(url: &str) -> bool {
    let page = url.strip_prefix(DOCS_RS).unwrap().split('#').next().unwrap();
    let (place, last) = page.rsplit_once('/').unwrap_or(("", page));
    let place = if place.is_empty() { String::new() } else { format!("::{}", place.replace('/', "::")) };
    let item = match last.strip_suffix(".html").unwrap().split_once('.') {
        Some((kind, name)) => format!("pub {kind} tower_bearer_auth{place}::{name}"),
        None => format!("pub mod tower_bearer_auth{place}"),
    };
    let ends = |rest: &str| rest.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    LISTING.lines().any(|line| line.split_once(&item).is_some_and(|(_, rest)| ends(rest)))
}

/// The URLs of the sandbox's items. The compiler checks that the items exist.
fn sandbox_urls() -> BTreeSet<String> {
    let mut urls = BTreeSet::from([format!("{SANDBOX_DOCS_RS}index.html")]);
    macro_rules! add {
        ($($sandbox:ident: $($method:ident)*;)*) => {$(
            urls.insert(format!("{SANDBOX_DOCS_RS}struct.{}.html", stringify!($sandbox)));
            $(
                let _ = $sandbox::$method;
                urls.insert(format!("{SANDBOX_DOCS_RS}struct.{}.html#method.{}", stringify!($sandbox), stringify!($method)));
            )*
        )*};
    }
    add! {
        AccessPspSandbox: advance ca_pem hold hold_issuer hold_responses reject_always reject_next reject_with release
            revoke revoke_all script script_always script_api set_latency set_lifetime token_request_count wait_held;
        AeropaySandbox: advance ca_pem hold hold_issuer reject_always reject_next reject_with release
            revoke revoke_all revoke_user script script_always script_api set_latency set_lifetime wait_held;
    }
    urls
}

// The repository shows a page with its own link definitions. On docs.rs, the definitions of `src/guide/` come before them, and
// the first definition of a label counts.
#[test]
fn every_link_of_a_page_has_the_same_target_in_the_repository_and_on_docs_rs() {
    let mut for_rustdoc = BTreeMap::new();
    for file in ["links", "links-access-psp", "links-aeropay", "links-token-endpoint", "links-http-client"] {
        for_rustdoc.extend(definitions(&fs::read_to_string(format!("src/guide/{file}.md")).unwrap()));
    }
    let known: BTreeSet<String> = for_rustdoc.keys().cloned().collect();
    let without_case: BTreeSet<String> = known.iter().map(|label| label.to_lowercase()).collect();
    assert_eq!(without_case.len(), known.len(), "Markdown ignores the case of labels");
    let mut texts = pages();
    texts.insert("README.md".to_owned(), fs::read_to_string("README.md").unwrap());
    let sandbox = sandbox_urls();
    let (mut expected, mut wrong) = (BTreeMap::new(), Vec::new());
    for (file, text) in &texts {
        let outside = |target: &str| {
            target.starts_with("https://") && !target.starts_with(DOCS_RS) && !target.starts_with(SOURCE)
        };
        for target in inline(text) {
            if !outside(&target) && !target.starts_with('#') {
                wrong.push(format!("{file}: {target} needs a link with a label"));
            }
        }
        let own = definitions(&prose(text));
        let used = used(text, &known);
        wrong.extend(
            used.iter().filter(|label| !own.contains_key(*label)).map(|l| format!("{file}: [{l}] is not defined")),
        );
        wrong.extend(own.keys().filter(|label| !used.contains(*label)).map(|l| format!("{file}: [{l}] is not used")));
        for (label, target) in own {
            if target.starts_with(SANDBOX_DOCS_RS) && !sandbox.contains(&target) {
                wrong.push(format!("{file}: `sandbox_urls` does not have {target}"));
            }
            if outside(&target) {
                // rustdoc uses the page's own definition.
                if known.contains(&label) {
                    wrong.push(format!("src/guide: [{label}] hides the definition in {file}"));
                }
                continue;
            }
            if target.starts_with(DOCS_RS) && !is_listed(&target) {
                wrong.push(format!("{file}: no public item: {target}"));
            }
            let file = target.trim_start_matches(SOURCE).trim_start_matches("../");
            let stem = file.trim_end_matches(".md");
            let path = path_of(&target).unwrap_or_else(|| match modules().get(&stem.replace('-', "_")) {
                Some(_) => format!("crate::guide::{}", stem.replace('-', "_")),
                None => format!("{SOURCE}{file}"),
            });
            let first = expected.entry(label.clone()).or_insert_with(|| path.clone());
            if *first != path {
                wrong.push(format!("{file}: [{label}] is {path}, but {first} on another page"));
            }
        }
    }
    for (label, path) in &expected {
        if for_rustdoc.get(label) != Some(path) {
            wrong.push(format!("src/guide needs the line [{label}]: {path}"));
        }
    }
    let unused = known.iter().filter(|label| !expected.contains_key(*label));
    wrong.extend(unused.map(|label| format!("src/guide: no page uses [{label}]")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(expected.len() > 50, "a loop over nothing proves nothing");
}

// The registries show README.md at an address of their own, and there is no repository that a relative link could refer to.
#[test]
fn no_link_of_the_readme_is_relative_and_the_files_that_it_names_are_in_the_package() {
    let readme = include_str!("../README.md");
    let mut targets = inline(readme);
    targets.extend(definitions(readme).into_values());
    assert!(targets.len() > 20, "a loop over nothing proves nothing");
    let manifest = include_str!("../Cargo.toml");
    let mut files = 0;
    for target in targets {
        assert!(target.starts_with("https://") || target.starts_with('#'), "{target}");
        let Some(file) = target.strip_prefix(SOURCE) else { continue };
        assert!(fs::exists(file).unwrap(), "{file}");
        let is_page = file.starts_with("docs/") && file.ends_with(".md");
        let pattern = if is_page { "\"/docs/*.md\"".to_owned() } else { format!("\"/{file}\"") };
        let is_included = manifest.contains(&pattern);
        assert!(is_included, "{file} is not in the package");
        files += 1;
    }
    assert!(files >= 4, "a loop over nothing proves nothing");
}

#[test]
fn the_link_check_finds_broken_links() {
    let known = BTreeSet::from(["errors".to_owned(), "`Error`".to_owned()]);
    let text =
        "[`Error`] and [`Missing`], [the page][errors], [a](b.md), [1], [errors].\n```\n[`Fenced`]\n```\n[x]: y\n";
    assert_eq!(used(text, &known), ["`Error`", "`Missing`", "errors"].map(str::to_owned).into());
    assert_eq!(inline(text), ["b.md"]);
    assert_eq!(definitions(text), BTreeMap::from([("x".to_owned(), "y".to_owned())]));
    assert_eq!(path_of(&format!("{DOCS_RS}replay/enum.Mode.html#variant.Safe")).unwrap(), "crate::replay::Mode::Safe");
    assert_eq!(path_of(&format!("{DOCS_RS}fn.from_fn.html")).unwrap(), "crate::from_fn()");
    assert_eq!(path_of(&format!("{DOCS_RS}guide/index.html")).unwrap(), "crate::guide");
    assert_eq!(path_of("errors.md"), None);
    assert!(is_listed(&format!("{DOCS_RS}struct.Error.html")) && is_listed(&format!("{DOCS_RS}guide/index.html")));
    for wrong in ["enum.Error.html", "struct.Err.html", "replay/struct.Error.html", "guides/index.html"] {
        assert!(!is_listed(&format!("{DOCS_RS}{wrong}")), "{wrong}");
    }
    assert!(sandbox_urls().contains(&format!("{SANDBOX_DOCS_RS}struct.AccessPspSandbox.html#method.advance")));
}

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// Mints a token or fails, without a delay, and records the time.
#[derive(Clone)]
struct Issuer {
    clock: Paused,
    down: Arc<AtomicBool>,
    minted: Arc<Mutex<Vec<Duration>>>,
    failed: Arc<Mutex<Vec<Duration>>>,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        if self.down.load(Ordering::Relaxed) {
            self.failed.lock().push(self.clock.passed());
            return Err(Error::transient("connection refused"));
        }
        let mut minted = self.minted.lock();
        minted.push(self.clock.passed());
        Ok(IssuedToken::bearer(format!("token-{}", minted.len()))?.expires_in(HALF_AN_HOUR))
    }
}

async fn world(policy: RefreshPolicy, seed: u64) -> (Issuer, TokenSource<Issuer>) {
    let clock = Paused::start();
    let issuer = Issuer { clock, down: Arc::default(), minted: Arc::default(), failed: Arc::default() };
    let source = TokenSource::builder(issuer.clone()).clock(clock).refresh(policy).jitter_seed(seed).build();
    source.warm_up().await.unwrap();
    (issuer, source)
}

/// Requests a token each second from `from` on, until `done`.
async fn request_each_second(issuer: &Issuer, source: &TokenSource<Issuer>, from: Duration, done: impl Fn() -> bool) {
    issuer.clock.go_to(from).await;
    while !done() {
        if source.token().now_or_never().is_none() {
            let _ = source.token().await;
        }
        // Lets a refresh start before the clock advances.
        tokio::task::yield_now().await;
        if !done() {
            issuer.clock.go_to(issuer.clock.passed() + SECOND).await;
        }
    }
}

/// `15 min`, `16 min 30 s`, `23 s`.
fn duration(text: &str) -> Duration {
    let words: Vec<&str> = text.split(' ').collect();
    let parts = words.chunks(2).map(|pair| match pair {
        [number, "min"] => number.parse::<u64>().unwrap() * 60,
        [number, "s"] => number.parse().unwrap(),
        other => panic!("not a duration: {other:?} in {text}"),
    });
    Duration::from_secs(parts.sum())
}

fn policy(name: &str) -> RefreshPolicy {
    let name = name.trim_matches('`');
    match name.strip_prefix("window(").and_then(|rest| rest.strip_suffix(')')) {
        Some(window) => RefreshPolicy::new().window(duration(window)),
        None if name == "at_expiry()" => RefreshPolicy::new().at_expiry(),
        None => {
            assert_eq!(name, "default");
            RefreshPolicy::default()
        }
    }
}

// R44, R52
#[tokio::test(start_paused = true)]
async fn the_table_of_refresh_policies_has_the_measured_values() {
    const SEEDS: u64 = 40;
    let page = include_str!("../docs/refresh.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| policy | margin |")).skip(2);
    let mut measured = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, margin, refreshed, survived, a_day] = cells[..] else { panic!("not five cells: {row}") };
        let (earliest, latest) = refreshed.split_once(" to ").unwrap_or((refreshed, refreshed));
        let (earliest, latest, survived) = (duration(earliest), duration(latest), duration(survived));
        let usable_until = HALF_AN_HOUR - duration(margin);

        let (mut refreshes, mut shortest) = (Vec::new(), DAY);
        for seed in 0..SEEDS {
            // The worst moment for an outage: the first refresh is due.
            let (issuer, source) = world(policy(name), seed).await;
            issuer.down.store(true, Ordering::Relaxed);
            request_each_second(&issuer, &source, earliest - SECOND, || !issuer.failed.lock().is_empty()).await;
            let from = issuer.failed.lock()[0];
            request_each_second(&issuer, &source, from + SECOND, || issuer.clock.passed() >= usable_until).await;
            let last_try = issuer.failed.lock().iter().copied().filter(|at| *at <= usable_until).max().unwrap();
            refreshes.push(from);
            shortest = shortest.min(last_try - from);
        }
        let (first, last) = (refreshes.iter().min().unwrap(), refreshes.iter().max().unwrap());
        assert!(*first >= earliest && *last <= latest + SECOND, "{row}: refreshed after {first:?} to {last:?}");
        let width = latest - earliest;
        assert!(*last - *first >= width.mul_f64(0.8).saturating_sub(2 * SECOND), "{row}: {first:?} to {last:?}");
        // One of the seeds comes close to the bound.
        assert!(shortest >= survived && shortest <= survived + survived / 10 + 3 * SECOND, "{row}: {shortest:?}");

        let (issuer, source) = world(policy(name), 1).await;
        request_each_second(&issuer, &source, Duration::ZERO, || issuer.clock.passed() >= DAY).await;
        let (fetches, most) = (issuer.minted.lock().len(), a_day.parse().unwrap());
        assert!(fetches <= most && fetches >= most * 9 / 10, "{row}: {fetches} token requests in a day");
        measured += 1;
    }
    assert_eq!(measured, 4);
}
