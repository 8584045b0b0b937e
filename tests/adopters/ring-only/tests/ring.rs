//! The first program of README.md with ring as the only cryptography.

#[path = "../../readme/tests/support/mod.rs"]
mod support;

use support::{README, Result, run_sandboxed};
use tower_bearer_auth_sandbox::AccessPspSandbox;

// R85
#[tokio::test]
async fn with_the_two_lines_for_ring_the_program_of_the_readme_opens_a_session() -> Result<()> {
    let block = README.split("\n```toml\n").nth(1).and_then(|block| block.split("\n```").next());
    let tables = block.ok_or("README.md has no tables for ring")?;
    assert_eq!(tables.matches("[dependencies.").count(), 2, "{tables}");
    assert!(include_str!("../Cargo.toml").contains(&format!("\n{tables}\n")), "{tables}");
    let sandbox = AccessPspSandbox::start().await?;
    let output = run_sandboxed(env!("CARGO_BIN_EXE_ring-only"), &sandbox).await?;
    support::assert_session(output, &sandbox)
}

// R85: nothing in the build of the program needs aws-lc-rs.
#[test]
fn the_program_does_not_link_the_other_cryptography() -> Result<()> {
    let program = std::fs::read(env!("CARGO_BIN_EXE_ring-only"))?;
    let contains = |text: &[u8]| program.windows(text.len()).any(|window| window == text);
    assert!(contains(b"ring_core_0_17") && !contains(b"aws_lc_0_"), "the names of linked functions");
    Ok(())
}
