//! Whom to trust and who to be: a rustls configuration out of the builder's choices.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::error::ConfigError;

#[derive(Default)]
pub(super) struct Tls {
    roots: Roots,
    identity: Option<Identity>,
    cryptography: Option<fn() -> CryptoProvider>,
    whole: Option<ClientConfig>,
}

#[derive(Default)]
enum Roots {
    #[default]
    Bundled,
    Pem(Vec<u8>),
    #[cfg(feature = "native-roots")]
    Native,
}

/// What the builder takes unless it is told otherwise: ring where it is there, so that aws-lc-rs beside it changes nothing.
#[cfg(feature = "ring")]
const UNASKED: Option<fn() -> CryptoProvider> = Some(rustls::crypto::aws_lc_rs::default_provider);
#[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
const UNASKED: Option<fn() -> CryptoProvider> = Some(rustls::crypto::aws_lc_rs::default_provider);
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
const UNASKED: Option<fn() -> CryptoProvider> = None;

struct Identity {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Tls {
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

    #[cfg(feature = "aws-lc-rs")]
    pub(super) fn use_aws_lc_rs(&mut self) {
        self.cryptography = Some(rustls::crypto::aws_lc_rs::default_provider);
    }

    pub(super) fn set_config(&mut self, config: ClientConfig) {
        self.whole = Some(config);
    }

    pub(super) fn into_config(self) -> Result<ClientConfig, ConfigError> {
        let Self { roots, identity, cryptography, whole } = self;
        if let Some(mut config) = whole {
            let alone = matches!((&roots, &identity, &cryptography), (Roots::Bundled, None, None));
            if !alone {
                return Err(ConfigError::new(
                    "rustls_config",
                    "it replaces roots, identity and cryptography; set either it or them",
                ));
            }
            // hyper-rustls wants to fill it in itself, and panics otherwise.
            config.alpn_protocols.clear();
            return Ok(config);
        }
        let Some(provider) = cryptography.or(UNASKED) else {
            return Err(ConfigError::new("cryptography", "none is compiled in")
                .with_hint("switch on the feature `ring` or `aws-lc-rs`, or give `rustls_config`"));
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new("tls", "the cryptography offers no TLS version").with_source(error))?
            .with_root_certificates(roots.store()?);
        let Some(identity) = identity else {
            return Ok(builder.with_no_client_auth());
        };
        let (chain, key) = identity.parse()?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            ConfigError::new("identity_pem", "the key does not go with the certificate, or is of no known kind")
                .with_source(error)
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
                        ConfigError::new("roots_pem", "a certificate in it is no trust anchor").with_source(error)
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
                    return Err(ConfigError::new("native_roots", "the platform's store has no usable certificate"));
                }
                Ok(store)
            }
        }
    }
}

impl Identity {
    fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let chain = certificates("identity_pem", &self.chain)?;
        // The parser's error may show a piece of what it read, which is the key.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| ConfigError::new("identity_pem", "there is no private key in it that can be read"))?;
        Ok((chain, key))
    }
}

fn certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ConfigError::new(field, "there is no certificate in it")),
        // As above: somebody may have passed the key here.
        Err(_) => Err(ConfigError::new(field, "it is not PEM")),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match (&self.whole, &self.roots) {
            (Some(_), _) => "a whole rustls configuration",
            (None, Roots::Bundled) => "bundled",
            (None, Roots::Pem(_)) => "own",
            #[cfg(feature = "native-roots")]
            (None, Roots::Native) => "native",
        };
        f.debug_struct("Tls").field("roots", &roots).field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}
