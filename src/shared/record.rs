//! Sealed records.
//!
//! A record is a byte for the format, the record's lifetime in ms (8 bytes), a nonce and the ciphertext. The format, the kind,
//! the name, the version and the lifetime are authenticated beside it. So a record opens only as what it was sealed as.

use std::time::Duration;

use zeroize::Zeroizing;

use super::key::{NONCE, SealingKey};
use super::random;
use super::store::{StoreError, Stored};
use crate::token::IssuedToken;

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 8 + NONCE;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Token = 1,
    Note = 2,
}

/// Seals and opens records. The first key seals.
pub(super) struct Sealer {
    pub(super) key: SealingKey,
    pub(super) accepted: Vec<SealingKey>,
}

/// What was in a record.
pub(super) struct Opened {
    pub(super) plain: Zeroizing<Vec<u8>>,
    /// How long the record lasts in all, and how long it still does.
    pub(super) lifetime: Duration,
    pub(super) left: Duration,
}

impl Sealer {
    /// # Errors
    ///
    /// The operating system has no random bytes, or `plain` is too long.
    pub(super) fn seal(
        &self,
        kind: Kind,
        name: &str,
        version: [u8; 16],
        lifetime: Duration,
        plain: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let (nonce, lifetime) = (random::bytes::<NONCE>()?, millis(lifetime).to_be_bytes());
        let sealed = self
            .key
            .seal(&nonce, plain, &beside(kind, name, version, lifetime))
            .ok_or_else(|| StoreError::new("the record is too long"))?;
        Ok([&[FORMAT][..], &lifetime, &nonce, &sealed].concat())
    }

    /// `None` if the record has no expiry or was not sealed as this, with one of the keys.
    pub(super) fn open(&self, kind: Kind, name: &str, stored: &Stored) -> Option<Opened> {
        let (head, sealed) = stored.bytes.split_at_checked(HEAD)?;
        let (format, head) = head.split_first()?;
        let (lifetime, nonce) = head.split_first_chunk::<8>()?;
        let nonce: &[u8; NONCE] = nonce.try_into().ok()?;
        if *format != FORMAT || stored.left == Duration::MAX {
            return None;
        }
        let beside = beside(kind, name, stored.version, *lifetime);
        let plain =
            std::iter::once(&self.key).chain(&self.accepted).find_map(|key| key.open(nonce, sealed, &beside))?;
        let lifetime = Duration::from_millis(u64::from_be_bytes(*lifetime));
        // After a failover, another clock counts the rest.
        let left = stored.left.min(lifetime);
        Some(Opened { plain, lifetime, left })
    }
}

fn beside(kind: Kind, name: &str, version: [u8; 16], lifetime: [u8; 8]) -> Vec<u8> {
    [&[FORMAT, kind as u8][..], &version, &lifetime, name.as_bytes()].concat()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The contents of a token's record. `lifetime` is that of the token, and `age` is how long it has lived.
pub(super) fn encode_token(token: &IssuedToken, lifetime: Duration, age: Duration) -> Zeroizing<Vec<u8>> {
    let (header, prefix) = token.parts();
    // The exact capacity matters: a buffer that grows leaves copies that are not wiped.
    let mut plain = Zeroizing::new(Vec::with_capacity(8 + 8 + 1 + header.len()));
    plain.extend_from_slice(&millis(lifetime).to_be_bytes());
    plain.extend_from_slice(&millis(age).to_be_bytes());
    plain.push(prefix);
    plain.extend_from_slice(header.as_bytes());
    plain
}

/// The token in an opened record, with its age by the clock of the store. `None` if it is not one.
pub(super) fn decode_token(opened: &Opened) -> Option<IssuedToken> {
    let (lifetime, rest) = opened.plain.split_first_chunk::<8>()?;
    let (age, rest) = rest.split_first_chunk::<8>()?;
    let (prefix, header) = rest.split_first()?;
    let [lifetime, age] = [lifetime, age].map(|bytes| Duration::from_millis(u64::from_be_bytes(*bytes)));
    let age = age.saturating_add(opened.lifetime.saturating_sub(opened.left));
    let token = IssuedToken::from_parts(std::str::from_utf8(header).ok()?, *prefix).ok()?;
    Some(token.expires_in(lifetime).with_age(age))
}
