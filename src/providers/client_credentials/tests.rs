//! The settings of assertions from environment variables.

use std::collections::HashMap;
use std::ffi::OsString;

use super::ClientCredentialsBuilder;
use crate::error::ConfigError;
use crate::providers::Secret;
use crate::providers::env::Variables;

const METHOD: &str = "P_CLIENT_AUTHENTICATION";

/// What `Debug` prints of the provider that these variables make.
fn read(variables: &[(&str, &str)], builder: ClientCredentialsBuilder) -> Result<String, ConfigError> {
    let required =
        [("P_CLIENT_ID", "id"), ("P_TOKEN_URL", "https://issuer.test/token"), ("P_API_ORIGINS", "https://a.test")];
    let set: HashMap<&str, &str> = required.iter().chain(variables).copied().collect();
    let lookup = |name: &str| set.get(name).map(OsString::from);
    let provider = builder.read_all(&Variables::new("P", &lookup)?)?.build()?;
    Ok(format!("{provider:?}"))
}

fn empty() -> ClientCredentialsBuilder {
    ClientCredentialsBuilder::default()
}

// R98
#[test]
fn an_assertion_is_read_from_a_variable_or_a_file() {
    let path = std::env::temp_dir().join(format!("tower-bearer-auth-assertion-{}", std::process::id()));
    std::fs::write(&path, "CANARY.a.b\n").unwrap();
    let path = path.to_str().unwrap();
    let method = (METHOD, "client_assertion");
    let by_file = ("P_CLIENT_ASSERTION_FILE", path);
    let shown = read(&[method, by_file], empty()).unwrap();
    assert!(shown.contains(&format!("ClientAssertion(Secret(file {path}))")), "{shown}");
    let shown = read(&[method, ("P_CLIENT_ASSERTION", "CANARY.a.b")], empty()).unwrap();
    assert!(shown.contains("ClientAssertion(Secret(value))"), "{shown}");
    // The builder's own stays if no variable is set, and is replaced otherwise.
    let own = || empty().client_assertion(Secret::from_fn(|| Ok("CANARY".into())));
    for variables in [&[][..], &[method]] {
        let shown = read(variables, own()).unwrap();
        assert!(shown.contains("ClientAssertion(Secret(function))"), "{shown}");
    }
    let shown = read(&[by_file], own()).unwrap();
    assert!(shown.contains("ClientAssertion(Secret(file "), "{shown}");
    for (variables, begins) in [
        (&[method][..], "P_CLIENT_ASSERTION: it is not set: set P_CLIENT_ASSERTION or P_CLIENT_ASSERTION_FILE"),
        (&[method, ("P_CLIENT_ASSERTION_FILE", "/none/such")], "P_CLIENT_ASSERTION_FILE: the file "),
        (&[method, ("P_CLIENT_ASSERTION", "")], "P_CLIENT_ASSERTION: it is empty"),
        (&[method, by_file, ("P_CLIENT_ASSERTION", "x")], "P_CLIENT_ASSERTION: P_CLIENT_ASSERTION_FILE is also set"),
        (&[method, by_file, ("P_CLIENT_SECRET", "x")], "client_secret: client_assertion sends no secret"),
        (
            &[method, by_file, ("P_BASIC_ENCODING", "raw")],
            "P_BASIC_ENCODING: it requires the method client_secret_basic",
        ),
        (&[method, by_file, ("P_PRIVATE_KEY_ID", "k7")], "P_PRIVATE_KEY_ID: it requires the method private_key_jwt"),
        // Otherwise the secret would be used without notice. The file is not read.
        (
            &[("P_CLIENT_ASSERTION_FILE", "/none/such"), ("P_CLIENT_SECRET", "x")],
            "P_CLIENT_ASSERTION: it requires the method client_assertion, which is not set: set P_CLIENT_AUTHENTICATION to",
        ),
    ] {
        let error = read(variables, empty()).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
    std::fs::remove_file(path).unwrap();
}

#[cfg(feature = "private-key-jwt")]
#[test]
fn a_certificate_is_read_from_a_file_and_belongs_to_its_key() {
    use super::{PrivateKeyJwt, SigningAlgorithm};

    let certified = rcgen::generate_simple_self_signed(["orders".to_owned()]).unwrap();
    let (key, certificate) = (certified.key_pair.serialize_pem(), certified.cert.pem());
    let path = std::env::temp_dir().join(format!("tower-bearer-auth-certificate-{}", std::process::id()));
    std::fs::write(&path, &certificate).unwrap();
    let path = path.to_str().unwrap();
    let settings = [
        (METHOD, "private_key_jwt"),
        ("P_PRIVATE_KEY", key.as_str()),
        ("P_PRIVATE_KEY_ALGORITHM", "ES256"),
        ("P_PRIVATE_KEY_CERTIFICATE_FILE", path),
    ];
    let shown = read(&settings, empty()).unwrap();
    assert!(shown.contains(&format!("certificate: Some(Secret(file {path})), certificate_sha1: None")), "{shown}");
    // A key from the environment does not keep the certificate of the builder's key.
    let own = PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str());
    let own = own.certificate(certificate.as_str()).certificate_sha1(certificate.as_str());
    let shown = read(&settings[..3], empty().private_key_jwt(own.clone())).unwrap();
    assert!(shown.contains("certificate: None, certificate_sha1: None"), "{shown}");
    let shown = read(&settings[3..], empty().private_key_jwt(own)).unwrap();
    assert!(shown.contains("(file ") && shown.contains("certificate_sha1: Some(Secret(value))"), "{shown}");
    let error = read(&[settings[3], ("P_CLIENT_SECRET", "x")], empty()).unwrap_err();
    assert!(
        error.to_string().starts_with("P_PRIVATE_KEY_CERTIFICATE: it requires the method private_key_jwt"),
        "{error}"
    );
    std::fs::remove_file(path).unwrap();
}
