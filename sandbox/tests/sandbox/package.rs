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
