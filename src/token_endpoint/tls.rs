//! The rustls configuration, made from the builder's settings.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::error::ConfigError;

#[derive(Default)]
pub(super) struct TlsSettings {
    roots: Roots,
    identity: Option<Identity>,
    config: Option<ClientConfig>,
}

#[derive(Default)]
enum Roots {
    #[default]
    Bundled,
    Pem(Vec<u8>),
    #[cfg(feature = "native-roots")]
    Native,
}

struct Identity {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// The process's default, else aws-lc-rs, else ring.
///
/// The functions of rustls that choose a provider themselves panic if two providers are compiled in and there is no
/// default.
fn crypto_provider() -> Option<Arc<CryptoProvider>> {
    CryptoProvider::get_default().cloned().or_else(compiled_in)
}

#[cfg(feature = "aws-lc-rs")]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn compiled_in() -> Option<Arc<CryptoProvider>> {
    None
}

impl TlsSettings {
    pub(super) fn add_roots_pem(&mut self, pem: &[u8]) {
        let mut all = match std::mem::take(&mut self.roots) {
            Roots::Pem(earlier) => earlier,
            _ => Vec::new(),
        };
        all.extend_from_slice(pem);
        all.push(b'\n');
        self.roots = Roots::Pem(all);
    }

    #[cfg(feature = "native-roots")]
    pub(super) fn use_native_roots(&mut self) {
        self.roots = Roots::Native;
    }

    pub(super) fn set_identity_pem(&mut self, chain: &[u8], key: &[u8]) {
        self.identity = Some(Identity { chain: chain.to_vec(), key: Zeroizing::new(key.to_vec()) });
    }

    pub(super) fn set_config(&mut self, config: ClientConfig) {
        self.config = Some(config);
    }

    pub(super) fn into_config(self) -> Result<ClientConfig, ConfigError> {
        let Self { roots, identity, config } = self;
        if let Some(mut config) = config {
            if !matches!((&roots, &identity), (Roots::Bundled, None)) {
                return Err(ConfigError::new(
                    "rustls_config",
                    "root certificates or a client certificate are also set",
                )
                .with_hint("put them into the rustls configuration"));
            }
            // hyper-rustls sets the ALPN list itself, and panics if it is not empty.
            config.alpn_protocols.clear();
            return Ok(config);
        }
        let provider = crypto_provider().ok_or_else(|| {
            ConfigError::new("http_client", "there is no cryptography for TLS").with_hint(
                "turn on the feature `aws-lc-rs` or `ring`, install a default `CryptoProvider` of rustls, or set \
                 `rustls_config`",
            )
        })?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                ConfigError::new("http_client", "the `CryptoProvider` supports no TLS version")
                    .with_source(error)
                    .with_hint("install a default `CryptoProvider` with cipher suites for TLS 1.2 or 1.3")
            })?
            .with_root_certificates(roots.store()?);
        let Some(identity) = identity else {
            return Ok(builder.with_no_client_auth());
        };
        let (chain, key) = identity.parse()?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            ConfigError::new("identity_pem", "the key does not match the certificate, or its type is not supported")
                .with_source(error)
                .with_hint("put the client's own certificate first in the chain, and set the key of that certificate")
        })
    }
}

impl Roots {
    fn store(self) -> Result<RootCertStore, ConfigError> {
        match self {
            Self::Bundled => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
            Self::Pem(pem) => {
                let mut store = RootCertStore::empty();
                for certificate in certificates("roots_pem", &pem)? {
                    store.add(certificate).map_err(|error| {
                        ConfigError::new("roots_pem", "it contains a certificate that cannot be a root certificate")
                            .with_source(error)
                            .with_hint("set the certificate of the authority, not that of a server")
                    })?;
                }
                Ok(store)
            }
            #[cfg(feature = "native-roots")]
            Self::Native => {
                let found = rustls_native_certs::load_native_certs();
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    return Err(ConfigError::new("native_roots", "the platform has no usable root certificate")
                        .with_hint("install its package of root certificates, set SSL_CERT_FILE, or use roots_pem"));
                }
                Ok(store)
            }
        }
    }
}

impl Identity {
    fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let chain = certificates("identity_pem", &self.chain)?;
        // The parser's error may quote the key, so it does not become the source.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            ConfigError::new("identity_pem", "it does not contain a readable private key")
                .with_hint("set a PEM key that is not encrypted, in PKCS#8, PKCS#1 or SEC1 form")
        })?;
        Ok((chain, key))
    }
}

fn certificates(setting: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let reason = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "it does not contain a certificate",
        // The caller may have passed the key by mistake, so the parser's error does not become the source here either.
        Err(_) => "it is not PEM",
    };
    Err(ConfigError::new(setting, reason).with_hint("set text with the line -----BEGIN CERTIFICATE-----"))
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match (&self.config, &self.roots) {
            (Some(_), _) => "rustls_config",
            (None, Roots::Bundled) => "bundled",
            (None, Roots::Pem(_)) => "pem",
            #[cfg(feature = "native-roots")]
            (None, Roots::Native) => "native",
        };
        f.debug_struct("TlsSettings")
            .field("roots", &roots)
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}
