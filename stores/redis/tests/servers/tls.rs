//! One server with TLS and an ACL user.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::probe::{self, trust};
use crate::server::{Folder, Server, own};

/// What the documentation says that a user needs.
pub(crate) const RULE: &[&str] = &["~tba:*", "-@all", "+eval", "+get", "+set", "+del", "+pttl"];
const PASSWORD: &str = "canary-password-7fQ2";

pub(crate) struct Secured(Server);

impl Secured {
    fn start(rule: &[&str]) -> Self {
        let folder = Folder::new();
        certificates(folder.path());
        let mut options =
            vec!["--port", "0", "--tls-port", "PORT", "--tls-cert-file", "server.pem", "--tls-key-file", "server.key"];
        options.extend(["--tls-ca-cert-file", "authority.pem", "--tls-auth-clients", "no"]);
        let password = format!(">{PASSWORD}");
        options.extend(["--user", "default", "off", "--user", "canary-user-8kZ3", "on", &password]);
        options.extend(rule);
        Self(Server::start_in(folder, &options))
    }

    pub(crate) fn start_with_rule() -> Self {
        Self::start(RULE)
    }

    pub(crate) fn valid_url(&self) -> String {
        self.url(PASSWORD)
    }

    fn url(&self, password: &str) -> String {
        format!("rediss://canary-user-8kZ3:{password}@localhost:{}", self.0.port)
    }

    pub(crate) fn trust(&self) -> (&'static str, String) {
        trust(self.0.path())
    }
}

/// Makes an authority, and a certificate of it for localhost.
fn certificates(folder: &Path) {
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        let status = command.args(words).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{words:?}");
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        "authority.key",
        "-out",
        "authority.pem",
    ];
    openssl(&[&authority[..], &key].concat());
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &key].concat());
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let signed = ["x509", "-req", "-days", "2", "-in", "server.csr", "-extfile", "names", "-out", "server.pem"];
    openssl(&[&signed[..], &["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"]].concat());
    own(&folder.join("server.key"));
}

/// The error of a claim. It contains no secret.
async fn error(variables: &[(&str, &str)]) -> String {
    let error = probe::run("claim", variables).await.unwrap_err();
    assert!(!error.contains("canary") && !error.contains("localhost"), "{error}");
    error
}

pub(crate) async fn a_user_with_the_documented_rule_passes_the_contract() {
    let server = Secured::start(RULE);
    let (name, file) = server.trust();
    probe::run("contract", &[("PROBE_URL", &server.url(PASSWORD)), (name, &file)]).await.unwrap();
}

pub(crate) async fn each_permission_of_the_rule_is_needed() {
    for permission in &RULE[2..] {
        let rule: Vec<&str> = RULE.iter().copied().filter(|part| part != permission).collect();
        let server = Secured::start(&rule);
        let (name, file) = server.trust();
        let failed = probe::run("contract", &[("PROBE_URL", &server.url(PASSWORD)), (name, &file)]).await;
        assert!(failed.is_err(), "{permission}");
    }
}

// R96
pub(crate) async fn a_user_without_permission_is_an_error_that_says_so() {
    let server = Secured::start(&["~other:*", "-@all", "+eval", "+get", "+set", "+del", "+pttl"]);
    let (name, file) = server.trust();
    let error = error(&[("PROBE_URL", &server.url(PASSWORD)), (name, &file)]).await;
    assert!(error.starts_with("Redis: NOPERM"), "{error}");
}

// R96
pub(crate) async fn a_wrong_password_is_an_error_without_it() {
    let server = Secured::start(RULE);
    let (name, file) = server.trust();
    let error = error(&[("PROBE_URL", &server.url("canary-wrong")), (name, &file)]).await;
    assert!(error.contains("authentication"), "{error}");
}

pub(crate) async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let (server, other) = (Secured::start(RULE), Secured::start(RULE));
    let (name, file) = other.trust();
    let error = error(&[("PROBE_URL", &server.url(PASSWORD)), (name, &file)]).await;
    assert!(error.contains("certificate"), "{error}");
    // Without TLS, the server does not understand the client.
    let plain = server.url(PASSWORD).replace("rediss", "redis");
    assert!(probe::run("claim", &[("PROBE_URL", &plain)]).await.is_err());
}

pub(crate) async fn the_url_can_be_in_a_file() {
    let server = Secured::start(RULE);
    let (name, file) = server.trust();
    let url_file = server.0.path().join("url");
    fs::write(&url_file, format!("{}\n", server.url(PASSWORD))).unwrap();
    probe::run("claim", &[("PROBE_URL_FILE", url_file.to_str().unwrap()), (name, &file)]).await.unwrap();
}
