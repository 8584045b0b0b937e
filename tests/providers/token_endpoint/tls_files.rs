//! Root certificates and client certificates from files that change while the program runs.

use std::fs;
use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[cfg(target_os = "linux")]
use futures::future::join_all;
#[cfg(target_os = "linux")]
use tokio::runtime::Builder;
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{ClientCredentials, Error, ErrorKind, FetchContext, TokenProvider as _};

use super::tls_server::{Accepts, Authority, Identity, TlsServer, server_config};
use super::wire::client;
use crate::support::wait::within;

/// An idle connection is not closed, however slow the machine is.
const KEPT: Duration = Duration::from_secs(600);

/// A file in the directory for temporary files. It is removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: impl AsRef<[u8]>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("tower-bearer-auth-tls-{}-{number}.pem", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(content);
        file
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(&self.0, content).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn fetch(provider: &ClientCredentials) -> Result<(), Error> {
    within("a token request", provider.fetch(&(), &FetchContext::default())).await.map(drop)
}

fn provider(server: &TlsServer, http_client: HttpClientBuilder) -> ClientCredentials {
    client(&server.token_url()).http_client(http_client.build().unwrap()).build().unwrap()
}

/// An issuer that requires a client certificate, and a client with one from files.
struct Mutual {
    authority: Authority,
    server: TlsServer,
    identity: Identity,
    chain: Scratch,
    key: Scratch,
    provider: ClientCredentials,
}

impl Mutual {
    async fn start() -> Self {
        let authority = Authority::new();
        let accepts = Accepts { clients_of: Some(&authority), ..Accepts::default() };
        let server = TlsServer::start(server_config(&authority.issue(|_| {}), accepts)).await;
        let identity = authority.issue(|_| {});
        let (chain, key) = (Scratch::new(&identity.certificate), Scratch::new(&identity.key));
        let files =
            HttpClient::builder().roots_pem(authority.pem()).identity_files(&chain.0, &key.0).idle_timeout(KEPT);
        let provider = provider(&server, files);
        Self { authority, server, identity, chain, key, provider }
    }

    /// Sends a token request. The client certificate, and the number of connections since the start.
    async fn used(&self) -> (Vec<u8>, usize) {
        fetch(&self.provider).await.unwrap();
        (self.server.clients().pop().unwrap().unwrap(), self.server.connections())
    }
}

// R99: cert-manager and the kubelet replace the files of a certificate before it expires.
#[tokio::test]
async fn a_new_client_certificate_is_used_by_the_next_fetch_on_a_new_connection() {
    let mutual = Mutual::start().await;
    assert_eq!(mutual.used().await, (mutual.identity.der(), 1));
    // Without a change the connection is used again, although the files are written again.
    mutual.chain.write(&mutual.identity.certificate);
    assert_eq!(mutual.used().await, (mutual.identity.der(), 1));
    let next = mutual.authority.issue(|_| {});
    mutual.chain.write(&next.certificate);
    mutual.key.write(&next.key);
    assert_eq!(mutual.used().await, (next.der(), 2));
    assert_eq!(mutual.used().await, (next.der(), 2));
}

// R99: a half-written pair. The two files cannot be replaced at the same moment.
#[tokio::test]
async fn a_client_certificate_without_its_key_keeps_the_earlier_pair() {
    let mutual = Mutual::start().await;
    let next = mutual.authority.issue(|_| {});
    assert_eq!(mutual.used().await, (mutual.identity.der(), 1));
    mutual.chain.write(&next.certificate);
    assert_eq!(mutual.used().await, (mutual.identity.der(), 1));
    let (half, _) = next.key.split_at(next.key.len() / 2);
    for unusable in [half, "", "not PEM"] {
        mutual.key.write(unusable);
        assert_eq!(mutual.used().await, (mutual.identity.der(), 1), "{unusable:?}");
    }
    fs::remove_file(&mutual.key.0).unwrap();
    assert_eq!(mutual.used().await, (mutual.identity.der(), 1));
    mutual.key.write(&next.key);
    assert_eq!(mutual.used().await, (next.der(), 2));
}

// R99
#[tokio::test]
async fn new_root_certificates_are_trusted_by_the_next_fetch_and_the_old_ones_are_not() {
    let (first, second) = (Authority::named("first"), Authority::named("second"));
    let server = TlsServer::start(server_config(&first.issue(|_| {}), Accepts::default())).await;
    let roots = Scratch::new(first.pem());
    let provider = provider(&server, HttpClient::builder().roots_file(&roots.0).idle_timeout(KEPT));
    fetch(&provider).await.unwrap();
    // The connection that the first authority has vouched for is not used again.
    roots.write(second.pem());
    let error = fetch(&provider).await.unwrap_err();
    assert_eq!((error.kind(), server.connections()), (ErrorKind::Tls, 2), "{error}");
    server.change(server_config(&second.issue(|_| {}), Accepts::default()));
    fetch(&provider).await.unwrap();
    fetch(&provider).await.unwrap();
    assert_eq!((server.connections(), server.clients().len()), (3, 3));
}

