//! `x5t` and `x5t#S256` (RFC 7515 sections 4.1.7 and 4.1.8): by the thumbprint, an issuer finds the key of an assertion.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use serde_json::Value;
use tower_bearer_auth::{
    ClientCredentials, ClientCredentialsBuilder, ConfigError, Error, ErrorKind, FetchContext, PrivateKeyJwt, Secret,
    SecretValue, SigningAlgorithm, TokenProvider as _,
};

use crate::support::canary::shown_in;
use crate::support::rsa_key::pem;
use crate::support::strict_issuer::StrictIssuer;

/// Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256`. The thumbprints are those that
/// `openssl x509 -fingerprint -sha1` and `-sha256` print. Everything is hexadecimal.
pub(super) const FIRST: Certificate = Certificate {
    der: "308201793082011fa0030201020214297f9fcea0fcdc501dbf070231aa7301ee1f130c300a06082a8648ce3d04030230\
        11310f300d06035504030c066f72646572733020170d3236313132383130343135305a180f3231323631313034313034\
        3135305a3011310f300d06035504030c066f72646572733059301306072a8648ce3d020106082a8648ce3d0301070342\
        0004251ba54cbfaba4f535ffe2f8375fe2e262b43c25bc6f7b14436035127b731820be832763c383f2d9c84bea319559\
        83c1ba53171f882fe779474f6a07be258949a3533051301d0603551d0e0416041488cb7853f78ea83125107be3fd2d22\
        6bfa34b2e2301f0603551d2304183016801488cb7853f78ea83125107be3fd2d226bfa34b2e2300f0603551d130101ff\
        040530030101ff300a06082a8648ce3d0403020348003045022100845c47be6650491777d6224e81639263e80bc9ec1a\
        8bd018db87bed6d0aebf67022043de9cd63968b51d5781d08b2ea311da0dd96e102ad92ec26cc3c1cdeda1d120",
    sha1: "a7fd93ff492dfc4cf88d9662c5f907ce252b9324",
    sha256: "0682bce450d0deec44bdc7c6448dd7bc6ac53887c05497e2b11fe3338fd0356c",
};

const SECOND: Certificate = Certificate {
    der: "3082017d30820123a00302010202141ebb95eaca687534f7a7e35983c67de04670fa2e300a06082a8648ce3d04030230\
        133111300f06035504030c086f72646572732d323020170d3236313132383130343135315a180f323132363131303431\
        30343135315a30133111300f06035504030c086f72646572732d323059301306072a8648ce3d020106082a8648ce3d03\
        0107034200049c19910456965a4cc4fb126c000f2c6da4dcca2bb35685a3a9826d968a7b96fdd60bcee7e1c2f258224f\
        54ab85d4f8f7876440ab913d01df6f9b7cfb61b37189a3533051301d0603551d0e041604140e249e2feeba8ba45a2092\
        d02d92dc2d7a3cd520301f0603551d230418301680140e249e2feeba8ba45a2092d02d92dc2d7a3cd520300f0603551d\
        130101ff040530030101ff300a06082a8648ce3d0403020348003045022048ddcf6cd8fe90bdef17b89e504f6b1625e9\
        1875447364a02573a9e9af75fb0c022100c3bf5109af17b283952ce9d01ab55244044450d3eaa15b56c72fd28504dbb8\
        38",
    sha1: "83c0132c8daa6b3fec41d3030781b5fa67485ee9",
    sha256: "4d2ab35d4074b67f5d44d361636ede5362ec441f2ff90440ab95fda4e0647e5a",
};

#[derive(Clone, Copy)]
pub(super) struct Certificate {
    der: &'static str,
    sha1: &'static str,
    sha256: &'static str,
}

impl Certificate {
    pub(super) fn pem(self) -> String {
        pem("CERTIFICATE", &bytes(self.der))
    }

    fn x5t(self) -> String {
        URL_SAFE_NO_PAD.encode(bytes(self.sha1))
    }

    pub(super) fn x5t_s256(self) -> String {
        URL_SAFE_NO_PAD.encode(bytes(self.sha256))
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| 16 * digit(pair[0]) + digit(pair[1])).collect()
}

fn key() -> String {
    KeyPair::generate().unwrap().serialize_pem()
}

fn signer(key: impl Into<Secret>) -> PrivateKeyJwt {
    PrivateKeyJwt::new(SigningAlgorithm::Es256, key)
}

fn base(url: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder().client_id("orders").token_url(url).api_origin("https://api.test")
}

/// The headers of the assertions that an issuer received.
fn headers(issuer: &StrictIssuer) -> Vec<Value> {
    let header = |assertion: &str| {
        let header = URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap()).unwrap();
        serde_json::from_slice(&header).unwrap()
    };
    issuer.requests().iter().map(|seen| header(seen.one("client_assertion").unwrap())).collect()
}

async fn fetch(url: &str, signer: PrivateKeyJwt) -> Result<(), Error> {
    base(url).private_key_jwt(signer).build()?.fetch(&(), &FetchContext::default()).await.map(drop)
}

