//! `private_key_jwt`: a client that proves itself by a signature (RFC 7521 section 4.2, RFC 7523 sections 2.2 and 3).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::clock::{Clock, SystemClock};
use crate::error::{ConfigError, Error};
use crate::providers::Secret;
use crate::providers::check;

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const LIFETIME: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(3600);

/// How far an assertion is dated back: an issuer whose clock is behind refuses one that comes out of the future.
const DATED_BACK: Duration = Duration::from_secs(10);

/// The algorithm that a [`PrivateKeyJwt`] is signed with (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256; an RSA key of 2 048 bits and more.
    Rs256,
    /// RSASSA-PSS with SHA-256; an RSA key of 2 048 bits and more.
    Ps256,
    /// ECDSA with SHA-256; a key on the curve P-256.
    Es256,
    /// EdDSA; an Ed25519 key.
    EdDsa,
}

/// Proves a client by a JWT that it signs (`private_key_jwt`; RFC 7523 section 2.2). The key stays here, and the issuer
/// knows its public half.
///
/// Each token request carries an assertion of its own, with a `jti` that was never used before: issuers refuse one that they
/// have seen (RFC 7523 section 3). `iss` and `sub` are the client's id, `aud` is the token URL unless
/// [`audience`](Self::audience) says otherwise, and the assertion may be used for [`lifetime`](Self::lifetime), 60 seconds
/// by default. It is dated 10 seconds back, so that an issuer whose clock is behind by so much does not find it to come
/// out of the future; one whose clock is ahead has what is left of its lifetime.
///
/// The key is PEM, read anew for each assertion, so that a [`Secret`] that rotates is followed: PKCS#8 (`BEGIN PRIVATE
/// KEY`) for each algorithm, and PKCS#1 (`BEGIN RSA PRIVATE KEY`) for RSA. It is not encrypted. An EC key in SEC1's form
/// (`BEGIN EC PRIVATE KEY`) becomes PKCS#8 by `openssl pkcs8 -topk8 -nocrypt`. The copies that the signing library makes of
/// it are not wiped.
///
/// ```no_run
/// use tower_bearer_auth::{ClientCredentials, PrivateKeyJwt, Secret, SigningAlgorithm};
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let key = Secret::file("/run/secrets/orders.pem")?;
/// let provider = ClientCredentials::builder()
///     .client_id("orders")
///     .private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, key).key_id("2026-11"))
///     .token_url("https://issuer.example/oauth/token")
///     .api_origin("https://api.example")
///     .build()?;
/// # drop(provider);
/// # Ok(()) }
/// ```
///
/// `Debug` shows the algorithm, the key's id, and where the key comes from.
#[derive(Clone)]
#[must_use]
pub struct PrivateKeyJwt {
    algorithm: SigningAlgorithm,
    key: Secret,
    key_id: Option<String>,
    audience: Option<String>,
    /// Whom it is for where nobody else is named.
    token_url: String,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
}

impl PrivateKeyJwt {
    /// Signs with this key, PEM.
    pub fn new(algorithm: SigningAlgorithm, key: impl Into<Secret>) -> Self {
        Self {
            algorithm,
            key: key.into(),
            key_id: None,
            audience: None,
            token_url: String::new(),
            lifetime: LIFETIME,
            clock: Arc::new(SystemClock),
        }
    }

    /// The same with another key, which has a name of its own or none.
    pub(super) fn with_key(self, algorithm: SigningAlgorithm, key: Secret) -> Self {
        Self { algorithm, key, key_id: None, ..self }
    }

