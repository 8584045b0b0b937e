//! Settings from the environment variables of a real process. The unit tests cover what a variable may contain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tower_bearer_auth::{AccessPsp, Aeropay, ClientCredentials, TokenProvider as _};

/// Runs one test in a child process with these variables.
fn under(test: &str, variables: &[(&str, OsString)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .output()
        .unwrap()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn access_psp_reads_the_variables_of_the_process() {
    let missing = match AccessPsp::from_env("TBA_REAL_PSP") {
        Ok(provider) => {
            // This is the child process.
            println!("child: {} {:?}", provider.label(), provider.origins());
            println!("child: {:?}", provider.api_headers().get("x-api-key").map(|v| v.len()));
            println!("child: {provider:?}");
            return assert_eq!(provider.label(), "blue");
        }
        Err(error) => error,
    };
    assert!(missing.to_string().starts_with("TBA_REAL_PSP_CLIENT_ID: "), "{missing}");
    assert!(std::env::var_os("TBA_REAL_PSP_CLIENT_ID").is_none());
    let output = under(
        "token_endpoint::environment::access_psp_reads_the_variables_of_the_process",
        &[
            ("TBA_REAL_PSP_CLIENT_ID", "me".into()),
            ("TBA_REAL_PSP_CLIENT_SECRET_FILE", file("psp-secret", "CANARY\n").into()),
            ("TBA_REAL_PSP_TOKEN_URL_FILE", file("psp-url", "https://issuer.blue.test/t\n").into()),
            ("TBA_REAL_PSP_API_ORIGINS", "https://a.blue.test, https://b.blue.test:8443".into()),
            ("TBA_REAL_PSP_ENVIRONMENT", "blue".into()),
            ("TBA_REAL_PSP_SCOPE", "wallet".into()),
            ("TBA_REAL_PSP_API_KEY", "CANARY-key".into()),
            ("TBA_REAL_PSP_TOKEN_API_KEY", "CANARY-token-key".into()),
        ],
    );
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("child: blue [https://a.blue.test, https://b.blue.test:8443]"), "{shown}");
    assert!(shown.contains("child: Some(10)"), "{shown}");
    assert!(shown.contains("https://issuer.blue.test"), "{shown}");
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn client_credentials_reads_the_variables_of_the_process() {
    let missing = match ClientCredentials::from_env("TBA_REAL_CC") {
        Ok(provider) => {
            // This is the child process.
            println!("child: {} {:?}", provider.label(), provider.origins());
            return assert_eq!(provider.label(), "https://issuer.test");
        }
        Err(error) => error,
    };
    assert_eq!(missing.setting(), "TBA_REAL_CC_CLIENT_ID");
    assert!(std::env::var_os("TBA_REAL_CC_CLIENT_ID").is_none());
    let output = under(
        "token_endpoint::environment::client_credentials_reads_the_variables_of_the_process",
        &[
            ("TBA_REAL_CC_CLIENT_ID", "me".into()),
            ("TBA_REAL_CC_CLIENT_SECRET", "CANARY".into()),
            ("TBA_REAL_CC_TOKEN_URL", "https://issuer.test/t".into()),
            ("TBA_REAL_CC_API_ORIGINS", "https://api.test".into()),
        ],
    );
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("child: https://issuer.test [https://api.test]"), "{shown}");
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn an_unknown_variable_of_the_process_is_an_error_of_access_psp_and_of_aeropay() {
    // In the child process, both prefixes have an unknown variable.
    println!("psp: {}", AccessPsp::from_env("TBA_TYPO_PSP").unwrap_err());
    println!("aeropay: {}", Aeropay::from_env("TBA_TYPO_AEROPAY").unwrap_err());
    if std::env::var_os("TBA_TYPO_PSP_CLIENTID").is_some() {
        return;
    }
    let output = under(
        "token_endpoint::environment::an_unknown_variable_of_the_process_is_an_error_of_access_psp_and_of_aeropay",
        &[
            ("TBA_TYPO_PSP_CLIENTID", "CANARY".into()),
            ("TBA_TYPO_PSP_CLIENT_SECRET", "CANARY".into()),
            ("TBA_TYPO_AEROPAY_API_KEY", "CANARY".into()),
            ("TBA_TYPO_AEROPAY_API_SECRET", "CANARY".into()),
            ("TBA_TYPO_AEROPAY_MERCHANT_ID", "1057".into()),
            ("TBA_TYPO_AEROPAY_ENVIRONMENT", "sandbox".into()),
            ("TBA_TYPO_AEROPAY_VERSION", "CANARY".into()),
        ],
    );
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    for line in [
        "psp: TBA_TYPO_PSP_CLIENTID: there is no such setting: the settings after TBA_TYPO_PSP_ are CLIENT_ID, ",
        "aeropay: TBA_TYPO_AEROPAY_VERSION: there is no such setting: the settings after TBA_TYPO_AEROPAY_ are API_KEY, ",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn a_prefix_that_no_variable_can_have_is_rejected() {
    for prefix in ["", "A=B", "A\0B"] {
        let error = AccessPsp::from_env(prefix).unwrap_err();
        assert_eq!(error.setting(), "prefix");
        assert!(error.to_string().starts_with("prefix: "), "{error}");
    }
}
