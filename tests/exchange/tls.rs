//! Whom the own client trusts, who it says it is, and that it never falls back to clear text.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder};
use tower_bearer_auth::{Error, ErrorKind, TokenProvider as _};
use tower_bearer_auth_sandbox::AccessPspSandbox;

use crate::access_psp::settings;
use crate::wire::{GOOD, Wire, answer, client};

async fn fetch(sandbox: &AccessPspSandbox, client: HttpClientBuilder) -> Result<(), Error> {
    let provider = settings(sandbox).http_client(client.build().unwrap()).build().unwrap();
    provider.fetch(&()).await.map(drop)
}

/// A configuration of one's own, with what hyper-rustls would stumble over in it.
fn whole(sandbox: &AccessPspSandbox) -> ClientConfig {
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
async fn own_roots_are_trusted_and_no_others() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let other = AccessPspSandbox::start().await.unwrap();
    fetch(&sandbox, HttpClient::builder().roots_pem(sandbox.ca_pem())).await.unwrap();
    let both = HttpClient::builder().roots_pem(other.ca_pem()).roots_pem(sandbox.ca_pem());
    fetch(&sandbox, both).await.unwrap();
    fetch(&sandbox, HttpClient::builder().rustls_config(whole(&sandbox))).await.unwrap();
    assert_eq!(sandbox.token_request_count(), 3);
    for stranger in [HttpClient::builder(), HttpClient::builder().roots_pem(other.ca_pem())] {
        // An issuer's certificate is the issuer's to mend, so this passes.
        let error = fetch(&sandbox, stranger).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_transient());
        assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    }
    assert_eq!(sandbox.token_request_count(), 3);
    // No process default was needed, and none is there now.
    assert!(CryptoProvider::get_default().is_none());
}

#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn aws_lc_rs_serves_as_well_as_ring_beside_it() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).aws_lc_rs();
    fetch(&sandbox, client).await.unwrap();
    // Two providers are compiled in, and neither is guessed to be the one.
    assert!(CryptoProvider::get_default().is_none());
}

#[cfg(feature = "native-roots")]
#[tokio::test]
async fn the_platform_s_roots_do_not_vouch_for_a_throw_away_authority() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let error = fetch(&sandbox, HttpClient::builder().native_roots()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(sandbox.token_request_count(), 0);
}

// Mutual TLS: RFC 8705 section 2.
#[tokio::test]
async fn a_client_identity_is_shown_to_the_issuer_that_asks_for_one() {
    let sandbox = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = sandbox.client_identity_pem().unwrap();
    let trusting = || HttpClient::builder().roots_pem(sandbox.ca_pem());
    let error = fetch(&sandbox, trusting()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient());
    assert_eq!(sandbox.token_request_count(), 0);
    fetch(&sandbox, trusting().identity_pem(chain, key)).await.unwrap();
    assert_eq!(sandbox.token_request_count(), 1);
}

#[tokio::test]
async fn an_https_url_is_never_spoken_to_in_clear_text() {
    let wire = Wire::answering(answer(200, &[], GOOD)).await;
    let url = wire.token_url().replace("http://", "https://");
    let error = client(&url).build().unwrap().fetch(&()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_transient());
    let seen = wire.requests();
    assert_eq!(seen.len(), 1);
    // A TLS handshake record, and nothing of the request.
    assert!(seen[0].starts_with('\u{16}'));
    assert!(!seen[0].contains("POST") && !seen[0].contains("client_secret"));
}

fn refused(builder: HttpClientBuilder, field: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn bad_pem_is_refused_by_name_and_never_quoted() {
    let sandbox = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (chain, key) = sandbox.client_identity_pem().unwrap();
    let other = AccessPspSandbox::builder().require_client_certificate().start().await.unwrap();
    let (_, foreign_key) = other.client_identity_pem().unwrap();
    let torn = key.replace("-----END", "CANARY");
    let builder = HttpClient::builder;
    for pem in ["", "CANARY", key, "-----BEGIN CERTIFICATE-----\nCANARY!\n-----END CERTIFICATE-----\n"] {
        refused(builder().roots_pem(pem), "roots_pem");
        refused(builder().identity_pem(pem, key), "identity_pem");
    }
    for key in ["", "CANARY", chain, &torn, foreign_key] {
        refused(builder().identity_pem(chain, key), "identity_pem");
        let error = builder().identity_pem(chain, key).build().unwrap_err();
        let shown = format!("{error} {error:?} {:?}", builder().identity_pem(chain, key));
        assert!(!shown.contains("CANARY"), "{shown}");
        for line in key.lines().filter(|line| line.len() > 32 && !line.starts_with('-')) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
    let whole = || builder().rustls_config(whole(&sandbox));
    refused(whole().roots_pem(sandbox.ca_pem()), "rustls_config");
    refused(whole().identity_pem(chain, key), "rustls_config");
}
