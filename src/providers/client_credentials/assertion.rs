//! `private_key_jwt`: client authentication with a signed assertion (RFC 7521 section 4.2, RFC 7523 sections 2.2 and
//! 3).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::certificate::Hash;
use crate::clock::{Clock, SystemClock};
use crate::error::{ConfigError, Error};
use crate::providers::check;
use crate::providers::names::named;
use crate::providers::secret::Secret;
use crate::providers::secret_value::SecretValue;

const LIFETIME: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(3600);

/// How far `iat` is in the past. An issuer with a slow clock rejects an assertion from the future.
const BACKDATED_BY: Duration = Duration::from_secs(10);

/// The signature algorithm of a [`PrivateKeyJwt`] (RFC 7518 section 3.1, RFC 8037 section 3.1).
///
/// The names in configuration files are `RS256`, `PS256`, `ES256` and `EdDSA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, with an RSA key of at least 2048 bits.
    Rs256,
    /// RSASSA-PSS with SHA-256, with an RSA key of at least 2048 bits.
    Ps256,
    /// ECDSA with SHA-256, with a key on the curve P-256.
    Es256,
    /// EdDSA with an Ed25519 key.
    EdDsa,
}

named!(SigningAlgorithm, "algorithm": Rs256 = "RS256", Ps256 = "PS256", Es256 = "ES256", EdDsa = "EdDSA");

/// Client authentication with a JWT that the client signs (`private_key_jwt`, RFC 7523 section 2.2). The private key
/// stays with the client. The issuer has the public key.
///
/// Each token request carries its own assertion:
///
/// | claim | value |
/// | --- | --- |
/// | `iss`, `sub` | the client id |
/// | `aud` | the token URL, or [`audience`](Self::audience) |
/// | `jti` | unique for each assertion: an issuer may reject a `jti` that it has already received (RFC 7523 section 3) |
/// | `iat` | 10 seconds before now, so that an issuer with a slow clock accepts the assertion |
/// | `exp` | `iat` and [`lifetime`](Self::lifetime), 60 seconds by default |
///
/// # The key
///
/// The key is PEM and is not encrypted: PKCS#8 (`BEGIN PRIVATE KEY`) for all algorithms, or PKCS#1 (`BEGIN RSA PRIVATE
/// KEY`) for RSA. Convert an EC key in SEC1 form (`BEGIN EC PRIVATE KEY`) with `openssl pkcs8 -topk8 -nocrypt`. The key
/// is loaded for each assertion, so a [`Secret`] can change while the program runs. The signing library makes copies of
/// the key that are not wiped from memory.
///
/// ```no_run
/// use tower_bearer_auth::{ClientCredentials, PrivateKeyJwt, Secret, SigningAlgorithm};
///
/// # fn main() -> Result<(), tower_bearer_auth::Error> {
/// let key = Secret::from_file("/run/secrets/orders.pem")?;
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
/// `Debug` prints the algorithm, the key id, and whether the key and the certificate are a value, a function or a file.
#[derive(Clone)]
#[must_use]
pub struct PrivateKeyJwt {
    algorithm: SigningAlgorithm,
    key: Secret,
    key_id: Option<String>,
    sha1_certificate: Option<Secret>,
    sha256_certificate: Option<Secret>,
    audience: Option<String>,
    /// The default audience.
    token_url: String,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
}

impl PrivateKeyJwt {
    /// Signs with this key, which is PEM.
    pub fn new(algorithm: SigningAlgorithm, key: impl Into<Secret>) -> Self {
        Self {
            algorithm,
            key: key.into(),
            key_id: None,
            sha1_certificate: None,
            sha256_certificate: None,
            audience: None,
            token_url: String::new(),
            lifetime: LIFETIME,
            clock: Arc::new(SystemClock),
        }
    }

    /// The same settings with another key. The key id and the certificate belong to the old key, so they are removed.
    pub(super) fn with_key(self, algorithm: SigningAlgorithm, key: Secret) -> Self {
        Self { algorithm, key, key_id: None, sha1_certificate: None, sha256_certificate: None, ..self }
    }

