//! Tokens: JWTs with HS256, as Aeropay's samples are, by a key made at start.

use std::{collections::HashMap, io, time::Duration};

use http::{HeaderMap, HeaderName};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{record::Verdict, time};

/// The claims of Aeropay's samples.
#[derive(Serialize, Deserialize)]
struct Claims {
    auth: String,
    sub: String,
    jti: String,
    exp: u64,
    username: String,
    metadata: Metadata,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    merchant_id: u64,
}

/// As whom a token lets act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Merchant,
    User(String),
}

impl Actor {
    pub(super) fn scope(&self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::User(_) => "userForMerchant",
        }
    }

    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Merchant => None,
            Self::User(id) => Some(id),
        }
    }
}

pub(super) struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    merchant: u64,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    ahead: Duration,
    issued: HashMap<String, Issued>,
}

struct Issued {
    actor: Actor,
    revoked: bool,
}

/// A token that has been judged.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Where the token is one of ours.
    pub(super) token: Option<(String, Actor)>,
}

impl Tokens {
    pub(super) fn new(merchant: u64) -> Self {
        let key: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        Self {
            signing: EncodingKey::from_secret(&key),
            checking: DecodingKey::from_secret(&key),
            merchant,
            book: Mutex::default(),
        }
    }

    pub(super) fn advance(&self, by: Duration) {
        let mut book = self.book.lock();
        book.ahead = book.ahead.saturating_add(by);
    }

    /// A new token and its name. It does not end before `lifetime` has passed.
    pub(super) fn mint(&self, actor: Actor, lifetime: Duration) -> io::Result<(String, String)> {
        let mut book = self.book.lock();
        let jti = format!("{:032x}", fastrand::u128(..));
        let until = book.now().saturating_add(lifetime);
        let claims = Claims {
            auth: "1".to_owned(),
            sub: actor.scope().to_ascii_lowercase(),
            jti: jti.clone(),
            exp: until.as_secs().saturating_add(u64::from(until.subsec_nanos() > 0)),
            username: actor.user().unwrap_or("merchant").to_owned(),
            metadata: Metadata { merchant_id: self.merchant },
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing);
        book.issued.insert(jti.clone(), Issued { actor, revoked: false });
        Ok((text.map_err(io::Error::other)?, jti))
    }

    /// Refuses every token of these, from now on.
    pub(super) fn revoke(&self, which: impl Fn(&str, &Actor) -> bool) -> usize {
        let mut book = self.book.lock();
        let revoked = book.issued.iter_mut().filter(|(jti, issued)| which(jti, &issued.actor));
        revoked.map(|(_, issued)| issued.revoked = true).count()
    }

    pub(super) fn judge(&self, headers: &HeaderMap, name: &HeaderName) -> Judged {
        let bare = |verdict| Judged { verdict, token: None };
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return bare(Verdict::Missing);
        };
        if values.next().is_some() {
            return bare(Verdict::Duplicate);
        }
        let Some(token) = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) else {
            return bare(Verdict::Malformed);
        };
        let mut rules = Validation::new(Algorithm::HS256);
        // Expiry is judged by the sandbox's own clock, which tests move.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        let Ok(read) = jsonwebtoken::decode::<Claims>(token, &self.checking, &rules) else {
            return bare(Verdict::BadSignature);
        };
        let book = self.book.lock();
        let Some(issued) = book.issued.get(&read.claims.jti) else {
            return bare(Verdict::BadSignature);
        };
        let verdict = if book.now().as_secs() >= read.claims.exp {
            Verdict::Expired
        } else if issued.revoked {
            Verdict::Revoked
        } else {
            Verdict::Accepted
        };
        Judged { verdict, token: Some((read.claims.jti, issued.actor.clone())) }
    }
}

impl Book {
    fn now(&self) -> Duration {
        time::since_epoch().saturating_add(self.ahead)
    }
}
