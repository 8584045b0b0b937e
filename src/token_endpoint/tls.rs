//! The rustls configuration, made from the builder's settings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::pem::{Pem, PemSetting};
use crate::error::ConfigError;

/// The settings of the builder.
#[derive(Default)]
pub(super) struct TlsSettings {
    roots: RootsSetting,
    client_certificate: Option<ClientCertificate<PemSetting>>,
    config: Option<ClientConfig>,
}

#[derive(Default)]
enum RootsSetting {
    #[default]
    Bundled,
    Pem(PemSetting),
    #[cfg(feature = "native-roots")]
    Native,
}

/// Makes the rustls configuration from the current content of the files.
pub(super) struct TlsSource {
    provider: Arc<CryptoProvider>,
    roots: Roots,
    client_certificate: Option<ClientCertificate<Pem>>,
}

enum Roots {
    Fixed(Arc<RootCertStore>),
    File(Pem),
}

struct ClientCertificate<P> {
    chain: P,
    key: P,
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
            RootsSetting::Pem(PemSetting::Text(earlier)) => earlier,
            _ => Zeroizing::default(),
        };
        all.extend_from_slice(pem);
        all.push(b'\n');
        self.roots = RootsSetting::Pem(PemSetting::Text(all));
    }

    pub(super) fn set_roots_file(&mut self, path: PathBuf) {
        self.roots = RootsSetting::Pem(PemSetting::File(path));
    }

    #[cfg(feature = "native-roots")]
    pub(super) fn use_native_roots(&mut self) {
        self.roots = RootsSetting::Native;
    }

    pub(super) fn set_identity_pem(&mut self, chain: &[u8], key: &[u8]) {
        let [chain, key] = [chain, key].map(|pem| PemSetting::Text(Zeroizing::new(pem.to_vec())));
        self.client_certificate = Some(ClientCertificate { chain, key });
    }

    pub(super) fn set_identity_files(&mut self, chain: PathBuf, key: PathBuf) {
        self.client_certificate =
            Some(ClientCertificate { chain: PemSetting::File(chain), key: PemSetting::File(key) });
    }

    pub(super) fn set_config(&mut self, config: ClientConfig) {
        self.config = Some(config);
    }

    /// Reads the files for the first time. `Err` contains the configuration that the user has set.
    pub(super) fn into_source(self) -> Result<Result<TlsSource, ClientConfig>, ConfigError> {
        let Self { roots, client_certificate, config } = self;
        if let Some(mut config) = config {
            if !matches!((&roots, &client_certificate), (RootsSetting::Bundled, None)) {
                return Err(ConfigError::new(
                    "rustls_config",
                    "root certificates or a client certificate are also set",
                )
                .with_hint("put them into the rustls configuration"));
            }
            // hyper-rustls sets the ALPN list itself, and panics if it is not empty.
            config.alpn_protocols.clear();
            return Ok(Err(config));
        }
        let provider = crypto_provider().ok_or_else(|| {
            ConfigError::new("http_client", "there is no cryptography for TLS").with_hint(
                "turn on the feature `aws-lc-rs` or `ring`, install a default `CryptoProvider` of rustls, or set \
                 `rustls_config`",
            )
        })?;
        let open = |pem: PemSetting| pem.open("identity_pem", "identity_files");
        let client_certificate = match client_certificate {
            Some(ClientCertificate { chain, key }) => Some(ClientCertificate { chain: open(chain)?, key: open(key)? }),
            None => None,
        };
        Ok(Ok(TlsSource { provider, roots: roots.open()?, client_certificate }))
    }
}

impl TlsSource {
    /// The PEM texts, for a comparison with earlier ones.
    pub(super) fn pems(&self) -> impl Iterator<Item = &Pem> {
        let roots = match &self.roots {
            Roots::Fixed(_) => None,
            Roots::File(pem) => Some(pem),
        };
        let client = self.client_certificate.iter().flat_map(|client| [&client.chain, &client.key]);
        roots.into_iter().chain(client)
    }

    pub(super) fn config(&self) -> Result<ClientConfig, ConfigError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                ConfigError::new("http_client", "the `CryptoProvider` supports no TLS version")
                    .with_source(error)
                    .with_hint("install a default `CryptoProvider` with cipher suites for TLS 1.2 or 1.3")
            })?
            .with_root_certificates(match &self.roots {
                Roots::Fixed(store) => Arc::clone(store),
                Roots::File(pem) => Arc::new(store_of(pem)?),
            });
        let Some(ClientCertificate { chain, key }) = &self.client_certificate else {
            return Ok(builder.with_no_client_auth());
        };
        builder.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(|error| {
            ConfigError::new(chain.setting(), "the key does not match the certificate, or its type is not supported")
                .with_source(error)
                .with_hint("put the client's own certificate first in the chain, and set the key of that certificate")
        })
    }
}

impl RootsSetting {
    fn open(self) -> Result<Roots, ConfigError> {
        let store = match self {
            Self::Bundled => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
            Self::Pem(pem) => {
                let pem = pem.open("roots_pem", "roots_file")?;
                if pem.file().is_some() {
                    return Ok(Roots::File(pem));
                }
                store_of(&pem)?
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
                store
            }
        };
        Ok(Roots::Fixed(Arc::new(store)))
    }
}

fn store_of(pem: &Pem) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| {
            ConfigError::new(pem.setting(), "it contains a certificate that cannot be a root certificate")
                .with_source(error)
                .with_hint("set the certificate of the authority, not that of a server")
        })?;
    }
    Ok(store)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, ConfigError> {
    // The parser's error may quote the key, so it does not become the source.
    PrivateKeyDer::from_pem_slice(&pem.content()).map_err(|_| {
        ConfigError::new(pem.setting(), "it does not contain a readable private key")
            .with_hint("set a PEM key that is not encrypted, in PKCS#8, PKCS#1 or SEC1 form")
    })
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.content()).collect();
    let reason = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "it does not contain a certificate",
        // The caller may have passed the key by mistake, so the parser's error does not become the source here either.
        Err(_) => "it is not PEM",
    };
    Err(ConfigError::new(pem.setting(), reason).with_hint("set text with the line -----BEGIN CERTIFICATE-----"))
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match (&self.config, &self.roots) {
            (Some(_), _) => "rustls_config",
            (None, RootsSetting::Bundled) => "bundled",
            (None, RootsSetting::Pem(PemSetting::Text(_))) => "pem",
            // The path may be a secret that was set in place of a path.
            (None, RootsSetting::Pem(PemSetting::File(_))) => "file",
            #[cfg(feature = "native-roots")]
            (None, RootsSetting::Native) => "native",
        };
        f.debug_struct("TlsSettings")
            .field("roots", &roots)
            .field("client_certificate", &self.client_certificate.is_some())
            .finish_non_exhaustive()
    }
}