    /// Sets the key id in the assertion's header (`kid`, RFC 7515 section 4.1.4). Issuers with several keys for a
    /// client need it.
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.key_id = Some(id.into());
        self
    }

    /// Sets the certificate of the key, in PEM form. Its SHA-256 thumbprint is in the assertion's header (`x5t#S256`, RFC 7515
    /// section 4.1.8), and the certificate is not sent. Microsoft Entra ID finds the public key by it.
    ///
    /// If there are several certificates in the text, the first one counts. A private key in it is ignored, so one
    /// [`Secret`] can hold both: pass a clone of the key's. The certificate is loaded for each assertion, like the key.
    ///
    /// ```no_run
    /// use tower_bearer_auth::{PrivateKeyJwt, Secret, SigningAlgorithm};
    ///
    /// # fn main() -> Result<(), tower_bearer_auth::Error> {
    /// let pem = Secret::from_file("/run/secrets/orders-key-and-certificate.pem")?;
    /// let signer = PrivateKeyJwt::new(SigningAlgorithm::Ps256, pem.clone()).certificate(pem);
    /// # drop(signer);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "x5t#S256")]
    pub fn certificate(mut self, pem: impl Into<Secret>) -> Self {
        self.sha256_certificate = Some(pem.into());
        self
    }

    /// As [`certificate`](Self::certificate), with the SHA-1 thumbprint (`x5t`, RFC 7515 section 4.1.7), for an issuer that does
    /// not know `x5t#S256`. If both are set, the header has both.
    #[doc(alias = "x5t")]
    pub fn certificate_sha1(mut self, pem: impl Into<Secret>) -> Self {
        self.sha1_certificate = Some(pem.into());
        self
    }

    /// Sets the audience of the assertion (`aud`). The default is the token URL, as RFC 7523 section 3 suggests. Its
    /// successor (`draft-ietf-oauth-rfc7523bis`) and many issuers require the issuer's identifier instead.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the time from `iat` to `exp`, in whole seconds: 15 seconds to 1 hour. The default is 60 seconds. 10 seconds
    /// of it have passed when the assertion is sent. Many issuers reject more than a few minutes.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the clock for `iat` and `exp`. The default is the clock of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks the settings. A key from a function is not known before it is loaded.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(id) = &self.key_id {
            check::text("key_id", id)?;
        }
        if let Some(audience) = &self.audience {
            check::text("audience", audience)?;
        }
        for (hash, certificate) in self.certificates() {
            hash.check(certificate)?;
        }
        if !(SHORTEST..=LONGEST).contains(&self.lifetime) {
            return Err(ConfigError::new("lifetime", "it is out of range").with_hint("set 15 seconds to 1 hour"));
        }
        match self.key.peek() {
            // Only a signature shows that the key matches the algorithm.
            Some(key) => self.algorithm.sign(&Header::new(self.algorithm.jose()), &(), &key).map(drop),
            None => Ok(()),
        }
    }

    #[cfg(feature = "shared")]
    pub(super) fn key(&self) -> &Secret {
        &self.key
    }

    /// The settings that decide whether an issuer accepts the assertions, besides the key. Always the same names, so that no
    /// parameter of the token request can take the place of one.
    #[cfg(feature = "shared")]
    pub(super) async fn identity_fields(&self) -> Result<Vec<(String, String)>, Error> {
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut fields = vec![
            text("alg", self.algorithm.as_str()),
            text("kid", self.key_id.as_deref().unwrap_or_default()),
            text("aud", self.aud()),
            text("lifetime", &self.lifetime.as_secs().to_string()),
        ];
        for (name, hash, certificate) in
            [("x5t", Hash::Sha1, &self.sha1_certificate), ("x5t#S256", Hash::Sha256, &self.sha256_certificate)]
        {
            let thumbprint = match certificate {
                Some(certificate) => hash.of(certificate).await?,
                None => String::new(),
            };
            fields.push((name.to_owned(), thumbprint));
        }
        Ok(fields)
    }

    fn aud(&self) -> &str {
        self.audience.as_deref().unwrap_or(&self.token_url)
    }

    fn certificates(&self) -> impl Iterator<Item = (Hash, &Secret)> {
        let sha1 = self.sha1_certificate.iter().map(|pem| (Hash::Sha1, pem));
        sha1.chain(self.sha256_certificate.iter().map(|pem| (Hash::Sha256, pem)))
    }

    /// Why a file could not be read for the latest assertion.
    pub(super) fn file_error(&self) -> Option<ConfigError> {
        let certificates = self.certificates().map(|(_, pem)| pem);
        std::iter::once(&self.key).chain(certificates).find_map(Secret::last_error)
    }

    /// Sets the default audience: the token URL exactly as it was set.
    pub(super) fn addressed_to(mut self, token_url: &str) -> Self {
        token_url.clone_into(&mut self.token_url);
        self
    }

    /// A new assertion for one token request.
    pub(super) async fn assertion(&self, client_id: &str) -> Result<SecretValue, Error> {
        let key = self.key.load().await?;
        let mut header = Header::new(self.algorithm.jose());
        header.kid.clone_from(&self.key_id);
        for (hash, certificate) in self.certificates() {
            let thumbprint = Some(hash.of(certificate).await?);
            match hash {
                Hash::Sha1 => header.x5t = thumbprint,
                Hash::Sha256 => header.x5t_s256 = thumbprint,
            }
        }
        let now = self.clock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let issued = now.saturating_sub(BACKDATED_BY).as_secs();
        let claims = Claims {
            iss: client_id,
            sub: client_id,
            aud: self.aud(),
            jti: unique_id(now),
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

/// The count distinguishes the assertions of this process, and the random part distinguishes processes. The time
/// distinguishes virtual machines that were restored from one snapshot: they continue with the same count and the same
/// random state.
fn unique_id(now: Duration) -> String {
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

    /// The library's errors may quote the key, so none of them becomes a source.
    fn sign(self, header: &Header, claims: &impl Serialize, pem: &SecretValue) -> Result<SecretValue, ConfigError> {
        let pem = pem.expose_secret();
        let key = match self {
            Self::Rs256 | Self::Ps256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Self::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Self::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        let key = key.map_err(|_| unusable(pem, self.required_key()))?;
        let assertion = jsonwebtoken::encode(header, claims, &key).map_err(|_| unusable(pem, self.required_key()))?;
        Ok(SecretValue::from(assertion))
    }

    fn required_key(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256 needs an RSA key of at least 2048 bits, in PKCS#8 or PKCS#1 form",
            Self::Ps256 => "PS256 needs an RSA key of at least 2048 bits, in PKCS#8 or PKCS#1 form",
            Self::Es256 => "ES256 needs a key on the curve P-256, in PKCS#8 form",
            Self::EdDsa => "EdDSA needs an Ed25519 key, in PKCS#8 form",
        }
    }
}

/// Explains why the key cannot be used. Only its PEM label is examined.
fn unusable(pem: &str, required: &'static str) -> ConfigError {
    let (reason, hint) = if pem.contains("-----BEGIN EC PRIVATE KEY-----") {
        ("it is in SEC1 form", "convert it to PKCS#8: openssl pkcs8 -topk8 -nocrypt -in old.pem -out new.pem")
    } else if pem.contains("ENCRYPTED") {
        ("it is encrypted", "decrypt it and protect the file instead: openssl pkcs8 -in old.pem -out new.pem")
    } else if pem.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        ("it is in OpenSSH form", "convert it to PKCS#8: ssh-keygen -p -m PKCS8 -f key")
    } else if pem.contains("-----BEGIN PUBLIC KEY-----") || pem.contains("-----BEGIN CERTIFICATE-----") {
        ("it is a public key", "set the private key; the issuer has the public key")
    } else if pem.contains("PRIVATE KEY-----") && pem.trim().lines().count() > 2 {
        ("it does not match the algorithm, or it is damaged", required)
    } else {
        ("it is not PEM", "set the text that begins with -----BEGIN PRIVATE KEY-----, including its line breaks")
    };
    ConfigError::new("private_key", reason).with_hint(hint)
}

impl fmt::Debug for PrivateKeyJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeyJwt")
            .field("algorithm", &self.algorithm)
            .field("key", &self.key)
            .field("key_id", &self.key_id)
            .field("certificate", &self.sha256_certificate)
            .field("certificate_sha1", &self.sha1_certificate)
            .field("audience", &self.audience.as_deref().and_then(|audience| audience.split('?').next()))
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
