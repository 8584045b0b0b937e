//! The thumbprint of a certificate (RFC 7515 sections 4.1.7 and 4.1.8): its hash, by which an issuer finds the public key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::error::{ConfigError, Error};
use crate::providers::secret::Secret;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The hash of a thumbprint. The hash only selects a key, so SHA-1 is not a weakness here.
#[derive(Clone, Copy)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
        }
    }

    /// The thumbprint of the certificate that `pem` holds now.
    pub(super) async fn of(self, pem: &Secret) -> Result<String, Error> {
        Ok(self.of_text(pem.load().await?.expose_secret())?)
    }

    /// Checks a certificate that is known before it is loaded.
    pub(super) fn check(self, pem: &Secret) -> Result<(), ConfigError> {
        pem.peek().map_or(Ok(()), |pem| self.of_text(pem.expose_secret()).map(drop))
    }

    /// The thumbprint of the first certificate, which is the client's own. The text may also hold its issuers, and the private
    /// key.
    fn of_text(self, text: &str) -> Result<String, ConfigError> {
        let begin = text.find(BEGIN).ok_or_else(|| {
            ConfigError::new("certificate", "it has no certificate in PEM form")
                .with_hint("set the text that begins with -----BEGIN CERTIFICATE-----, including its line breaks")
        })?;
        let block = text[begin..].find(END).map(|end| &text[begin..begin + end + END.len()]);
        // The library's errors may quote the text, so none of them becomes a source.
        let parsed = block.and_then(|block| pem::parse(block).ok());
        // DER: a certificate is a SEQUENCE (RFC 5280 section 4.1).
        let der = parsed.as_ref().map(pem::Pem::contents).filter(|der| der.first() == Some(&0x30));
        let der = der.ok_or_else(|| {
            ConfigError::new("certificate", "it is damaged")
                .with_hint("show it with: openssl x509 -in certificate.pem -noout -subject -fingerprint -sha256")
        })?;
        Ok(URL_SAFE_NO_PAD.encode(digest(self.algorithm(), der)))
    }
}
