//! The certificates that `HttpClient` trusts, its own certificate, and that it never falls back to clear text.

use std::process::Command;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{AccessPsp, Error, ErrorKind, FetchContext, TokenProvider as _};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use super::access_psp::settings;
use super::wire::{GOOD, Wire, client, http_response};

async fn fetch(sandbox: &AccessPspSandbox, client: HttpClientBuilder) -> Result<(), Error> {
    let provider = settings(sandbox).http_client(client.build().unwrap()).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.map(drop)
}

/// A rustls configuration with an ALPN list, on which hyper-rustls would panic.
fn rustls_config(sandbox: &AccessPspSandbox) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test]
async fn only_the_given_roots_are_trusted() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let other = AccessPspSandbox::start().await.unwrap();
    fetch(&sandbox, HttpClient::builder().roots_pem(sandbox.ca_pem())).await.unwrap();
    let both = HttpClient::builder().roots_pem(other.ca_pem()).roots_pem(sandbox.ca_pem());
    fetch(&sandbox, both).await.unwrap();
    fetch(&sandbox, HttpClient::builder().rustls_config(rustls_config(&sandbox))).await.unwrap();
    assert_eq!(sandbox.token_request_count(), 3);
    for untrusting in [HttpClient::builder(), HttpClient::builder().roots_pem(other.ca_pem())] {
        // R57
        let error = fetch(&sandbox, untrusting).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(!error.is_transient());
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
    assert_eq!(sandbox.token_request_count(), 3);
    // The client needs no default provider and installs none.
    assert!(CryptoProvider::get_default().is_none());
}

/// Set in the child process of the test below.
const CHILD: &str = "TBA_TEST_UNUSABLE_DEFAULT_PROVIDER";

#[tokio::test]
async fn the_default_provider_of_the_process_takes_precedence() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let trusting = || HttpClient::builder().roots_pem(sandbox.ca_pem());
    if std::env::var_os(CHILD).is_none() {
        // Without a default provider, the compiled-in one is used.
        fetch(&sandbox, trusting()).await.unwrap();
        let test = "token_endpoint::tls::the_default_provider_of_the_process_takes_precedence";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shown} {}", String::from_utf8_lossy(&output.stderr));
        assert!(shown.contains("child: http_client: the `CryptoProvider` supports no TLS version"), "{shown}");
        return;
    }
    let working = rustls::crypto::aws_lc_rs::default_provider();
    let unusable = CryptoProvider { cipher_suites: vec![], kx_groups: vec![], ..working };
    unusable.install_default().unwrap();
    println!("child: {}", trusting().build().unwrap_err());
    // A configuration has its own provider.
    let configured = HttpClient::builder().rustls_config(rustls_config(&sandbox)).build().unwrap();
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(configured);
    provider.build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap();
}

#[cfg(feature = "native-roots")]
#[tokio::test]
async fn the_roots_of_the_platform_do_not_trust_a_test_certificate() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let error = fetch(&sandbox, HttpClient::builder().native_roots()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert_eq!(sandbox.token_request_count(), 0);
}

// Mutual TLS: RFC 8705 section 2.
#[tokio::test]
async fn a_client_certificate_is_presented_to_an_issuer_that_requests_one() {
    let sandbox = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = sandbox.client_identity_pem().unwrap();
    let trusting = || HttpClient::builder().roots_pem(sandbox.ca_pem());
    let error = fetch(&sandbox, trusting()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(!error.is_transient());
    assert_eq!(sandbox.token_request_count(), 0);
    fetch(&sandbox, trusting().identity_pem(chain, key)).await.unwrap();
    assert_eq!(sandbox.token_request_count(), 1);
}

#[tokio::test]
async fn an_https_url_never_receives_clear_text() {
    let wire = Wire::responding(http_response(200, &[], GOOD)).await;
    let url = wire.token_url().replace("http://", "https://");
    let error = client(&url).build().unwrap().fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient());
    let seen = wire.requests();
    assert_eq!(seen.len(), 1);
    // A TLS handshake record, and no part of the request.
    assert!(seen[0].starts_with('\u{16}'));
    assert!(!seen[0].contains("POST") && !seen[0].contains("client_secret"));
}

fn rejected(builder: HttpClientBuilder, field: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.setting(), field);
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn invalid_pem_is_rejected_by_name_and_never_quoted() {
    let sandbox = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = sandbox.client_identity_pem().unwrap();
    let other = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (_, foreign_key) = other.client_identity_pem().unwrap();
    let damaged = key.replace("-----END", "CANARY");
    let builder = HttpClient::builder;
    for pem in ["", "CANARY", key, "-----BEGIN CERTIFICATE-----\nCANARY!\n-----END CERTIFICATE-----\n"] {
        rejected(builder().roots_pem(pem), "roots_pem");
        rejected(builder().identity_pem(pem, key), "identity_pem");
    }
    for key in ["", "CANARY", chain, &damaged, foreign_key] {
        rejected(builder().identity_pem(chain, key), "identity_pem");
        let error = builder().identity_pem(chain, key).build().unwrap_err();
        let shown = format!("{error} {error:?} {:?}", builder().identity_pem(chain, key));
        assert!(!shown.contains("CANARY"), "{shown}");
        for line in key.lines().filter(|line| line.len() > 32 && !line.starts_with('-')) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
    let configured = || builder().rustls_config(rustls_config(&sandbox));
    rejected(configured().roots_pem(sandbox.ca_pem()), "rustls_config");
    rejected(configured().identity_pem(chain, key), "rustls_config");
}
