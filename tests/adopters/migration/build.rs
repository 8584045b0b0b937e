//! Takes the code of the page docs/migration.md that no doctest compiles: the blocks that are marked with `rs`. The function that
//! makes a status from an error is that of docs/errors.md.

use std::path::Path;
use std::{env, fs};

const PAGE: &str = "../../crates/tower-bearer-auth/docs/migration.md";
const ERRORS: &str = "../../crates/tower-bearer-auth/docs/errors.md";

fn main() {
    println!("cargo::rerun-if-changed={PAGE}");
    let page = fs::read_to_string(PAGE).expect("scripts/adopters unpacks the tarballs");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let mut found = Vec::new();
    for section in page.split("\n## ").skip(1) {
        let title = section.lines().next().expect("a title");
        // `From kube's `AuthLayer`` is in kube.rs.
        let Some(name) = ["kube", "oauth2", "reqwest-middleware"].into_iter().find(|name| title.contains(name)) else {
            assert!(!section.contains("\n```rs\n"), "no package compiles the code of `{title}`");
            continue;
        };
        let blocks = section.split("\n```rs\n").skip(1).map(|block| block.split("\n```").next().expect("an end"));
        let [before, after] = blocks.collect::<Vec<_>>()[..] else { panic!("`{title}` has the code before and after") };
        let text = format!("pub mod before {{\n{before}\n}}\npub mod after {{\n{after}\n}}\n");
        fs::write(Path::new(&out).join(format!("{name}.rs")), text).expect("the file is written");
        found.push(name);
    }
    assert_eq!(found.len(), 3, "{found:?}");

    println!("cargo::rerun-if-changed={ERRORS}");
    let page = fs::read_to_string(ERRORS).expect("the page is beside the other one");
    let block = page.split("\n```\n").find(|block| block.contains("fn status_for(")).expect("the function");
    let text: String =
        block.lines().take_while(|line| !line.starts_with("# ")).map(|line| format!("{line}\n")).collect();
    fs::write(Path::new(&out).join("errors.rs"), text.replace("\nfn ", "\npub fn ")).expect("the file is written");
}
