//! The key that seals records.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::error::ConfigError;

const LENGTH: usize = 32;
pub(super) const NONCE: usize = 24;

/// The key that encrypts and authenticates the records of a shared store (XChaCha20-Poly1305): 32 random bytes.
///
/// All processes that share tokens need the same key. Make one with `openssl rand -hex 32`, and keep it where you keep the
/// client's secret. It is wiped from memory when it is dropped, and `Debug` does not print it.
///
/// To replace a key, let every process accept the new key first, with
/// [`also_accept`](super::SharedBuilder::also_accept). Then let every process seal with it.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; LENGTH]>);

impl SealingKey {
    /// A key with these bytes.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if all bytes are equal: such a key is a placeholder.
    pub fn new(bytes: [u8; LENGTH]) -> Result<Self, ConfigError> {
        let bytes = Zeroizing::new(bytes);
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(invalid("all its bytes are equal"));
        }
        Ok(Self(bytes))
    }

    /// A key from 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `text` has another length or another character, and as for [`new`](Self::new). It does not contain
    /// the text.
    pub fn from_hex(text: impl AsRef<str>) -> Result<Self, ConfigError> {
        let digits = text.as_ref().as_bytes();
        if digits.len() != 2 * LENGTH {
            return Err(invalid("it does not have 64 characters"));
        }
        let mut bytes = Zeroizing::new([0; LENGTH]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(invalid("it has a character that is not a hexadecimal digit"));
            };
            *byte = (16 * high + low) as u8;
        }
        Self::new(*bytes)
    }

    /// Encrypts `plain`, and authenticates it together with `beside`. `None` if it is too long.
    pub(super) fn seal(&self, nonce: &[u8; NONCE], plain: &[u8], beside: &[u8]) -> Option<Vec<u8>> {
        self.cipher().encrypt(&XNonce::from(*nonce), Payload { msg: plain, aad: beside }).ok()
    }

    /// Decrypts what `seal` returned. `None` if it was changed, or sealed with another key.
    pub(super) fn open(&self, nonce: &[u8; NONCE], sealed: &[u8], beside: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: beside }).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

fn invalid(reason: &str) -> ConfigError {
    ConfigError::new("sealing_key", reason)
        .with_hint("make a key with `openssl rand -hex 32`, and give it to every process that shares the tokens")
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}
