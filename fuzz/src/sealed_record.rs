//! Records of a shared store: which of them a fetch takes, and what it stores.
//!
//! A record is a byte 1, the record's lifetime in ms (8 bytes), a nonce (24 bytes) and the ciphertext of XChaCha20-Poly1305. A
//! byte 1, the kind, the version, the lifetime and the name are authenticated beside it. A record that was changed, moved or
//! sealed with another key is never used.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use parking_lot::Mutex;
use tower_bearer_auth::shared::{Claim, Identity, Outcome, SealingKey, Shared, StoreError, Stored, TokenStore};
use tower_bearer_auth::{FetchContext, IssuedToken, TokenProvider as _, from_fn};

use crate::run::run;

/// The key that seals, one that is also accepted, and one that is not.
const KEYS: [[u8; 32]; 3] =
    [*b"the key that seals the records..", *b"an older key that still opens...", *b"the key of somebody else........"];
const VERSION: [u8; 16] = *b"its own version.";
const OTHER_VERSION: [u8; 16] = *b"another version.";
/// How long a check may take, so that the age of a token is not known more precisely.
const TOLERANCE: u64 = 20_000;

/// One record in the store.
#[derive(Arbitrary, Clone, Debug)]
pub struct Case {
    plain: Plain,
    /// Whether the store returns it as a note, and whether it was sealed as the other kind.
    is_note: bool,
    other_kind: bool,
    other_version: bool,
    other_name: bool,
    key: u8,
    lifetime: u32,
    /// `None`: it has no expiry.
    left: Option<u32>,
    /// A byte that was changed, and the bits.
    changed: Option<(u16, u8)>,
    /// How many bytes are missing at the end.
    missing: u8,
}

#[derive(Arbitrary, Clone, Debug)]
enum Plain {
    Token { lifetime: u32, age: u32, scheme: bool, secret: String },
    Failure { transient: bool, retry_after: bool, status: u16, kind: u8, code: String, message: String, hint: String },
    Repeated(u8),
    Bytes(Vec<u8>),
}

const KINDS: [&str; 6] = ["invalid_credentials", "throttled", "unavailable", "tls", "other", "a_newer_kind"];

impl Plain {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Token { lifetime, age, scheme, secret } => {
                let (prefix, scheme) = if *scheme { (7, "Bearer ") } else { (0, "") };
                let times = [lifetime, age].map(|ms| u64::from(*ms).to_be_bytes());
                [&times.concat()[..], &[prefix], scheme.as_bytes(), secret.as_bytes()].concat()
            }
            Self::Failure { transient, retry_after, status, kind, code, message, hint } => {
                let mut bytes = vec![2, u8::from(*transient), u8::from(*retry_after)];
                bytes.extend(status.to_be_bytes());
                for text in [KINDS[usize::from(*kind) % KINDS.len()], code, message, hint] {
                    bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
                bytes
            }
            Self::Repeated(rejected) => vec![1, *rejected],
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

fn seal(key: &[u8; 32], kind: u8, version: [u8; 16], name: &str, lifetime: u64, plain: &[u8]) -> Vec<u8> {
    let nonce = [7; 24];
    let aad = beside(kind, version, name, lifetime);
    let sealed = XChaCha20Poly1305::new(key.into()).encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad });
    [&[1][..], &lifetime.to_be_bytes(), &nonce, &sealed.unwrap()].concat()
}

fn beside(kind: u8, version: [u8; 16], name: &str, lifetime: u64) -> Vec<u8> {
    [&[1, kind][..], &version, &lifetime.to_be_bytes(), name.as_bytes()].concat()
}

impl Case {
    fn kind(&self) -> u8 {
        if self.is_note { 2 } else { 1 }
    }

    fn record(&self, name: &str) -> Vec<u8> {
        let key = &KEYS[usize::from(self.key) % 3];
        let kind = if self.other_kind { 3 - self.kind() } else { self.kind() };
        let version = if self.other_version { OTHER_VERSION } else { VERSION };
        let other = name.replace(|c: char| c.is_ascii_alphabetic(), "0");
        let name = if self.other_name { &other } else { name };
        let mut record = seal(key, kind, version, name, self.lifetime.into(), &self.plain.bytes());
        if let Some((at, bits)) = self.changed {
            let at = usize::from(at) % record.len();
            record[at] ^= bits;
        }
        record.truncate(record.len().saturating_sub(self.missing.into()));
        record
    }

    fn opens(&self) -> bool {
        let is_whole = self.missing == 0 && self.changed.is_none_or(|(_, bits)| bits == 0);
        let is_in_its_place = !self.other_kind && !self.other_version && !self.other_name;
        is_whole && is_in_its_place && self.key % 3 != 2 && self.left.is_some()
    }

    /// How long the record still lasts: never longer than it was sealed for.
    fn left(&self) -> u64 {
        self.left.map_or(0, |left| left.min(self.lifetime).into())
    }
}

/// What a fetch returns.
#[derive(Debug, PartialEq)]
enum Expected {
    /// A new token of the issuer.
    New,
    /// The token of the record.
    Taken(String),
    Failure(Failure),
    /// The age of the token is not known precisely enough, or the record has no content of this format.
    Unknown,
}

#[derive(Debug, PartialEq)]
struct Failure {
    kind: String,
    is_transient: bool,
    status: Option<u16>,
    code: Option<String>,
    message: String,
    hint: Option<String>,
    has_retry_after: bool,
}

