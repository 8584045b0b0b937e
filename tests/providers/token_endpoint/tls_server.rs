//! An issuer over TLS whose certificates, versions and connections a test chooses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::wire::{GOOD, http_response, is_complete};

/// A certificate authority.
pub(crate) struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    server: (Vec<rustls::pki_types::CertificateDer<'static>>, Vec<u8>),
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("a test authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for 127.0.0.1 with changes.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        let server = (vec![certificate.der().clone()], key.serialize_der());
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), server }
    }
}

/// What the server accepts.
pub(crate) struct Accepts<'a> {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) provider: CryptoProvider,
    /// It requires a client certificate of this authority.
    pub(crate) clients_of: Option<&'a Authority>,
}

impl Default for Accepts<'_> {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, provider: aws_lc_rs::default_provider(), clients_of: None }
    }
}

pub(crate) fn server_config(identity: &Identity, accepts: Accepts<'_>) -> ServerConfig {
    let provider = Arc::new(accepts.provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(accepts.versions).unwrap();
    let builder = match accepts.clients_of {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = &identity.server;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
    builder.with_single_cert(chain.clone(), key).unwrap()
}

/// An issuer that keeps its connections open.
pub(crate) struct TlsServer {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<AtomicUsize>,
    /// The client certificate of each request.
    clients: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
}

impl TlsServer {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let connections = Arc::new(AtomicUsize::new(0));
        let clients = Arc::new(Mutex::new(Vec::new()));
        let (current, count, seen) = (Arc::clone(&config), Arc::clone(&connections), Arc::clone(&clients));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = TlsAcceptor::from(Arc::clone(&current.lock()));
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    // The client sees why a handshake fails.
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
                    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                        request.extend_from_slice(&chunk[..read]);
                        if is_complete(&request) {
                            request.clear();
                            let client = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
                            seen.lock().push(client);
                            if stream.write_all(&http_response(200, &[], GOOD)).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { address, config, connections, clients }
    }

    pub(crate) fn token_url(&self) -> String {
        format!("https://{}/token", self.address)
    }

    /// New connections use this configuration.
    pub(crate) fn change(&self, config: ServerConfig) {
        *self.config.lock() = Arc::new(config);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn clients(&self) -> Vec<Option<Vec<u8>>> {
        self.clients.lock().clone()
    }
}

impl Identity {
    pub(crate) fn der(&self) -> Vec<u8> {
        self.server.0[0].to_vec()
    }
}
