//! `private_key_jwt` (RFC 7523 sections 2.2 and 3), against an issuer that checks every claim and records every `jti`.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::Value;
use tower_bearer_auth::{
    ClientCredentials, ClientCredentialsBuilder, Clock, Error, ErrorKind, FetchContext, Now, PrivateKeyJwt, Secret,
    SigningAlgorithm, SystemClock, TokenProvider as _,
};

use super::wire::{Wire, http_response};
use crate::support::canary::shown_in;
use crate::support::rsa_key::{RsaKey, pem};
use crate::support::strict_issuer::{ReceivedRequest, StrictIssuer};

const ID: &str = "orders:eu";

static RSA: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::new(2048));

/// A clock of the client or of the issuer, in seconds since 1970.
#[derive(Clone)]
struct TestClock(Arc<AtomicI64>);

impl TestClock {
    fn at(seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(seconds)))
    }

    fn seconds(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds().unsigned_abs());
        Now { wall, ..SystemClock.now() }
    }
}

const NOON: i64 = 1_800_000_000;

/// The public key that the issuer has.
#[derive(Clone)]
struct Public {
    algorithm: Algorithm,
    key: DecodingKey,
    kid: Option<&'static str>,
}

/// RFC 7523 section 3, without any tolerance.
struct Rules {
    public: Public,
    audience: Mutex<String>,
    clock: TestClock,
    used: Mutex<HashSet<String>>,
}

impl Rules {
    fn new(public: Public) -> Arc<Self> {
        Arc::new(Self { public, audience: Mutex::default(), clock: TestClock::at(NOON), used: Mutex::default() })
    }

    async fn issuer(self: &Arc<Self>) -> StrictIssuer {
        let rules = Arc::clone(self);
        let issuer = StrictIssuer::start(move |seen| rules.accept(seen)).await;
        *self.audience.lock() = issuer.token_url();
        issuer
    }

    fn accept(&self, seen: &ReceivedRequest) -> bool {
        let fields: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
        let Some(assertion) = seen.one("client_assertion") else { return false };
        let Some(claims) = self.read(assertion) else { return false };
        let Value::Object(claims) = claims else { return false };
        let names: Vec<&str> = claims.keys().map(String::as_str).collect();
        let (iat, exp) = (claims["iat"].as_i64().unwrap_or(i64::MAX), claims["exp"].as_i64().unwrap_or(i64::MIN));
        let now = self.clock.seconds();
        seen.authorization.is_empty()
            && fields == ["grant_type", "client_id", "client_assertion_type", "client_assertion"]
            && seen.one("client_id") == Some(ID)
            && seen.one("client_assertion_type") == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            && names.iter().collect::<HashSet<_>>() == ["iss", "sub", "aud", "jti", "iat", "exp"].iter().collect()
            && claims["iss"] == ID
            && claims["sub"] == ID
            && claims["aud"] == *self.audience.lock().as_str()
            && iat <= now
            && now < exp
            && exp - iat == 60
            && claims["jti"].as_str().is_some_and(|jti| jti.len() >= 32 && self.used.lock().insert(jti.to_owned()))
    }

    fn read(&self, assertion: &str) -> Option<Value> {
        let header = jsonwebtoken::decode_header(assertion).ok()?;
        if header.alg != self.public.algorithm || header.kid.as_deref() != self.public.kid {
            return None;
        }
        let mut signature = Validation::new(self.public.algorithm);
        signature.validate_exp = false;
        signature.validate_aud = false;
        signature.required_spec_claims.clear();
        jsonwebtoken::decode(assertion, &self.public.key, &signature).ok().map(|read| read.claims)
    }
}

fn es256() -> (String, Public) {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let key = DecodingKey::from_ec_der(pair.public_key_raw());
    (pair.serialize_pem(), Public { algorithm: Algorithm::ES256, key, kid: None })
}

fn ed25519() -> (String, Public) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let key = DecodingKey::from_ed_der(pair.public_key_raw());
    (pair.serialize_pem(), Public { algorithm: Algorithm::EdDSA, key, kid: None })
}

fn rsa(algorithm: Algorithm) -> Public {
    Public { algorithm, key: DecodingKey::from_rsa_raw_components(&RSA.n, &RSA.e), kid: None }
}