    /// Names the key in the assertion's header (`kid`, RFC 7515 section 4.1.4), for issuers that know several.
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Sets whom the assertion is for (`aud`). By default the token URL, as RFC 7523 section 3 suggests; its successor
    /// (`draft-ietf-oauth-rfc7523bis`) and many issuers want the issuer's identifier instead.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the time from `iat` to `exp`, in whole seconds: 15 seconds to 1 hour, 60 seconds by default. Ten of them have
    /// passed when the assertion is sent. Many issuers refuse more than a few minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets where the time of day comes from. By default the operating system's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Looks at everything that is known already; a key that comes out of a function is not.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(id) = &self.key_id {
            check::text("key_id", id)?;
        }
        if let Some(audience) = &self.audience {
            check::text("audience", audience)?;
        }
        if !(SHORTEST..=LONGEST).contains(&self.lifetime) {
            return Err(ConfigError::new("lifetime", "an assertion lives for 15 seconds to 1 hour"));
        }
        match self.key.known() {
            // A signature is the one thing that shows that the key goes with the algorithm.
            Some(key) => self.algorithm.sign(&Header::new(self.algorithm.jose()), &(), &key).map(drop),
            None => Ok(()),
        }
    }

    /// Says what the token URL is, as it was set, character by character.
    pub(super) fn addressed_to(mut self, token_url: &str) -> Self {
        token_url.clone_into(&mut self.token_url);
        self
    }

    /// A new assertion, for one attempt.
    pub(super) async fn assertion(&self, client_id: &str) -> Result<SecretString, Error> {
        let key = self.key.load().await?;
        let now = self.clock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let issued = now.saturating_sub(DATED_BACK).as_secs();
        let mut header = Header::new(self.algorithm.jose());
        header.kid.clone_from(&self.key_id);
        let claims = Claims {
            iss: client_id,
            sub: client_id,
            aud: self.audience.as_deref().unwrap_or(&self.token_url),
            jti: never_used(now),
            iat: issued,
            exp: issued.saturating_add(self.lifetime.as_secs()),
        };
        self.algorithm.sign(&header, &claims, &key).map_err(Into::into)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// The count tells the attempts of this process apart, chance those of others, and the time those of its copies: a machine
/// that is restored twice from one image goes on with the same count and the same chance.
fn never_used(now: Duration) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{count:x}-{:032x}", now.as_nanos(), fastrand::u128(..))
}

impl SigningAlgorithm {
    fn jose(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Ps256 => Algorithm::PS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }

    /// The library's errors are not kept as a source: what it stumbles over is the key.
    fn sign(self, header: &Header, claims: &impl Serialize, pem: &SecretString) -> Result<SecretString, ConfigError> {
        let pem = pem.expose_secret();
        let key = match self {
            Self::Rs256 | Self::Ps256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Self::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Self::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        let key = key.map_err(|_| unusable(pem, self.wants()))?;
        let assertion = jsonwebtoken::encode(header, claims, &key).map_err(|_| unusable(pem, self.wants()))?;
        Ok(SecretString::from(assertion))
    }

    fn wants(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256 needs an RSA key of 2048 bits or more, as PKCS#8 or PKCS#1",
            Self::Ps256 => "PS256 needs an RSA key of 2048 bits or more, as PKCS#8 or PKCS#1",
            Self::Es256 => "ES256 needs a key on the curve P-256, as PKCS#8",
            Self::EdDsa => "EdDSA needs an Ed25519 key, as PKCS#8",
        }
    }
}

/// Says what is wrong by the first line alone, which names the form of the key.
fn unusable(pem: &str, wants: &'static str) -> ConfigError {
    let (why, hint) = if pem.contains("-----BEGIN EC PRIVATE KEY-----") {
        ("it is in SEC1's form", "write it as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in old.pem -out new.pem")
    } else if pem.contains("ENCRYPTED") {
        ("it is encrypted", "decrypt it: openssl pkcs8 -in old.pem -out new.pem, and guard the file instead")
    } else if pem.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        ("it is in OpenSSH's form", "write it as PKCS#8: ssh-keygen -p -m PKCS8 -f key")
    } else if pem.contains("-----BEGIN PUBLIC KEY-----") || pem.contains("-----BEGIN CERTIFICATE-----") {
        ("it is a public half", "set the private key; the issuer gets the public one")
    } else if pem.contains("PRIVATE KEY-----") && pem.trim().lines().count() > 2 {
        ("it does not go with the algorithm, or it is damaged", wants)
    } else {
        ("it is not PEM", "set the text that begins with -----BEGIN PRIVATE KEY-----, with its line breaks")
    };
    ConfigError::new("private_key", why).with_hint(hint)
}

impl fmt::Debug for PrivateKeyJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeyJwt")
            .field("algorithm", &self.algorithm)
            .field("key", &self.key)
            .field("key_id", &self.key_id)
            .field("audience", &self.audience.as_deref().and_then(|audience| audience.split('?').next()))
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
