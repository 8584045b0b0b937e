//! Tokens: JWTs with HS256, as in the samples of Aeropay, with a key that is generated at start.

use std::{collections::HashMap, io, time::Duration};

use http::{HeaderMap, HeaderName};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{record::Verdict, time};

/// The claims of the samples of Aeropay.
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

/// The identity of a token.
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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    offset: Duration,
    issued: HashMap<String, Issued>,
}

struct Issued {
    actor: Actor,
    revoked: bool,
}

/// The result of a token check.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// The `jti` and the identity, if this sandbox minted the token.
    pub(super) token: Option<(String, Actor)>,
}

impl Tokens {
    pub(super) fn new(merchant: u64) -> Self {
        let key: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        Self {
            signing: EncodingKey::from_secret(&key),
            checking: DecodingKey::from_secret(&key),
            merchant,
            state: Mutex::default(),
        }
    }

    pub(super) fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.offset = state.offset.saturating_add(by);
    }

    /// Mints a token and returns it with its `jti`. The token does not expire before `lifetime` has passed.
    pub(super) fn mint(&self, actor: Actor, lifetime: Duration) -> io::Result<(String, String)> {
        let mut state = self.state.lock();
        let jti = format!("{:032x}", fastrand::u128(..));
        let until = state.now().saturating_add(lifetime);
        let claims = Claims {
            auth: "1".to_owned(),
            sub: actor.scope().to_ascii_lowercase(),
            jti: jti.clone(),
            exp: until.as_secs().saturating_add(u64::from(until.subsec_nanos() > 0)),
            username: actor.user().unwrap_or("merchant").to_owned(),
            metadata: Metadata { merchant_id: self.merchant },
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing);
        state.issued.insert(jti.clone(), Issued { actor, revoked: false });
        Ok((text.map_err(io::Error::other)?, jti))
    }

    /// Revokes the tokens that `which` selects, and returns their number.
    pub(super) fn revoke(&self, which: impl Fn(&str, &Actor) -> bool) -> usize {
        let mut state = self.state.lock();
        let revoked = state.issued.iter_mut().filter(|(jti, issued)| which(jti, &issued.actor));
        revoked.map(|(_, issued)| issued.revoked = true).count()
    }

    pub(super) fn judge(&self, headers: &HeaderMap, name: &HeaderName) -> Judged {
        let unknown = |verdict| Judged { verdict, token: None };
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return unknown(Verdict::Missing);
        };
        if values.next().is_some() {
            return unknown(Verdict::Duplicate);
        }
        let Some(token) = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) else {
            return unknown(Verdict::Malformed);
        };
        let mut rules = Validation::new(Algorithm::HS256);
        // The sandbox checks the expiry with its own clock, which tests can move.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        let Ok(read) = jsonwebtoken::decode::<Claims>(token, &self.checking, &rules) else {
            return unknown(Verdict::BadSignature);
        };
        let state = self.state.lock();
        let Some(issued) = state.issued.get(&read.claims.jti) else {
            return unknown(Verdict::BadSignature);
        };
        let verdict = if state.now().as_secs() >= read.claims.exp {
            Verdict::Expired
        } else if issued.revoked {
            Verdict::Revoked
        } else {
            Verdict::Accepted
        };
        Judged { verdict, token: Some((read.claims.jti, issued.actor.clone())) }
    }
}

impl State {
    fn now(&self) -> Duration {
        time::since_epoch().saturating_add(self.offset)
    }
}
