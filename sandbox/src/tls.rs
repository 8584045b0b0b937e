//! The certificate authority of one sandbox.

use std::{io, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// aws-lc-rs if it is enabled, else ring: the same order as in `tower-bearer-auth`. The process default is neither read
/// nor set.
#[cfg(feature = "aws-lc-rs")]
fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("tower-bearer-auth-sandbox needs cryptography: enable the feature `aws-lc-rs` or `ring`");

/// The certificate and key of the authority. They are generated at start and never written to a file.
pub(crate) struct Authority {
    certificate: Certificate,
    key: KeyPair,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(io::Error::other)?;
        // Each authority has its own name, so that one root store can contain several.
        params.distinguished_name = common_name(&format!("sandbox authority {:016x}", fastrand::u64(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let pem = certificate.pem();
        Ok(Self { certificate, key, pem })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// TLS for a server on loopback, with a new certificate for 127.0.0.1 and localhost.
    pub(crate) fn acceptor(&self, alpn: Vec<Vec<u8>>, require_client_certificate: bool) -> io::Result<TlsAcceptor> {
        let (leaf, key) = self.leaf("sandbox server", ExtendedKeyUsagePurpose::ServerAuth)?;
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if require_client_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.der().clone()).map_err(io::Error::other)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).map_err(io::Error::other)?;
        config.alpn_protocols = alpn;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A client certificate and its key, both PEM.
    pub(crate) fn client_identity(&self) -> io::Result<(String, String)> {
        let (leaf, key) = self.leaf("sandbox client", ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    /// A server certificate for 127.0.0.1 and localhost and its key, both PEM.
    pub(crate) fn server_identity(&self) -> io::Result<(String, String)> {
        let (leaf, key) = self.leaf("sandbox server", ExtendedKeyUsagePurpose::ServerAuth)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> io::Result<(Certificate, KeyPair)> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name = common_name(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let leaf = params.signed_by(&key, &self.certificate, &self.key).map_err(io::Error::other)?;
        Ok((leaf, key))
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
