//! Every token that an issuer minted, and what the API thinks of it now.

use std::{
    collections::HashMap,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::Mutex;

use super::{
    jwt::{Claims, NotOurs, Signer},
    record::{MintedToken, Verdict},
    time,
};

pub(crate) struct Ledger {
    subject: String,
    signer: Signer,
    minting: Minting,
    book: Mutex<Book>,
}

/// How an issuer treats the tokens it has already given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Minting {
    /// Each mint revokes all that came before.
    pub(crate) single: bool,
    /// The last token is given again until it expires, revoked or not.
    pub(crate) repeat: bool,
}

struct Book {
    ahead: Duration,
    issued: Vec<Issued>,
    by_jti: HashMap<String, usize>,
}

struct Issued {
    jti: String,
    text: String,
    iat: u64,
    exp: u64,
    revoked: bool,
}

pub(crate) struct Minted {
    pub(crate) jti: String,
    pub(crate) text: String,
    pub(crate) expires_in: u64,
}

impl Ledger {
    pub(crate) fn new(subject: String, minting: Minting) -> io::Result<Self> {
        Ok(Self {
            subject,
            signer: Signer::new()?,
            minting,
            book: Mutex::new(Book { ahead: Duration::ZERO, issued: Vec::new(), by_jti: HashMap::new() }),
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut book = self.book.lock();
        book.ahead = book.ahead.saturating_add(by);
    }

    pub(crate) fn mint(&self, lifetime: Duration) -> io::Result<Minted> {
        let mut book = self.book.lock();
        let now = book.now();
        if self.minting.repeat {
            if let Some(last) = book.issued.last().filter(|last| now.as_secs() < last.exp) {
                return Ok(Minted {
                    jti: last.jti.clone(),
                    text: last.text.clone(),
                    expires_in: last.exp - now.as_secs(),
                });
            }
        }
        // Claims count whole seconds: both are rounded up, so that no token dies before
        // `expires_in` seconds have passed.
        let (iat, expires_in) = (ceil(now), ceil(lifetime));
        let exp = iat.saturating_add(expires_in);
        let jti = format!("{:032x}", fastrand::u128(..));
        let text = self.signer.sign(&Claims {
            iss: "sandbox".to_owned(),
            sub: self.subject.clone(),
            jti: jti.clone(),
            iat: now.as_secs(),
            exp,
        })?;
        if self.minting.single {
            book.revoke_all();
        }
        let index = book.issued.len();
        book.by_jti.insert(jti.clone(), index);
        book.issued.push(Issued { jti: jti.clone(), text: text.clone(), iat: now.as_secs(), exp, revoked: false });
        Ok(Minted { jti, text, expires_in })
    }

    pub(crate) fn revoke_all(&self) {
        self.book.lock().revoke_all();
    }

    pub(crate) fn revoke(&self, jti: &str) -> bool {
        let mut book = self.book.lock();
        let Some(&index) = book.by_jti.get(jti) else {
            return false;
        };
        book.issued[index].revoked = true;
        true
    }

    pub(crate) fn tokens(&self) -> Vec<MintedToken> {
        let book = self.book.lock();
        let now = book.now().as_secs();
        let tokens = book.issued.iter().map(|token| MintedToken {
            jti: token.jti.clone(),
            issued_at: instant(token.iat),
            expires_at: instant(token.exp),
            revoked: token.revoked,
            expired: token.exp <= now,
        });
        tokens.collect()
    }

    /// Judges the `Authorization` of a request, and names the token if it is one of ours.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> (Verdict, Option<String>) {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return (Verdict::Missing, None);
        };
        if values.next().is_some() {
            return (Verdict::Duplicate, None);
        }
        // The scheme to the letter: real servers exist that know no other case (RFC 9110
        // section 11.1 would allow it).
        let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
        let Some(token) = token else {
            return (Verdict::Malformed, None);
        };
        let claims = match self.signer.read(token) {
            Ok(claims) => claims,
            Err(NotOurs::Malformed) => return (Verdict::Malformed, None),
            Err(NotOurs::Unsigned) => return (Verdict::BadSignature, None),
        };
        let book = self.book.lock();
        let Some(issued) = book.by_jti.get(&claims.jti).map(|index| &book.issued[*index]) else {
            return (Verdict::BadSignature, None);
        };
        // RFC 7519 section 4.1.4: not accepted on or after `exp`.
        let verdict = if book.now().as_secs() >= claims.exp {
            Verdict::Expired
        } else if issued.revoked {
            Verdict::Revoked
        } else {
            Verdict::Accepted
        };
        (verdict, Some(claims.jti))
    }
}

impl Book {
    fn now(&self) -> Duration {
        time::since_epoch().saturating_add(self.ahead)
    }

    fn revoke_all(&mut self) {
        for token in &mut self.issued {
            token.revoked = true;
        }
    }
}

fn ceil(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

fn instant(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}