fn base(url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id(ID).token_url(url).api_origin("https://api.test")
}

fn client(url: &str, signer: PrivateKeyJwt) -> ClientCredentials {
    base(url).private_key_jwt(signer).build().unwrap()
}

fn at_noon(algorithm: SigningAlgorithm, key: impl Into<Secret>) -> PrivateKeyJwt {
    PrivateKeyJwt::new(algorithm, key).clock(TestClock::at(NOON))
}

fn accepted(issuer: &StrictIssuer) -> Vec<bool> {
    issuer.requests().iter().map(|seen| seen.accepted).collect()
}

fn jti(seen: &ReceivedRequest) -> String {
    let claims = seen.one("client_assertion").unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_algorithm_and_key_form_makes_assertions_that_the_issuer_accepts() {
    let (ec, ec_public) = es256();
    let (ed, ed_public) = ed25519();
    for (algorithm, key, public) in [
        (SigningAlgorithm::Es256, ec, ec_public),
        (SigningAlgorithm::EdDsa, ed, ed_public),
        (SigningAlgorithm::Rs256, RSA.pkcs8(), rsa(Algorithm::RS256)),
        (SigningAlgorithm::Rs256, RSA.pkcs1(), rsa(Algorithm::RS256)),
        (SigningAlgorithm::Ps256, RSA.pkcs8(), rsa(Algorithm::PS256)),
        (SigningAlgorithm::Ps256, RSA.pkcs1(), rsa(Algorithm::PS256)),
    ] {
        let rules = Rules::new(public);
        let issuer = rules.issuer().await;
        client(&issuer.token_url(), at_noon(algorithm, key)).fetch(&(), &FetchContext::default()).await.unwrap();
        // The issuer rejects an assertion of another key.
        let other = match algorithm {
            SigningAlgorithm::Es256 => es256().0,
            SigningAlgorithm::EdDsa => ed25519().0,
            _ => RsaKey::new(2048).pkcs8(),
        };
        let error = client(&issuer.token_url(), at_noon(algorithm, other))
            .fetch(&(), &FetchContext::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
        assert_eq!(accepted(&issuer), [true, false], "{algorithm:?}");
    }
}

// RFC 7523 section 3, rule 7: an issuer rejects a `jti` that it has seen before, also after a failure.
#[tokio::test]
async fn no_assertion_is_sent_twice() {
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let provider = client(&issuer.token_url(), at_noon(SigningAlgorithm::Es256, key.as_str()));
    for _ in 0..50 {
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
    }
    assert_eq!(rules.used.lock().len(), 50);
    // The issuer rejects an assertion that it has seen before.
    let seen = issuer.requests().remove(0);
    assert!(!rules.accept(&seen));

    let down = Wire::responding(http_response(503, &[], "")).await;
    let provider = client(&down.token_url(), at_noon(SigningAlgorithm::Es256, key));
    for _ in 0..5 {
        assert!(provider.fetch(&(), &FetchContext::default()).await.unwrap_err().is_transient());
    }
    let bodies: HashSet<String> = down.requests().into_iter().collect();
    assert_eq!(bodies.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assertions_of_concurrent_fetches_differ() {
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    // Each has its own connection. In groups, they fit into 256 open files together with the other tests.
    for _ in 0..4 {
        let fetches = (0..25).map(|_| {
            let provider = client(&issuer.token_url(), at_noon(SigningAlgorithm::Es256, key.as_str()));
            tokio::spawn(async move { provider.fetch(&(), &FetchContext::default()).await.map(drop) })
        });
        for fetch in fetches.collect::<Vec<_>>() {
            fetch.await.unwrap().unwrap();
        }
    }
    let distinct: HashSet<String> = issuer.requests().iter().map(jti).collect();
    assert_eq!(distinct.len(), 100);
}

// As documented: `iat` is 10 seconds in the past, and the lifetime is 60 seconds.
#[tokio::test]
async fn a_small_clock_difference_is_tolerated_and_an_old_assertion_is_not() {
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let provider = client(&issuer.token_url(), at_noon(SigningAlgorithm::Es256, key));
    for (ahead, good) in [(0, true), (-10, true), (-11, false), (49, true), (50, false), (3600, false)] {
        rules.clock.0.store(NOON + ahead, Ordering::SeqCst);
        assert_eq!(
            provider.fetch(&(), &FetchContext::default()).await.is_ok(),
            good,
            "the issuer's clock is ahead by {ahead} s"
        );
    }
}

#[tokio::test]
async fn each_assertion_has_the_current_time_of_the_clock() {
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, key).clock(rules.clock.clone());
    let provider = client(&issuer.token_url(), signer);
    for later in [0, 1, 600, 86_400 * 365] {
        rules.clock.0.store(NOON + later, Ordering::SeqCst);
        provider.fetch(&(), &FetchContext::default()).await.unwrap();
    }
    // The default is this machine's clock.
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let wall = SystemClock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    rules.clock.0.store(i64::try_from(wall.as_secs()).unwrap(), Ordering::SeqCst);
    client(&issuer.token_url(), PrivateKeyJwt::new(SigningAlgorithm::Es256, key))
        .fetch(&(), &FetchContext::default())
        .await
        .unwrap();
}

// RFC 7523 section 3, rule 3, and draft-ietf-oauth-rfc7523bis.
#[tokio::test]
async fn the_audience_is_the_token_url_or_the_one_that_is_set() {
    let (key, mut public) = es256();
    public.kid = Some("2026-11");
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let signer = || at_noon(SigningAlgorithm::Es256, key.as_str()).key_id("2026-11");
    client(&issuer.token_url(), signer()).fetch(&(), &FetchContext::default()).await.unwrap();
    *rules.audience.lock() = "https://issuer.test/tenant".to_owned();
    client(&issuer.token_url(), signer().audience("https://issuer.test/tenant"))
        .fetch(&(), &FetchContext::default())
        .await
        .unwrap();
    // This issuer checks the audience and the key id.
    client(&issuer.token_url(), signer()).fetch(&(), &FetchContext::default()).await.unwrap_err();
    let nameless = at_noon(SigningAlgorithm::Es256, key.as_str()).audience("https://issuer.test/tenant");
    client(&issuer.token_url(), nameless).fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(accepted(&issuer), [true, true, false, false]);
}

#[tokio::test]
async fn a_key_that_changes_in_its_file_is_used_by_the_next_fetch() {
    let (old, _) = es256();
    let (new, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotating-key.pem");
    std::fs::write(&path, old).unwrap();
    let provider = client(&issuer.token_url(), at_noon(SigningAlgorithm::Es256, Secret::from_file(&path).unwrap()));
    provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    std::fs::write(&path, new).unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    assert_eq!(accepted(&issuer), [false, true]);
}

/// Keys that cannot sign, and a part of the error.
fn bad_keys() -> Vec<(SigningAlgorithm, String, &'static str)> {
    let (ec, _) = es256();
    let (ed, _) = ed25519();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let pair = KeyPair::generate().unwrap();
    let sec1 = pem("EC PRIVATE KEY", &pair.serialize_der()[26..]);
    let damaged = ec.replacen("MIG", "CAN", 1);
    vec![
        (SigningAlgorithm::Es256, sec1, "openssl pkcs8 -topk8 -nocrypt"),
        (SigningAlgorithm::Es256, p384, "P-256"),
        (SigningAlgorithm::Es256, RSA.pkcs8(), "P-256"),
        (SigningAlgorithm::Es256, ed.clone(), "P-256"),
        (SigningAlgorithm::Es256, damaged, "P-256"),
        (SigningAlgorithm::Es256, pair.public_key_pem(), "the private key"),
        (SigningAlgorithm::EdDsa, ec.clone(), "Ed25519"),
        (SigningAlgorithm::EdDsa, RSA.pkcs1(), "Ed25519"),
        (SigningAlgorithm::Rs256, ec.clone(), "RSA key of at least 2048 bits"),
        (SigningAlgorithm::Rs256, RsaKey::new(1024).pkcs8(), "RSA key of at least 2048 bits"),
        (SigningAlgorithm::Ps256, ed.clone(), "RSA key of at least 2048 bits"),
        (SigningAlgorithm::Rs256, ec.replace('\n', " "), "line breaks"),
        (SigningAlgorithm::Rs256, pem("ENCRYPTED PRIVATE KEY", ed.as_bytes()), "decrypt"),
        (SigningAlgorithm::EdDsa, pem("OPENSSH PRIVATE KEY", ed.as_bytes()), "ssh-keygen"),
        (SigningAlgorithm::Es256, pem("CERTIFICATE", ed.as_bytes()), "the private key"),
        (SigningAlgorithm::Es256, "pL4mW8tR-no-key-at-all".into(), "BEGIN PRIVATE KEY"),
        (SigningAlgorithm::Es256, String::new(), "BEGIN PRIVATE KEY"),
    ]
}

/// The lines of a key that must not be printed.
fn body_of(pem: &str) -> Vec<&str> {
    pem.split(['\n', ' ']).filter(|line| line.len() > 16 && !line.starts_with('-')).collect()
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_an_error_with_a_hint_and_never_printed() {
    let wire = Wire::responding(http_response(200, &[], "{}")).await;
    for (algorithm, key, hint) in bad_keys() {
        let signer = PrivateKeyJwt::new(algorithm, key.as_str());
        let at_build: Error = base(&wire.token_url()).private_key_jwt(signer).build().unwrap_err().into();
        // A key from a function is checked before anything is sent.
        let later = key.clone();
        let unknown = Secret::from_fn(move || Ok(later.clone().into()));
        let at_fetch = client(&wire.token_url(), PrivateKeyJwt::new(algorithm, unknown))
            .fetch(&(), &FetchContext::default())
            .await
            .unwrap_err();
        for error in [at_build, at_fetch] {
            let shown = format!("{error} {error:?} {:?}", error.source().map(ToString::to_string));
            assert!(shown.starts_with("private_key: "), "{shown}");
            assert!(shown.contains(hint), "{hint}: {shown}");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.is_transient());
            assert_eq!(shown_in(&shown, &body_of(&key)), None, "{shown}");
        }
    }
    assert_eq!(wire.connections(), 0);
}

#[test]
fn invalid_assertion_settings_are_rejected_by_name() {
    let (key, _) = es256();
    let signer = || PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str());
    let url = "https://issuer.test/token";
    for (builder, field) in [
        (base(url).private_key_jwt(signer()).client_secret("CANARY"), "client_secret"),
        (base(url).private_key_jwt(signer().key_id("CANARY\n")), "key_id"),
        (base(url).private_key_jwt(signer().audience("")), "audience"),
        (base(url).private_key_jwt(signer().lifetime(Duration::from_secs(14))), "lifetime"),
        (base(url).private_key_jwt(signer().lifetime(Duration::from_secs(3601))), "lifetime"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.setting(), field);
        assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    for seconds in [15, 3600] {
        base(url).private_key_jwt(signer().lifetime(Duration::from_secs(seconds))).build().unwrap();
    }
}

// R48
#[tokio::test]
async fn an_echoed_assertion_and_its_key_are_never_printed() {
    let (key, public) = es256();
    let rules = Rules::new(public);
    let issuer = rules.issuer().await;
    // The issuer expects another audience, so it rejects the assertion and echoes it.
    *rules.audience.lock() = "https://elsewhere.test".to_owned();
    let signer = at_noon(SigningAlgorithm::Es256, key.as_str());
    let builder = base(&issuer.token_url()).private_key_jwt(signer.clone());
    let mut text = format!("{signer:?} {signer:#?} {builder:?}");
    let provider = builder.build().unwrap();
    let error = provider.fetch(&(), &FetchContext::default()).await.unwrap_err();
    text.push_str(&format!("{provider:?} {provider:#?} {error} {error:?} {error:#?}"));
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!("{next} {next:?}"));
        cause = next.source();
    }
    let seen = issuer.requests().remove(0);
    let assertion = seen.one("client_assertion").unwrap();
    let signature = assertion.rsplit('.').next().unwrap();
    let mut secrets = vec![assertion, signature];
    secrets.extend(body_of(&key));
    assert_eq!(shown_in(&text, &secrets), None, "{text}");
    assert!(text.contains("Es256") && text.contains("Secret(value)"), "{text}");
}
