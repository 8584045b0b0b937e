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

/// Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256`. The thumbprints are those of
/// `openssl x509 -outform DER | openssl dgst -sha1 -binary | base64`, and the same with `-sha256`, in base64url.
pub(super) const FIRST: Certificate = Certificate {
    pem: "-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUKX+fzqD83FAdvwcCMapzAe4fEwwwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGb3JkZXJzMCAXDTI2MTEyODEwNDE1MFoYDzIxMjYxMTA0MTA0
MTUwWjARMQ8wDQYDVQQDDAZvcmRlcnMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQlG6VMv6uk9TX/4vg3X+LiYrQ8JbxvexRDYDUSe3MYIL6DJ2PDg/LZyEvqMZVZ
g8G6UxcfiC/neUdPage+JYlJo1MwUTAdBgNVHQ4EFgQUiMt4U/eOqDElEHvj/S0i
a/o0suIwHwYDVR0jBBgwFoAUiMt4U/eOqDElEHvj/S0ia/o0suIwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAhFxHvmZQSRd31iJOgWOSY+gLyewa
i9AY24e+1tCuv2cCIEPenNY5aLUdV4HQiy6jEdoN2W4QKtkuwmzDwc3todEg
-----END CERTIFICATE-----
",
    sha1: "p_2T_0kt_Ez4jZZixfkHziUrkyQ",
    sha256: "BoK85FDQ3uxEvcfGRI3XvGrFOIfAVJfisR_jM4_QNWw",
};

const SECOND: Certificate = Certificate {
    pem: "-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUHruV6spodTT3p+NZg8Z94EZw+i4wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIb3JkZXJzLTIwIBcNMjYxMTI4MTA0MTUxWhgPMjEyNjExMDQx
MDQxNTFaMBMxETAPBgNVBAMMCG9yZGVycy0yMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEnBmRBFaWWkzE+xJsAA8sbaTcyiuzVoWjqYJtlop7lv3WC87n4cLyWCJP
VKuF1Pj3h2RAq5E9Ad9vm3z7YbNxiaNTMFEwHQYDVR0OBBYEFA4kni/uuoukWiCS
0C2S3C16PNUgMB8GA1UdIwQYMBaAFA4kni/uuoukWiCS0C2S3C16PNUgMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgSN3PbNj+kL3vF7ieUE9rFiXp
GHVEc2SgJXOp6a91+wwCIQDDv1EJrxeyg5Us6dAatVJEBERQ0+qhW1bHL9KFBNu4
OA==
-----END CERTIFICATE-----
",
    sha1: "g8ATLI2qaz_sQdMDB4G1-mdIXuk",
    sha256: "TSqzXUB0tn9dRNNhY27eU2LsRB8v-QRAq5X9pOBkflo",
};

#[derive(Clone, Copy)]
pub(super) struct Certificate {
    pub(super) pem: &'static str,
    sha1: &'static str,
    pub(super) sha256: &'static str,
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
        fetch(&url, signer(key()).certificate(certificate.pem)).await.unwrap();
        fetch(&url, signer(key()).certificate_sha1(certificate.pem).key_id("k7")).await.unwrap();
        fetch(&url, signer(key()).certificate_sha1(certificate.pem).certificate(certificate.pem)).await.unwrap();
    }
    fetch(&url, signer(key())).await.unwrap();
    let mut headers = headers(&issuer).into_iter();
    for Certificate { sha1, sha256, .. } in [FIRST, SECOND] {
        for (x5t, x5t_s256, kid) in
            [(None, Some(sha256), None), (Some(sha1), None, Some("k7")), (Some(sha1), Some(sha256), None)]
        {
            let header = headers.next().unwrap();
            let found = ["x5t", "x5t#S256", "kid"].map(|name| header.get(name).and_then(Value::as_str));
            assert_eq!(found, [x5t, x5t_s256, kid], "{header}");
        }
    }
    assert_eq!(headers.next().unwrap(), serde_json::json!({ "typ": "JWT", "alg": "ES256" }));
}

// Entra's portal and many tools export the key and the certificates in one file.
#[tokio::test]
async fn the_first_certificate_counts_also_beside_the_private_key() {
    let issuer = StrictIssuer::start(|_| true).await;
    let key = key();
    for text in [
        format!("{key}{}{}", FIRST.pem, SECOND.pem),
        format!("Bag Attributes\n    friendlyName: orders\n{}{key}{}", FIRST.pem, SECOND.pem),
        format!("{key}{}", FIRST.pem).replace('\n', "\r\n"),
    ] {
        let secret = Secret::from(text);
        let signer = PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str()).certificate(secret);
        fetch(&issuer.token_url(), signer).await.unwrap();
    }
    let both = Secret::from(format!("{key}{}", FIRST.pem));
    fetch(&issuer.token_url(), signer(both.clone()).certificate(both)).await.unwrap();
    let found: Vec<Value> = headers(&issuer).into_iter().map(|header| header["x5t#S256"].clone()).collect();
    assert_eq!(found, [FIRST.sha256; 4]);
}

#[tokio::test]
async fn a_certificate_that_changes_in_its_file_is_used_by_the_next_fetch() {
    let issuer = StrictIssuer::start(|_| true).await;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotating-certificate.pem");
    let write = |certificate: Certificate| std::fs::write(&path, format!("{}{}", key(), certificate.pem)).unwrap();
    write(FIRST);
    let pem = Secret::from_file(&path).unwrap();
    let provider = base(&issuer.token_url()).private_key_jwt(signer(pem.clone()).certificate(pem)).build().unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    write(SECOND);
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let found: Vec<Value> = headers(&issuer).into_iter().map(|header| header["x5t#S256"].clone()).collect();
    assert_eq!(found, [FIRST.sha256, SECOND.sha256]);
}

// R48
#[tokio::test]
async fn a_text_without_a_usable_certificate_is_an_error_that_prints_nothing_of_it() {
    let issuer = StrictIssuer::start(|_| true).await;
    let key = key();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let truncated = format!("{key}{}", &FIRST.pem[..200]);
    for (text, part) in [
        (String::new(), "no certificate in PEM form"),
        (key.clone(), "no certificate in PEM form"),
        (FIRST.sha256.to_owned(), "no certificate in PEM form"),
        (format!("{key}{}", FIRST.pem.replacen("MII", "M=I", 1)), "damaged"),
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