// R99: the error of a fetch shows that the file is not in use.
#[tokio::test]
async fn root_certificates_that_cannot_be_used_change_nothing_and_the_error_says_why() {
    let (first, second) = (Authority::named("first"), Authority::named("second"));
    let server = TlsServer::start(server_config(&first.issue(|_| {}), Accepts::default())).await;
    let roots = Scratch::new(first.pem());
    let with_roots = || provider(&server, HttpClient::builder().roots_file(&roots.0).idle_timeout(KEPT));
    let provider = with_roots();
    fetch(&provider).await.unwrap();
    let pem = second.pem();
    let table = [
        (&pem[..pem.len() / 2], "roots_file: it is not PEM"),
        ("CANARY", "roots_file: it does not contain a certificate"),
        ("", "is empty"),
    ];
    for (content, _) in table {
        roots.write(content);
        fetch(&provider).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    server.change(server_config(&second.issue(|_| {}), Accepts::default()));
    // This one has no connection yet.
    roots.write(first.pem());
    let provider = with_roots();
    for (content, reason) in table {
        roots.write(content);
        let error = fetch(&provider).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("the earlier files were used (roots_file: "), "{source}");
        assert!(source.contains(reason), "{source}");
        assert!(!format!("{error:?}").contains("CANARY"), "{error:?}");
    }
    roots.write(pem);
    fetch(&provider).await.unwrap();
}

// R81: a mount that hangs, here a FIFO without a writer.
#[cfg(target_os = "linux")]
#[test]
fn a_file_on_a_mount_that_hangs_costs_two_seconds_and_one_thread_and_keeps_the_earlier_content() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let on_start = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let runtime = Builder::new_current_thread().enable_all().on_thread_start(on_start).build().unwrap();
    runtime.block_on(async {
        let authority = Authority::new();
        let server = TlsServer::start(server_config(&authority.issue(|_| {}), Accepts::default())).await;
        let roots = Scratch::new(authority.pem());
        let provider = provider(&server, HttpClient::builder().roots_file(&roots.0).idle_timeout(KEPT));
        fs::remove_file(&roots.0).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&roots.0).status().unwrap().success());
        for result in join_all((0..8).map(|_| fetch(&provider))).await {
            result.unwrap();
        }
        // The writer ends the read.
        drop(fs::OpenOptions::new().write(true).open(&roots.0).unwrap());
    });
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

#[test]
fn files_that_cannot_be_used_at_first_are_an_error_that_names_the_setting() {
    let (authority, other) = (Authority::new(), Authority::new());
    let [identity, foreign] = [&authority, &other].map(|authority| authority.issue(|_| {}));
    let [chain, key, foreign_key] = [&identity.certificate, &identity.key, &foreign.key].map(Scratch::new);
    let (empty, text) = (Scratch::new(""), Scratch::new("CANARY"));
    let large = Scratch::new(vec![b'\n'; 1024 * 1024 + 1]);
    let missing = std::env::temp_dir().join("tower-bearer-auth-missing.pem");
    let rejected = |builder: HttpClientBuilder, setting: &str, reason: &str| {
        let printed = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert_eq!(error.setting(), setting, "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        let shown = format!("{printed} {error} {error:?}");
        assert!(!shown.contains("CANARY") && !shown.contains(key_line(&identity.key)), "{shown}");
    };
    for (file, reason) in [
        (&missing, "cannot be read: entity not found"),
        (&empty.0, "is empty"),
        (&text.0, "does not contain a certificate"),
        (&key.0, "does not contain a certificate"),
        (&large.0, "is larger than 1024 KiB"),
    ] {
        rejected(HttpClient::builder().roots_file(file), "roots_file", reason);
        rejected(HttpClient::builder().identity_files(file, &key.0), "identity_files", reason);
    }
    for (file, reason) in [
        (&missing, "cannot be read"),
        (&text.0, "readable private key"),
        (&chain.0, "readable private key"),
        (&foreign_key.0, "does not match"),
    ] {
        rejected(HttpClient::builder().identity_files(&chain.0, file), "identity_files", reason);
    }
    // R83: a secret in place of a path is not printed.
    rejected(HttpClient::builder().identity_files(&chain.0, &identity.key), "identity_files", "the path of a file");
    rejected(HttpClient::builder().roots_file("CANARY"), "roots_file", "the path of a file");
    // The last setting counts.
    HttpClient::builder().roots_file(&missing).roots_pem(authority.pem()).build().unwrap();
    HttpClient::builder().roots_pem("CANARY").roots_file(&chain.0).build().unwrap();
    let pem = HttpClient::builder().identity_files(&missing, &missing);
    pem.identity_pem(&identity.certificate, &identity.key).build().unwrap();
    let both = Scratch::new(format!("{}{}", identity.key, identity.certificate));
    HttpClient::builder().identity_files(&both.0, &both.0).build().unwrap();
}

/// A line of the key itself.
fn key_line(pem: &str) -> &str {
    pem.lines().nth(1).unwrap()
}
