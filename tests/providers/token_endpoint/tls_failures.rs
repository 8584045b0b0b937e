//! What a failure of TLS becomes: its own kind, permanent, with a hint that fits.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower_bearer_auth::token_endpoint::{HttpClient, HttpClientBuilder, TokenClient};
use tower_bearer_auth::{Error, ErrorKind, FetchContext, TokenProvider as _};

use super::tls_server::{Accepts, Authority, Identity, TlsServer, server_config};
use super::wire::{Wire, client, http_response};

static ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

async fn failure(token_url: &str, http_client: impl Into<TokenClient>) -> Error {
    let provider = client(token_url).http_client(http_client).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap_err()
}

/// Starts an issuer with this identity and checks the error of a token request.
#[track_caller]
fn expect(error: &Error, what: &str, hints: &[&str]) {
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Tls, false), "{error:?}");
    assert!(error.message().ends_with(what), "{error}");
    let hint = error.hint().unwrap();
    assert!(hints.iter().all(|part| hint.contains(part)), "{error}");
    assert!(!error.to_string().contains("could not be reached"), "{error}");
}

fn trusting(authority: &Authority) -> HttpClientBuilder {
    HttpClient::builder().roots_pem(authority.pem())
}

async fn with_server_certificate(change: impl FnOnce(&mut CertificateParams)) -> Error {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.issue(change), Accepts::default())).await;
    failure(&server.token_url(), trusting(&authority).build().unwrap()).await
}

// R57: a certificate of an authority that is not among the roots, and of one that was made again with the same name.
#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_named_as_such() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.issue(|_| {}), Accepts::default())).await;
    let (other, same_name) = (trusting(&Authority::named("another")), trusting(&Authority::new()));
    for untrusting in [HttpClient::builder(), other, same_name] {
        let error = failure(&server.token_url(), untrusting.build().unwrap()).await;
        expect(&error, "has a certificate that is not trusted", &["roots_pem", "roots_file", "native_roots"]);
    }
    assert_eq!((server.connections(), server.clients().len()), (3, 0));
}

// R57: `notAfter` is in the past.
#[tokio::test]
async fn a_certificate_that_has_expired_is_named_as_such() {
    let error = with_server_certificate(|params| params.not_after = date_time_ymd(2001, 2, 3)).await;
    expect(&error, "has a certificate that has expired", &["clock", "renew"]);
}

// R57: `notBefore` is in the future.
#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_named_as_such() {
    let error = with_server_certificate(|params| params.not_before = date_time_ymd(3001, 2, 3)).await;
    expect(&error, "has a certificate that is not valid yet", &["clock"]);
}

// R57: the certificate is for issuer.test, and the URL has 127.0.0.1.
#[tokio::test]
async fn a_certificate_for_another_name_is_named_as_such() {
    let name = SanType::DnsName("issuer.test".try_into().unwrap());
    let error = with_server_certificate(|params| params.subject_alt_names = vec![name]).await;
    expect(&error, "has a certificate for another name", &["host of the token URL"]);
}

// R57: `openssl req -x509` makes such a certificate, and other clients accept it.
#[tokio::test]
async fn the_certificate_of_an_authority_in_place_of_a_server_certificate_is_named_as_such() {
    let error = with_server_certificate(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).await;
    expect(&error, "the certificate of an authority in place of a server certificate", &["CA:FALSE"]);
}

// R57: a client certificate that a server uses.
#[tokio::test]
async fn a_certificate_for_another_purpose_is_not_accepted() {
    let purpose = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let error = with_server_certificate(|params| params.extended_key_usages = purpose).await;
    expect(&error, "has a certificate that is not accepted", &["check the issuer's certificate"]);
}

async fn with_client_certificate(accepts: Accepts<'_>, authority: &Authority, identity: Option<&Identity>) -> Error {
    let server = TlsServer::start(server_config(&authority.issue(|_| {}), accepts)).await;
    let mut client = trusting(authority);
    if let Some(identity) = identity {
        client = client.identity_pem(&identity.certificate, &identity.key);
    }
    let error = failure(&server.token_url(), client.build().unwrap()).await;
    assert_eq!((server.connections(), server.clients().len()), (1, 0), "{error}");
    error
}

// R57: in TLS 1.3 the handshake of the client is complete before the server sees that there is no certificate.
#[tokio::test]
async fn a_missing_client_certificate_is_named_in_tls_1_3() {
    let authority = Authority::new();
    for _ in 0..20 {
        let accepts = Accepts { versions: ONLY_13, clients_of: Some(&authority), ..Accepts::default() };
        let error = with_client_certificate(accepts, &authority, None).await;
        expect(&error, "requires a client certificate", &["identity_pem", "identity_files"]);
    }
}

// R57: TLS 1.2 has no alert of its own for it.
#[tokio::test]
async fn a_missing_client_certificate_is_named_in_tls_1_2() {
    let authority = Authority::new();
    let accepts = Accepts { versions: ONLY_12, clients_of: Some(&authority), ..Accepts::default() };
    let error = with_client_certificate(accepts, &authority, None).await;
    expect(&error, "requires a client certificate", &["identity_pem", "identity_files"]);
}

