//! The report, and its comparison with the committed tables.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::encodings::How;
use crate::issuer::Observed;
use crate::suite::{Check, Facts, Failure, Suite, fail};

const BEGIN: &str = "<!-- interop: begin -->\n";
const END: &str = "<!-- interop: end -->";

#[derive(Default)]
pub struct Report {
    pub suites: Vec<Suite>,
    pub observed: Vec<Observed>,
    /// Which issuer accepts which secret in which encoding.
    pub encodings: Vec<Encoding>,
}

/// One cell of the table of encodings.
pub struct Encoding {
    server: String,
    secret: String,
    how: &'static str,
    found: String,
}

impl Encoding {
    pub fn new(facts: &Facts, secret: &str, how: How, found: String) -> Self {
        Self { server: facts.server.clone(), secret: secret.to_owned(), how: how.name(), found }
    }
}

impl Report {
    /// Prints all tables. Returns whether everything passed.
    pub fn finish(self, floor: &Path, page: &Path, write: bool) -> Check<bool> {
        let mut good = self.passed();
        for (name, least) in floors(&fs::read_to_string(floor)?)? {
            let cases = self.suites.iter().find(|suite| suite.facts.server == name).map_or(0, |suite| suite.cases);
            if cases < least {
                println!("interop: {name}: {cases} cases, and {least} is the floor");
                good = false;
            }
        }
        let tables = format!("{}\n{}\n{}", self.versions(), self.encodings_table(), self.failures_table());
        println!("\n{tables}");
        good &= page_agrees(page, &tables, write && good)?;
        self.print_suites(good);
        Ok(good)
    }

    /// The same for some of the servers: without the floor and the page.
    pub fn finish_part(self) -> bool {
        let good = self.passed();
        self.print_suites(good);
        good
    }

    fn passed(&self) -> bool {
        let mut good = true;
        for suite in &self.suites {
            let name = &suite.facts.server;
            let mut wrong = |why: String| {
                println!("interop: {name}: {why}");
                good = false;
            };
            if suite.passed != suite.cases {
                wrong(format!("{} failed", suite.cases - suite.passed));
            }
            if suite.negative_cases == 0 {
                wrong("there is no negative case".into());
            }
            if suite.counted == 0 {
                wrong("the server counted no request".into());
            }
        }
        good
    }

    fn print_suites(&self, good: bool) {
        println!(
            "issuer                      version    cases  passed  requests that the server counted  tokens that it issued"
        );
        for Suite { facts, cases, passed, counted, issued, .. } in &self.suites {
            let issued = issued.map_or_else(|| String::from("-"), |issued| issued.to_string());
            println!("{:27} {:8} {cases:7} {passed:7} {counted:33} {issued:>22}", facts.server, facts.version);
        }
        println!("interop: {}", if good { "all passed" } else { "FAILED" });
    }

    fn versions(&self) -> String {
        let all: Vec<String> =
            self.suites.iter().map(|Suite { facts, .. }| format!("{} {}", facts.server, facts.version)).collect();
        format!("Observed with {}.\n", all.join(", "))
    }

    fn encodings_table(&self) -> String {
        let mut rows: Vec<(&str, &str)> = Vec::new();
        let mut columns: Vec<&str> = Vec::new();
        for cell in &self.encodings {
            if !rows.contains(&(&cell.server, cell.how)) {
                rows.push((&cell.server, cell.how));
            }
            if !columns.contains(&cell.secret.as_str()) {
                columns.push(&cell.secret);
            }
        }
        let mut table = format!(
            "| issuer | secret sent as | {} |\n|---|---|{}\n",
            columns.join(" | "),
            "---|".repeat(columns.len())
        );
        for (server, how) in rows {
            let _ = write!(table, "| {server} | {how} |");
            for column in &columns {
                let found = self
                    .encodings
                    .iter()
                    .find(|cell| (cell.server.as_str(), cell.how, cell.secret.as_str()) == (server, how, column));
                let _ = write!(table, " {} |", found.map_or("", |cell| &cell.found));
            }
            table.push('\n');
        }
        table
    }

    fn failures_table(&self) -> String {
        let mut table = String::from(
            "| issuer | what was wrong | HTTP | `error` | challenge | kind | code | hint |\n|---|---|---|---|---|---|---|---|\n",
        );
        for Observed { server, what, noted, error } in &self.observed {
            let scheme = noted.challenge.as_deref().and_then(|challenge| challenge.split(' ').next()).unwrap_or("none");
            let _ = writeln!(
                table,
                "| {server} | {what} | {} | {} | {scheme} | `{:?}`, {} | {} | {} |",
                noted.status.unwrap_or_default(),
                noted.error.as_ref().map_or_else(|| String::from("none"), |error| format!("`{error}`")),
                error.kind(),
                if error.is_transient() { "transient" } else { "permanent" },
                error.code().map_or_else(|| String::from("none"), |code| format!("`{code}`")),
                error.hint().unwrap_or("none"),
            );
        }
        table
    }
}

/// Lines of a number and a server's name.
fn floors(text: &str) -> Check<Vec<(String, usize)>> {
    let mut floors = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((count, name)) = line.split_once(' ') else {
            return fail(format!("the floor has an invalid line: {line}"));
        };
        floors.push((name.trim().to_owned(), count.parse()?));
    }
    Ok(floors)
}

/// Whether the page has these tables between its two marks. With `write`, they are written.
fn page_agrees(page: &Path, tables: &str, write: bool) -> Check<bool> {
    let text = fs::read_to_string(page)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (between, after))) = parts else {
        return Err(Failure(format!("{} has no place for the tables", page.display())));
    };
    if between.trim() == tables.trim() {
        return Ok(true);
    }
    if write {
        fs::write(page, format!("{before}{BEGIN}\n{}\n\n{END}{after}", tables.trim()))?;
        return Ok(true);
    }
    println!("interop: {} has other tables than those above; tests/interop/run --write writes them", page.display());
    Ok(false)
}