// R98
#[tokio::test]
async fn the_header_has_the_thumbprints_that_openssl_prints() {
    let issuer = StrictIssuer::start(|_| true).await;
    let url = issuer.token_url();
    for certificate in [FIRST, SECOND] {
        let pem = certificate.pem();
        fetch(&url, signer(key()).certificate(pem.as_str())).await.unwrap();
        fetch(&url, signer(key()).certificate_sha1(pem.as_str()).key_id("k7")).await.unwrap();
        fetch(&url, signer(key()).certificate_sha1(pem.as_str()).certificate(pem)).await.unwrap();
    }
    fetch(&url, signer(key())).await.unwrap();
    let mut headers = headers(&issuer).into_iter();
    for certificate in [FIRST, SECOND] {
        let (x5t, x5t_s256) = (certificate.x5t(), certificate.x5t_s256());
        let (x5t, x5t_s256) = (Some(x5t.as_str()), Some(x5t_s256.as_str()));
        for expected in [[None, x5t_s256, None], [x5t, None, Some("k7")], [x5t, x5t_s256, None]] {
            let header = headers.next().unwrap();
            let found = ["x5t", "x5t#S256", "kid"].map(|name| header.get(name).and_then(Value::as_str));
            assert_eq!(found, expected, "{header}");
        }
    }
    assert_eq!(headers.next().unwrap(), serde_json::json!({ "typ": "JWT", "alg": "ES256" }));
}

// Entra's portal and many tools export the key and the certificates in one file.
#[tokio::test]
async fn the_first_certificate_counts_also_beside_the_private_key() {
    let issuer = StrictIssuer::start(|_| true).await;
    let (key, first, second) = (key(), FIRST.pem(), SECOND.pem());
    for text in [
        format!("{key}{first}{second}"),
        format!("Bag Attributes\n    friendlyName: orders\n{first}{key}{second}"),
        format!("{key}{first}").replace('\n', "\r\n"),
    ] {
        let secret = Secret::from(text);
        let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str()).certificate(secret);
        fetch(&issuer.token_url(), signer).await.unwrap();
    }
    let both = Secret::from(format!("{key}{first}"));
    fetch(&issuer.token_url(), signer(both.clone()).certificate(both)).await.unwrap();
    let found: Vec<Value> = headers(&issuer).into_iter().map(|header| header["x5t#S256"].clone()).collect();
    assert_eq!(found, vec![FIRST.x5t_s256(); 4]);
}

#[tokio::test]
async fn a_certificate_that_changes_in_its_file_is_used_by_the_next_fetch() {
    let issuer = StrictIssuer::start(|_| true).await;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotating-certificate.pem");
    let write = |certificate: Certificate| std::fs::write(&path, format!("{}{}", key(), certificate.pem())).unwrap();
    write(FIRST);
    let pem = Secret::from_file(&path).unwrap();
    let provider = base(&issuer.token_url()).private_key_jwt(signer(pem.clone()).certificate(pem)).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    write(SECOND);
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let found: Vec<Value> = headers(&issuer).into_iter().map(|header| header["x5t#S256"].clone()).collect();
    assert_eq!(found, [FIRST.x5t_s256(), SECOND.x5t_s256()]);
}

// R48
#[tokio::test]
async fn a_text_without_a_usable_certificate_is_an_error_that_prints_nothing_of_it() {
    let issuer = StrictIssuer::start(|_| true).await;
    let key = key();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let first = FIRST.pem();
    let truncated = format!("{key}{}", &first[..200]);
    for (text, part) in [
        (String::new(), "no certificate in PEM form"),
        (key.clone(), "no certificate in PEM form"),
        (FIRST.x5t_s256(), "no certificate in PEM form"),
        (format!("{key}{}", first.replacen("MII", "M=I", 1)), "damaged"),
        (truncated, "damaged"),
        (pem("CERTIFICATE", b"not DER"), "damaged"),
        (pem("CERTIFICATE", b""), "damaged"),
        ("-----BEGIN CERTIFICATE----------END CERTIFICATE-----".to_owned(), "damaged"),
    ] {
        let at_build: ConfigError = base("https://issuer.test/token")
            .private_key_jwt(signer(key.as_str()).certificate(text.as_str()))
            .build()
            .unwrap_err();
        assert_eq!(at_build.setting(), "certificate");
        let later = text.clone();
        let unknown = Secret::from_fn(move || Ok(SecretValue::from(later.as_str())));
        let at_fetch = fetch(&issuer.token_url(), signer(key.as_str()).certificate_sha1(unknown)).await.unwrap_err();
        assert_eq!(at_fetch.kind(), ErrorKind::Config);
        for shown in [format!("{at_build} {at_build:?}"), format!("{at_fetch} {at_fetch:?}")] {
            assert!(shown.contains(part), "{part}: {shown}");
            assert_eq!(shown_in(&shown, &lines), None, "{shown}");
        }
    }
    assert_eq!(issuer.requests().len(), 0);
}
