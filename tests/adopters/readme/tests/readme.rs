//! The first program of README.md runs beside the crates that its users have, with their default features.

mod support;

use std::collections::BTreeSet;

use support::{README, Result, run_sandboxed};
use tower_bearer_auth_sandbox::AccessPspSandbox;

// R85
#[cfg(not(feature = "both"))]
#[tokio::test]
async fn the_program_of_the_readme_opens_a_session_and_nothing_panics() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let output = run_sandboxed(env!("CARGO_BIN_EXE_sandboxed"), &sandbox).await?;
    support::assert_session(output, &sandbox)
}

// R85: another crate of the program enables ring too. The panic is that of hyper-rustls, and README.md says what to do.
#[cfg(feature = "both")]
#[tokio::test]
async fn with_two_cryptography_libraries_the_readme_has_the_text_of_the_panic_and_the_remedy() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sandbox = AccessPspSandbox::start().await?;
    let output = run_sandboxed(env!("CARGO_BIN_EXE_sandboxed"), &sandbox).await?;
    let error = String::from_utf8(output.stderr)?;
    let quoted =
        README.split("panics with \"").nth(1).and_then(|rest| rest.split('"').next()).ok_or("no quoted panic")?;
    assert!(!output.status.success() && error.contains(quoted), "{quoted}: {error}");
    assert_eq!((sandbox.token_request_count(), sandbox.api_connections()), (0, 0));

    assert!(README.contains("`rustls::crypto::aws_lc_rs::default_provider().install_default()`"));
    let output = run_sandboxed(env!("CARGO_BIN_EXE_chosen"), &sandbox).await?;
    support::assert_session(output, &sandbox)
}

// R85: no variable is set, so the unchanged program ends before any I/O. Its connector has been built by then.
#[cfg(not(feature = "both"))]
#[tokio::test]
async fn without_credentials_the_unchanged_program_names_the_variable() -> Result<()> {
    let output = support::run(env!("CARGO_BIN_EXE_readme"), &[]).await?;
    let error = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && error.contains("ACCESS_PSP_CLIENT_ID"), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    Ok(())
}

/// The crates of the install line, and the features that it enables as `crate/feature`.
fn install_line() -> (BTreeSet<String>, BTreeSet<String>) {
    let line = README.split("\n```sh\ncargo add ").nth(1).and_then(|block| block.split("\n```").next());
    let line = line.expect("README.md has an install line").replace("\\\n", " ");
    // The value of an option `--features` is the next word. A crate can come after it.
    let (mut crates, mut features) = (BTreeSet::new(), BTreeSet::new());
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        if word == "--features" {
            features.extend(words.next().expect("the option has a value").split(',').map(str::to_owned));
        } else {
            crates.insert(word.to_owned());
        }
    }
    assert!(!features.is_empty(), "the line has features");
    (crates, features)
}

// R85
#[test]
fn the_install_line_has_the_dependencies() -> Result<()> {
    let (mut crates, mut features) = (BTreeSet::new(), BTreeSet::new());
    let required =
        include_str!("../Cargo.toml").split("[dependencies]\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    for line in required.ok_or("no dependencies")?.lines() {
        let (name, value) = line.split_once(" = ").ok_or("not a dependency")?;
        assert!(!value.contains("default-features"), "{name}: the defaults are what is tested");
        crates.insert(name.to_owned());
        let list = value.split("features = [").nth(1).and_then(|rest| rest.split(']').next());
        for feature in list.into_iter().flat_map(|list| list.split(", ")) {
            features.insert(format!("{name}/{}", feature.trim_matches('"')));
        }
    }
    assert_eq!((crates, features), install_line());
    Ok(())
}

// R85
#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_reqwest_client_with_its_defaults_works_beside_the_crate() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    // `Client::new()` panics if there is no TLS.
    drop(reqwest::Client::new());
    let roots = [reqwest::Certificate::from_pem(sandbox.ca_pem().as_bytes())?];
    let client = reqwest::Client::builder().tls_certs_only(roots).no_proxy().build()?;
    let response = client.get(format!("{}/echo", sandbox.api_origin())).send().await?;
    assert_eq!((response.status().as_u16(), sandbox.api_request_count()), (401, 1));
    Ok(())
}

// R85
#[cfg(feature = "tonic")]
#[tokio::test]
async fn a_tonic_channel_with_tls_connects_beside_the_crate() -> Result<()> {
    use tonic::transport::{Certificate, Channel, ClientTlsConfig};
    let sandbox = AccessPspSandbox::start().await?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(sandbox.ca_pem()));
    Channel::from_shared(sandbox.api_origin())?.tls_config(tls)?.connect().await?;
    assert_eq!(sandbox.api_connections(), 1);
    Ok(())
}

// R85: with both libraries rustls has no default, until the program chooses one.
#[cfg(all(feature = "rustls", not(feature = "both")))]
#[test]
fn rustls_with_its_defaults_has_a_provider_beside_the_crate() {
    let config = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    assert!(!config.with_no_client_auth().crypto_provider().cipher_suites.is_empty());
}
