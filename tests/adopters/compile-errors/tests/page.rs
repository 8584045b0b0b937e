//! rustc prints what the guide's page says, for each mistake on it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty as NoBody, Full};
use tower_bearer_auth::BoxError;
use tower_bearer_auth::replay::{Bodies, Buffered, Cloned, Empty, Off};

const PAGE: &str = include_str!("../../../crates/tower-bearer-auth/docs/types.md");

/// A fenced block: the number of its first line, the words after the fence, and the contents.
struct Block {
    line: usize,
    words: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in PAGE.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(words), None) => {
                open = Some(Block { line: number + 2, words: words.to_owned(), text: String::new() })
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// The program of a block: rustdoc hides a line that begins with `# `.
fn program(block: &Block) -> String {
    let lines = block.text.lines().map(|line| if line == "#" { "" } else { line.strip_prefix("# ").unwrap_or(line) });
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    if code.contains("fn main") { code } else { format!("{code}fn main() {{}}\n") }
}

/// The words of a text with one space between them. rustc breaks and indents long notes.
fn words_of(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| !matches!(*word, "=" | "|"));
    words.collect::<Vec<_>>().join(" ")
}

/// The first part of `said` that `printed` does not have. ` .. ` in a line of the page stands for a type that rustc shortens.
fn missing<'a>(said: &'a str, printed: &str) -> Option<&'a str> {
    let lines = said.split_inclusive('\n').fold(Vec::<(usize, usize)>::new(), |mut lines, line| {
        let from = line.as_ptr() as usize - said.as_ptr() as usize;
        match lines.last_mut() {
            // An indented line continues the one before it.
            Some(last) if line.starts_with("  ") => last.1 = from + line.len(),
            _ => lines.push((from, from + line.len())),
        }
        lines
    });
    lines.into_iter().map(|(from, to)| &said[from..to]).find(|line| {
        let mut rest = printed;
        !line.split(" .. ").all(|part| rest.split_once(&words_of(part)).map(|(_, after)| rest = after).is_some())
    })
}

#[test]
fn rustc_prints_what_the_page_says() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("mistakes");
    let examples = package.join("examples");
    let _ = fs::remove_dir_all(&package);
    fs::create_dir_all(&examples)?;
    fs::create_dir_all(package.join("src"))?;
    fs::write(package.join("src/lib.rs"), "")?;
    // The same profile and versions, so the dependencies are compiled already.
    let profile = "[profile.dev]\ndebug = false\n";
    fs::write(package.join("Cargo.toml"), format!("{}\n[workspace]\n\n{profile}", include_str!("../Cargo.toml")))?;
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock"), package.join("Cargo.lock"))?;
    let blocks = blocks();
    let is_mistake = |block: &Block| block.words.starts_with("compile_fail");
    for block in blocks.iter().filter(|block| is_mistake(block)) {
        fs::write(examples.join(format!("line_{}.rs", block.line)), program(block))?;
    }
    let (mut found, mut wrong) = (0, Vec::new());
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| is_mistake(block)) {
        let said = blocks.get(at + 1).filter(|next| next.words == "text").ok_or("no text of rustc after a mistake")?;
        let output = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--quiet", "--example", &format!("line_{}", block.line)])
            .current_dir(&package)
            .output()?;
        let printed = String::from_utf8(output.stderr)?;
        if output.status.success() {
            wrong.push(format!("line {} compiles", block.line));
        } else if let Some(part) = missing(&said.text, &words_of(&printed)) {
            wrong.push(format!("line {}: not printed: {part}{printed}", said.line));
        }
        found += 1;
    }
    assert!(wrong.is_empty(), "the page differs from rustc:\n{}", wrong.join("\n"));
    assert!(found >= 10, "a loop over nothing proves nothing");
    Ok(())
}

#[test]
fn a_text_that_rustc_does_not_print_is_found() {
    let printed = words_of("error[E0599]: the method `ready` exists for struct `A<B, C>`\n   = note: one\n      two\n");
    assert_eq!(
        missing("error[E0599]: the method `ready` exists for struct `A< .. >`\n= note: one\n  two\n", &printed),
        None
    );
    assert_eq!(missing("= note: one\n= note: three\n", &printed), Some("= note: three\n"));
    assert_eq!(missing("struct `A< .. D>`", &printed), Some("struct `A< .. D>`"));
}

fn keeps<B>(_: impl Bodies<B>) {}

// The rows of the page's table that compile. The errors of the page are the others.
#[test]
fn the_settings_of_the_table_fit_the_bodies() {
    let limit = 1024;
    keeps::<String>(Empty);
    keeps::<Full<Bytes>>(Empty);
    keeps::<NoBody<Bytes>>(Empty);
    keeps::<Body>(Empty);
    keeps::<tonic::body::Body>(Empty);
    keeps::<reqwest::Body>(Empty);
    keeps::<UnsyncBoxBody<Bytes, BoxError>>(Empty);
    keeps::<String>(Cloned);
    keeps::<Full<Bytes>>(Cloned);
    keeps::<NoBody<Bytes>>(Cloned);
    keeps::<Bytes>(Cloned);
    keeps::<Body>(Buffered::new(limit, Body::new));
    keeps::<tonic::body::Body>(Buffered::new(limit, tonic::body::Body::new));
    keeps::<reqwest::Body>(Buffered::new(limit, reqwest::Body::wrap));
    keeps::<UnsyncBoxBody<Bytes, BoxError>>(Buffered::new(limit, BodyExt::boxed_unsync));
    keeps::<hyper::body::Incoming>(Off);
    keeps::<Bytes>(Off);
}
