//! Takes the first program of README.md out of the unpacked tarball.

use std::path::Path;
use std::{env, fs};

const README: &str = "../../crates/tower-bearer-auth/README.md";
const API: &str = "\"https://api.aerahost.com/";

fn main() {
    println!("cargo::rerun-if-changed={README}");
    let readme = fs::read_to_string(README).expect("scripts/adopters unpacks the tarballs");
    let blocks = readme.split("\n```rust").skip(1).map(|block| block.split_once('\n').expect("a line end").1);
    let mut programs = blocks.map(|block| block.split_once("\n```").expect("the end of the block").0);
    let program = programs.find(|block| block.contains("async fn main()")).expect("README.md has a program");
    assert_eq!(program.matches(API).count(), 1, "the program has one URL of the API: {program}");
    let sandboxed = program.replace(API, "std::env::var(\"SANDBOX_API_ORIGIN\")? + \"/");
    let chosen = sandboxed.replacen(
        "{\n",
        "{\n    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();\n",
        1,
    );
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("verbatim.rs"), program).expect("the file is written");
    fs::write(Path::new(&out).join("sandboxed.rs"), sandboxed).expect("the file is written");
    fs::write(Path::new(&out).join("chosen.rs"), chosen).expect("the file is written");
}