fn expected(case: &Case) -> Expected {
    if !case.opens() {
        return Expected::New;
    }
    match &case.plain {
        Plain::Bytes(_) => Expected::Unknown,
        Plain::Repeated(_) => Expected::New,
        Plain::Token { lifetime, age, secret, .. } if !case.is_note => {
            if secret.is_empty() || !secret.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
                return Expected::New;
            }
            let lifetime = if *lifetime == 0 { 300_000 } else { u64::from(*lifetime).clamp(1_000, 86_400_000) };
            let usable = lifetime - (lifetime / 4).min(30_000);
            let age = u64::from(*age) + u64::from(case.lifetime) - case.left();
            if age.abs_diff(usable) < TOLERANCE || lifetime < 40_000 {
                return Expected::Unknown;
            }
            if age < usable { Expected::Taken(secret.clone()) } else { Expected::New }
        }
        Plain::Failure { transient, retry_after, status, kind, code, message, hint } if case.is_note => {
            let kind = KINDS[usize::from(*kind) % KINDS.len()];
            let in_code = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            let is_code = (1..=64).contains(&code.len()) && code.bytes().all(in_code);
            Expected::Failure(Failure {
                kind: if kind == "a_newer_kind" { "other" } else { kind }.to_owned(),
                is_transient: *transient,
                status: Some(*status).filter(|status| (100..1000).contains(status)),
                code: Some(code.clone()).filter(|_| is_code),
                message: message.clone(),
                hint: Some(hint.clone()).filter(|hint| !hint.is_empty()),
                has_retry_after: *retry_after,
            })
        }
        // The bytes of one kind may be those of the other one.
        _ => Expected::Unknown,
    }
}

/// Returns the record to the first claim, and the lease to the next one.
struct Store {
    case: Case,
    published: Arc<Mutex<Option<Published>>>,
}

/// The name, the version, the bytes and the life of a published token.
type Published = (String, [u8; 16], Vec<u8>, Duration);

impl TokenStore for Store {
    async fn claim(&self, name: &str, _: &[u8; 16], _: Duration, seen: Option<[u8; 16]>) -> Result<Claim, StoreError> {
        if seen.is_some() {
            return Ok(Claim::Lease);
        }
        let left = self.case.left.map_or(Duration::MAX, |left| Duration::from_millis(left.into()));
        let stored = Stored { version: VERSION, bytes: self.case.record(name), left };
        Ok(if self.case.is_note { Claim::Note(stored) } else { Claim::Token(stored) })
    }

    async fn publish(&self, name: &str, _: &[u8; 16], outcome: Outcome<'_>) -> Result<bool, StoreError> {
        let Outcome::Token { version, bytes, keep } = outcome else {
            panic!("{outcome:?} was published");
        };
        *self.published.lock() = Some((name.to_owned(), version, bytes.to_vec(), keep));
        Ok(true)
    }
}

pub fn check(case: &Case) {
    let published = Arc::default();
    let store = Store { case: case.clone(), published: Arc::clone(&published) };
    let provider = from_fn(|| async { Ok(IssuedToken::bearer("new")?.expires_in(Duration::from_secs(1800))) })
        .identified_by(Identity::new("https://issuer.example").credential("secret"));
    let [seals, opens] = [0, 1].map(|at| SealingKey::new(KEYS[at]).unwrap());
    let shared = Shared::builder(provider, store).sealing_key(seals).also_accept(opens).build().unwrap();
    let result = run(shared.fetch(&(), &FetchContext::default()));
    let published = published.lock().take();
    let outcome = match &result {
        Ok(token) if published.is_some() => {
            assert_eq!(token.expose_secret(), "new");
            Expected::New
        }
        Ok(token) => Expected::Taken(token.expose_secret().to_owned()),
        Err(error) => Expected::Failure(Failure {
            kind: error.kind().as_str().to_owned(),
            is_transient: error.is_transient(),
            status: error.status().map(|status| status.as_u16()),
            code: error.code().map(str::to_owned),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
            has_retry_after: error.retry_after().is_some(),
        }),
    };
    if let Err(error) = &result {
        assert!(error.retry_after().unwrap_or_default() <= Duration::from_millis(case.left()));
    }
    let expected = expected(case);
    if expected != Expected::Unknown {
        assert_eq!(outcome, expected);
    }
    if let Some((name, version, bytes, keep)) = published {
        check_published(&name, version, &bytes, keep);
    }
}

/// Opens what was published with the format of records.
fn check_published(name: &str, version: [u8; 16], bytes: &[u8], keep: Duration) {
    assert_eq!(bytes[0], 1);
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let lifetime = number(&bytes[1..9]);
    assert_eq!(u128::from(lifetime), keep.as_millis());
    let nonce = XNonce::from(<[u8; 24]>::try_from(&bytes[9..33]).unwrap());
    let aad = beside(1, version, name, lifetime);
    let cipher = XChaCha20Poly1305::new((&KEYS[0]).into());
    let plain = cipher.decrypt(&nonce, Payload { msg: &bytes[33..], aad: &aad }).unwrap();
    let (total, age) = (number(&plain[..8]), number(&plain[8..16]));
    assert_eq!(total, 1_800_000);
    assert!(age < TOLERANCE && lifetime.abs_diff(total - age) <= 1, "age {age}, lifetime {lifetime}");
    assert_eq!((plain[16], &plain[17..]), (7, &b"Bearer new"[..]));
}
