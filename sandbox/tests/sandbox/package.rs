//! The sandbox depends on no part of tower-bearer-auth. It must not share the errors of the crate that it tests.

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn uses_the_tested_crate(text: &str) -> bool {
    text.replace("tower_bearer_auth_sandbox", "").replace("tower-bearer-auth-sandbox", "").lines().any(|line| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("tower_bearer_auth") || code.contains("../src")
    })
}

#[test]
fn no_source_file_uses_the_tested_crate() {
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 20, "{} files found", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!uses_the_tested_crate(&text), "{}", file.display());
    }
    assert!(uses_the_tested_crate("use tower_bearer_auth::Error;"), "the check finds a use");
    assert!(uses_the_tested_crate("#[path = \"../../src/error.rs\"]"), "the check finds a path");
}

#[test]
fn the_manifest_does_not_depend_on_the_tested_crate() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest = manifest.replace("tower-bearer-auth-sandbox", "");
    assert!(!manifest.contains("tower-bearer-auth"));
}

// The registries show README.md at an address of their own, and they know no items of Rust.
#[test]
fn every_link_of_the_readme_is_an_address_of_its_documentation_and_names_an_item() {
    const DOCS_RS: &str = "https://docs.rs/tower-bearer-auth-sandbox/latest/tower_bearer_auth_sandbox/";
    let readme = include_str!("../../README.md");
    let code: String = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let links: Vec<(&str, &str)> =
        readme.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
    assert!(links.len() > 20, "{} links found", links.len());
    for (label, target) in links {
        let page = target.strip_prefix(DOCS_RS).unwrap_or_else(|| panic!("{label}: {target}"));
        let (page, member) = page.split_once(".html").unwrap();
        let (kind, name) = page.split_once('.').unwrap();
        assert!(code.contains(&format!("pub {kind} {name} ")), "{target}");
        match member.strip_prefix('#').map(|member| member.split_once('.').unwrap()) {
            None => {}
            Some(("method", method)) => assert!(code.contains(&format!("fn {method}(")), "{target}"),
            Some((_, variant)) => assert!(code.contains(&format!("    {variant},")), "{target}"),
        }
        // The item, and at least one use of the label.
        assert!(readme.matches(&format!("[{label}]")).count() >= 2, "{label} is not used");
    }
    for target in readme.split("](").skip(1) {
        assert!(target.starts_with("https://"), "{target}");
    }
}