// R57: certificates of other authorities, and one that has expired, in both versions of TLS.
#[tokio::test]
async fn a_client_certificate_that_the_issuer_rejects_is_named_as_such() {
    let authority = Authority::new();
    let of_another = Authority::named("another").issue(|_| {});
    let of_the_same_name = Authority::new().issue(|_| {});
    let expired = authority.issue(|params| params.not_after = date_time_ymd(2001, 2, 3));
    for identity in [&of_another, &of_the_same_name, &expired] {
        for versions in [ONLY_12, ONLY_13] {
            let accepts = Accepts { versions, clients_of: Some(&authority), ..Accepts::default() };
            let error = with_client_certificate(accepts, &authority, Some(identity)).await;
            expect(&error, "rejects the client certificate, or requires one", &["identity_pem", "expired"]);
        }
    }
}

fn configured(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    provider: CryptoProvider,
) -> HttpClient {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pem(&authority.pem()) {
        roots.add(certificate).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    HttpClient::builder().rustls_config(config).build().unwrap()
}

fn rustls_pem(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

// R57: TLS 1.2 only against TLS 1.3 only, in both directions.
#[tokio::test]
async fn a_tls_version_that_one_side_does_not_support_is_named() {
    let authority = Authority::new();
    for (server, client) in [(ONLY_12, ONLY_13), (ONLY_13, ONLY_12)] {
        let accepts = Accepts { versions: server, ..Accepts::default() };
        let server = TlsServer::start(server_config(&authority.issue(|_| {}), accepts)).await;
        let client = configured(&authority, client, aws_lc_rs::default_provider());
        let error = failure(&server.token_url(), client).await;
        expect(&error, "supports no TLS version that this client supports", &["TLS 1.2 or 1.3"]);
    }
}

// R57: each side has another half of the cipher suites.
#[tokio::test]
async fn cipher_suites_that_have_nothing_in_common_are_named() {
    let authority = Authority::new();
    let halves = |first: bool| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("CHACHA20") == first);
        provider
    };
    for versions in [ONLY_12, ONLY_13] {
        let accepts = Accepts { versions, provider: halves(true), ..Accepts::default() };
        let server = TlsServer::start(server_config(&authority.issue(|_| {}), accepts)).await;
        let error = failure(&server.token_url(), configured(&authority, versions, halves(false))).await;
        let what = "has no TLS parameters in common with this client, or requires a client certificate";
        expect(&error, what, &["cipher suite", "identity_pem"]);
    }
}

/// A server that sends these bytes after the first record of the client, and closes the connection.
async fn sending(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            // A close with unread bytes would be a reset.
            while let Ok(1..) = stream.read(&mut hello).await {}
        }
    });
    address
}

// R57: what `openssl s_server` of OpenSSL 3.0 sends with -tls1_1 and with -cipher AES128-SHA, and two alerts that nginx and Go
// send: unrecognized_name and bad_certificate.
#[tokio::test]
async fn the_alerts_of_other_servers_are_named() {
    let none = "has no TLS parameters in common with this client, or requires a client certificate";
    let table: [(&[u8], &str); 4] = [
        (b"\x15\x03\x03\0\x02\x02\x46", "supports no TLS version that this client supports"),
        (b"\x15\x03\x03\0\x02\x02\x28", none),
        (b"\x15\x03\x03\0\x02\x02\x70", "has no certificate for this host name"),
        (b"\x15\x03\x03\0\x02\x02\x2a", "rejects the client certificate, or requires one"),
    ];
    for (alert, what) in table {
        let url = format!("https://{}/token", sending(alert).await);
        expect(&failure(&url, HttpClient::new().unwrap()).await, what, &[]);
    }
}

// R57: the server may be restarting. An internal_error is not about a setting.
#[tokio::test]
async fn a_connection_that_ends_during_the_handshake_is_transient() {
    for bytes in [b"".as_slice(), b"\x15\x03\x03\0\x02\x02\x50", b"\x15\x03\x03\0\x02\x01\0"] {
        let url = format!("https://{}/token", sending(bytes).await);
        let error = failure(&url, HttpClient::new().unwrap()).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error:?}");
    }
    // A reset.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_zero_linger().unwrap();
        }
    });
    let error = failure(&url, HttpClient::new().unwrap()).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error:?}");
}

// R62: an https URL with the port of an http server. nginx, Apache and Go respond to it with HTTP.
#[tokio::test]
async fn a_server_that_does_not_use_tls_is_named_as_such() {
    for response in [http_response(400, &[], ""), b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()] {
        let wire = Wire::responding(response).await;
        let url = wire.token_url().replace("http://", "https://");
        let error = failure(&url, HttpClient::new().unwrap()).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error:?}");
        assert!(error.message().ends_with("sent something that is not TLS"), "{error}");
        assert!(error.hint().unwrap().contains("scheme and the port"), "{error}");
    }
}

// R57: the settings in the hints are those of `HttpClient`.
#[tokio::test]
async fn the_kind_is_the_same_for_another_client_over_rustls_and_there_is_no_hint() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.issue(|_| {}), Accepts::default())).await;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
    let other: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector.build());
    let error = failure(&server.token_url(), TokenClient::new(other)).await;
    assert_eq!((error.kind(), error.is_transient(), error.hint()), (ErrorKind::Tls, false, None), "{error}");
    assert!(error.message().ends_with("has a certificate that is not trusted"), "{error}");
}
