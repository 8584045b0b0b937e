//! The tokens that an issuer minted, and whether the API accepts them.

use std::{
    collections::HashMap,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::Mutex;

use super::{
    jwt::{Claims, InvalidToken, Signer},
    record::{MintedToken, Verdict},
    time,
};

pub(crate) struct Ledger {
    subject: String,
    signer: Signer,
    minting: Minting,
    state: Mutex<State>,
}

/// What an issuer does with the tokens that it has minted before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Minting {
    /// Each new token revokes all older ones.
    pub(crate) single: bool,
    /// The issuer returns the last token again until it expires, even if it is revoked.
    pub(crate) repeat: bool,
}

struct State {
    offset: Duration,
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
            state: Mutex::new(State { offset: Duration::ZERO, issued: Vec::new(), by_jti: HashMap::new() }),
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.offset = state.offset.saturating_add(by);
    }

    pub(crate) fn mint(&self, lifetime: Duration) -> io::Result<Minted> {
        let mut state = self.state.lock();
        let now = state.now();
        if self.minting.repeat
            && let Some(last) = state.issued.last().filter(|last| now.as_secs() < last.exp)
        {
            return Ok(Minted { jti: last.jti.clone(), text: last.text.clone(), expires_in: last.exp - now.as_secs() });
        }
        // Claims are whole seconds. Both values are rounded up, so that no token expires before `expires_in` seconds have
        // passed.
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
            state.revoke_all();
        }
        let index = state.issued.len();
        state.by_jti.insert(jti.clone(), index);
        state.issued.push(Issued { jti: jti.clone(), text: text.clone(), iat: now.as_secs(), exp, revoked: false });
        Ok(Minted { jti, text, expires_in })
    }

    pub(crate) fn revoke_all(&self) {
        self.state.lock().revoke_all();
    }

    pub(crate) fn revoke(&self, jti: &str) -> bool {
        let mut state = self.state.lock();
        let Some(&index) = state.by_jti.get(jti) else {
            return false;
        };
        state.issued[index].revoked = true;
        true
    }

    pub(crate) fn tokens(&self) -> Vec<MintedToken> {
        let state = self.state.lock();
        let now = state.now().as_secs();
        let tokens = state.issued.iter().map(|token| MintedToken {
            jti: token.jti.clone(),
            issued_at: instant(token.iat),
            expires_at: instant(token.exp),
            revoked: token.revoked,
            expired: token.exp <= now,
        });
        tokens.collect()
    }

    /// Checks the `Authorization` header, and returns the `jti` if this issuer minted the token.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> (Verdict, Option<String>) {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return (Verdict::Missing, None);
        };
        if values.next().is_some() {
            return (Verdict::Duplicate, None);
        }
        // RFC 9110 section 11.1 allows any case for the scheme. Some real servers accept only this one.
        let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer "));
        let Some(token) = token else {
            return (Verdict::Malformed, None);
        };
        let claims = match self.signer.read(token) {
            Ok(claims) => claims,
            Err(InvalidToken::Malformed) => return (Verdict::Malformed, None),
            Err(InvalidToken::BadSignature) => return (Verdict::BadSignature, None),
        };
        let state = self.state.lock();
        let Some(issued) = state.by_jti.get(&claims.jti).map(|index| &state.issued[*index]) else {
            return (Verdict::BadSignature, None);
        };
        // A token is not accepted on or after `exp` (RFC 7519 section 4.1.4).
        let verdict = if state.now().as_secs() >= claims.exp {
            Verdict::Expired
        } else if issued.revoked {
            Verdict::Revoked
        } else {
            Verdict::Accepted
        };
        (verdict, Some(claims.jti))
    }
}

impl State {
    fn now(&self) -> Duration {
        time::since_epoch().saturating_add(self.offset)
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
