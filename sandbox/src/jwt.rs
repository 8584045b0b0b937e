//! Signs and verifies tokens: ES256, with a key that is generated at start.

use std::io;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) jti: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
}

pub(crate) struct Signer {
    header: Header,
    signing: EncodingKey,
    checking: DecodingKey,
    rules: Validation,
}

/// Why a text is not a token of this signer.
pub(crate) enum InvalidToken {
    /// It does not have the three parts of a signed JWT.
    Malformed,
    /// The signature is wrong: another key, another algorithm, `alg: none`, or changed content.
    BadSignature,
}

impl Signer {
    pub(crate) fn new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k1".to_owned());
        let mut rules = Validation::new(Algorithm::ES256);
        // The sandbox checks the expiry with its own clock, which tests can move.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        Ok(Self {
            header,
            signing: EncodingKey::from_ec_der(&key.serialize_der()),
            checking: DecodingKey::from_ec_der(key.public_key_raw()),
            rules,
        })
    }

    pub(crate) fn sign(&self, claims: &Claims) -> io::Result<String> {
        jsonwebtoken::encode(&self.header, claims, &self.signing).map_err(io::Error::other)
    }

    pub(crate) fn read(&self, token: &str) -> Result<Claims, InvalidToken> {
        if token.split('.').count() != 3 {
            return Err(InvalidToken::Malformed);
        }
        jsonwebtoken::decode(token, &self.checking, &self.rules)
            .map(|read| read.claims)
            .map_err(|_| InvalidToken::BadSignature)
    }
}
