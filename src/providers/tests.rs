use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::client_credentials::{BasicEncoding, ClientCredentialsBuilder, PrivateKeyJwt, SigningAlgorithm};
use super::env::Variables;
use crate::error::{ConfigError, ErrorKind};

/// A directory that goes away with the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tower-bearer-auth-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn holding(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left in the temporary directory is no test's failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn with<T>(variables: &[(&str, OsString)], read: impl FnOnce(&Variables<'_>) -> T) -> T {
    let set: HashMap<&str, &OsString> = variables.iter().map(|(n, v)| (*n, v)).collect();
    let lookup = |name: &str| set.get(name).map(|value| (*value).clone());
    read(&Variables::new("P", &lookup).unwrap())
}

fn secret(variables: &[(&str, OsString)]) -> Result<Option<String>, ConfigError> {
    with(variables, |variables| variables.secret("KEY"))
        .map(|found| found.map(|secret| secret.known().unwrap().expose_secret().to_owned()))
}

#[cfg(unix)]
fn not_utf8() -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"CANARY\xff".to_vec())
}

#[cfg(windows)]
fn not_utf8() -> OsString {
    std::os::windows::ffi::OsStringExt::from_wide(&[0x43, 0xd800])
}

#[test]
fn a_variable_or_its_file_is_read_and_one_newline_goes() {
    let files = Files::new();
    let file = |content: &str| -> OsString { files.holding("good", content.as_bytes()).into() };
    assert_eq!(secret(&[]).unwrap(), None);
    assert_eq!(secret(&[("P_KEY", "v".into())]).unwrap().unwrap(), "v");
    // What stands in a variable stands there as it is.
    assert_eq!(secret(&[("P_KEY", "v\n".into())]).unwrap().unwrap(), "v\n");
    for (content, expected) in
        [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), ("v\n\n", "v\n"), (" v \n", " v "), ("\n\n", "\n")]
    {
        let found = secret(&[("P_KEY_FILE", file(content))]).unwrap();
        assert_eq!(found.unwrap(), expected, "{content:?}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_variable_and_path_alone() {
    let files = Files::new();
    let file = |name: &str, content: &[u8]| -> OsString { files.holding(name, content).into() };
    let large = vec![b'x'; 64 * 1024 + 1];
    for (variables, names) in [
        (vec![("P_KEY", OsString::new())], vec!["P_KEY: "]),
        (vec![("P_KEY", not_utf8())], vec!["P_KEY: "]),
        (vec![("P_KEY", "CANARY".into()), ("P_KEY_FILE", file("both", b"CANARY"))], vec!["P_KEY: ", "P_KEY_FILE"]),
        (vec![("P_KEY", OsString::new()), ("P_KEY_FILE", OsString::new())], vec!["P_KEY: ", "P_KEY_FILE"]),
        (vec![("P_KEY_FILE", OsString::new())], vec!["P_KEY_FILE: "]),
        (vec![("P_KEY_FILE", file("empty", b""))], vec!["P_KEY_FILE: ", "empty"]),
        (vec![("P_KEY_FILE", file("newline", b"\n"))], vec!["P_KEY_FILE: ", "newline"]),
        (vec![("P_KEY_FILE", file("latin", b"CANARY\xff"))], vec!["P_KEY_FILE: ", "latin"]),
        (vec![("P_KEY_FILE", file("large", &large))], vec!["P_KEY_FILE: ", "large"]),
        (vec![("P_KEY_FILE", files.0.join("no-such-file").into())], vec!["P_KEY_FILE: ", "no-such-file"]),
        (vec![("P_KEY_FILE", files.0.clone().into())], vec!["P_KEY_FILE: "]),
    ] {
        let error = secret(&variables).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(names[0]), "{shown}");
        assert!(names.iter().all(|name| shown.contains(name)), "{shown}");
        assert!(!format!("{shown} {error:?}").contains("CANARY"), "{shown}");
    }
}

#[test]
fn a_list_has_commas_between_its_items() {
    let list = |text: &str| with(&[("P_KEY", text.into())], |v| v.list("KEY"));
    assert_eq!(list("a").unwrap(), ["a"]);
    assert_eq!(list("a,b , c").unwrap(), ["a", "b", "c"]);
    for bad in [",", "a,", ",a", "a,,b", " "] {
        let error = list(bad).unwrap_err();
        assert!(error.to_string().starts_with("P_KEY: "), "{error}");
    }
    assert!(with(&[], |v| v.list("KEY")).unwrap().is_empty());
}

fn all() -> Vec<(&'static str, OsString)> {
    vec![
        ("P_CLIENT_ID", "id".into()),
        ("P_CLIENT_SECRET", "secret".into()),
        ("P_TOKEN_URL", "https://issuer.test/token".into()),
        ("P_API_ORIGINS", "https://a.test,https://b.test".into()),
        ("P_SCOPE", "read write".into()),
        ("P_ENVIRONMENT", "staging".into()),
    ]
}

#[test]
fn every_setting_has_its_variable() {
    let read = |builder: ClientCredentialsBuilder| with(&all(), |v| builder.read(v));
    let built = read(ClientCredentialsBuilder::default()).unwrap().build().unwrap();
    assert_eq!(built.client_id, "id");
    assert_eq!(built.parameters.scope.as_deref(), Some("read write"));
    assert_eq!(built.environment, "staging");
    assert_eq!(built.endpoint.origin(), "https://issuer.test");
    assert_eq!(format!("{:?}", built.origins), "[https://a.test, https://b.test]");
    // What the builder had and the environment has not stays.
    let mut some = all();
    some.retain(|(name, _)| !name.ends_with("CLIENT_ID") && !name.ends_with("SCOPE"));
    let builder = ClientCredentialsBuilder::default().client_id("mine").scope("own");
    let built = with(&some, |v| builder.read(v)).unwrap().build().unwrap();
    assert_eq!(built.client_id, "mine");
    assert_eq!(built.parameters.scope.as_deref(), Some("own"));
}

#[test]
fn a_variable_that_is_needed_and_missing_is_named() {
    for missing in ["P_CLIENT_ID", "P_CLIENT_SECRET"] {
        let mut some = all();
        some.retain(|(name, _)| *name != missing);
        let read = with(&some, |v| ClientCredentialsBuilder::default().read(v));
        let error = read.map(drop).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{missing}: ")), "{error}");
        assert!(error.to_string().contains(&format!("{missing}_FILE")), "{error}");
    }
}

// The names are those of the registry of RFC 8414 section 2.
#[test]
fn the_way_of_proving_a_client_has_its_variables() {
    let built = |extra: &[(&'static str, &str)], builder: ClientCredentialsBuilder| {
        let mut variables = all();
        variables.extend(extra.iter().map(|(name, value)| (*name, OsString::from(value))));
        with(&variables, |v| builder.read_all(v)).and_then(ClientCredentialsBuilder::build)
    };
    let empty = ClientCredentialsBuilder::default;
    let way = |extra: &[(&'static str, &str)], builder| format!("{:?}", built(extra, builder).unwrap());
    const METHOD: &str = "P_CLIENT_AUTHENTICATION";
    const ENCODING: &str = "P_BASIC_ENCODING";
    for (extra, builder, shows) in [
        (vec![], empty(), "Post(Secret(value))"),
        (vec![(METHOD, "client_secret_post")], empty().client_secret_basic(BasicEncoding::Raw), "Post(Secret(value))"),
        (vec![(METHOD, "client_secret_basic")], empty(), "Basic(Secret(value), Percent)"),
        (vec![(METHOD, "client_secret_basic"), (ENCODING, "form")], empty(), "Basic(Secret(value), Form)"),
        (vec![], empty().client_secret_basic(BasicEncoding::Raw), "Basic(Secret(value), Raw)"),
        (vec![(METHOD, "client_secret_basic")], empty().client_secret_basic(BasicEncoding::Raw), "Secret(value), Raw)"),
        (vec![(ENCODING, "percent")], empty().client_secret_basic(BasicEncoding::Raw), "Basic(Secret(value), Percent)"),
        (vec![("P_AUDIENCE", "https://a.test/")], empty().audience("another"), "https://a.test/"),
        (
            vec![("P_RESOURCES", "urn:a:b, urn:c:d")],
            empty().resource("urn:x:y"),
            r#"["urn:x:y", "urn:a:b", "urn:c:d"]"#,
        ),
    ] {
        let shown = way(&extra, builder);
        assert!(shown.contains(shows), "{extra:?}: {shown}");
    }
    for (extra, begins) in [
        (vec![(METHOD, "none")], "P_CLIENT_AUTHENTICATION: it is none of client_secret_post, "),
        (vec![(ENCODING, "raw")], "P_BASIC_ENCODING: "),
        (
            vec![(METHOD, "client_secret_basic"), (ENCODING, "base64")],
            "P_BASIC_ENCODING: it is none of percent, form, raw",
        ),
        // It is in the environment, and would not be sent.
        (vec![(METHOD, "tls_client_auth")], "client_secret: "),
    ] {
        let error = built(&extra, empty()).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{error}");
    }
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let signed = (METHOD, "private_key_jwt");
    let all_of_it = [
        signed,
        ("P_PRIVATE_KEY", key.as_str()),
        ("P_PRIVATE_KEY_ALGORITHM", "ES256"),
        ("P_PRIVATE_KEY_ID", "k7"),
        ("P_ASSERTION_AUDIENCE", "https://issuer.test"),
    ];
    let signing = |extra: &[(&'static str, &str)], builder: ClientCredentialsBuilder| {
        let mut variables = all();
        variables.retain(|(name, _)| !name.ends_with("CLIENT_SECRET"));
        variables.extend(extra.iter().map(|(name, value)| (*name, OsString::from(value))));
        with(&variables, |v| builder.read_all(v)).and_then(ClientCredentialsBuilder::build)
    };
    let shown = format!("{:?}", signing(&all_of_it, empty()).unwrap());
    for part in ["Es256", "Secret(value)", r#"Some("k7")"#, r#"Some("https://issuer.test")"#] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let own = || empty().private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str()));
    let shown = format!("{:?}", signing(&all_of_it[3..], own()).unwrap());
    assert!(shown.contains("k7"), "{shown}");
    // A key from the environment takes its name along, and leaves what the program says of assertions.
    let told = PrivateKeyJwt::new(SigningAlgorithm::Rs256, "another").key_id("k1");
    let told = empty().private_key_jwt(told.audience("https://issuer.test/a").lifetime(Duration::from_secs(300)));
    let shown = format!("{:?}", signing(&all_of_it[..3], told).unwrap());
    for part in ["Es256", "key_id: None", r#"Some("https://issuer.test/a")"#, "lifetime: 300s"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for (extra, begins) in [
        (&all_of_it[..1], "P_PRIVATE_KEY: "),
        (&all_of_it[..2], "P_PRIVATE_KEY_ALGORITHM: "),
        (&[signed, ("P_PRIVATE_KEY_ALGORITHM", "HS256")][..], "P_PRIVATE_KEY_ALGORITHM: it is none of RS256, "),
    ] {
        let error = signing(extra, empty()).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{error}");
    }
    // The weaker proof would go out, and nobody would know. The key may be a file, and it is not read.
    for (name, value) in [
        ("P_PRIVATE_KEY", key.as_str()),
        ("P_PRIVATE_KEY_FILE", "/none/such"),
        ("P_PRIVATE_KEY_ALGORITHM", "ES256"),
        ("P_PRIVATE_KEY_ID", "k7"),
        ("P_ASSERTION_AUDIENCE", "https://issuer.test"),
    ] {
        let what = name.trim_end_matches("_FILE");
        for method in ["client_secret_post", "client_secret_basic", "tls_client_auth"] {
            let error = built(&[(METHOD, method), (name, value)], empty()).unwrap_err();
            let expected = format!("{what}: it is for private_key_jwt, which is not chosen");
            assert_eq!(error.to_string(), expected, "{method}");
        }
        let error = built(&[(name, value)], empty()).unwrap_err();
        assert!(error.to_string().starts_with(what), "{error}");
    }
    for name in ["tls_client_auth", "self_signed_tls_client_auth"] {
        let mut variables = all();
        variables.retain(|(name, _)| !name.ends_with("CLIENT_SECRET"));
        variables.push((METHOD, name.into()));
        let read = with(&variables, |v| empty().read_all(v)).unwrap();
        let client = read.http_client(crate::token_endpoint::HttpClient::new().unwrap());
        assert!(format!("{:?}", client.build().unwrap()).contains("MutualTls"));
    }
    // AccessPSP documents the form alone, and none of the rest.
    let mut variables = all();
    variables.extend([(METHOD, "client_secret_basic".into()), ("P_AUDIENCE", "a".into())]);
    let psp = with(&variables, |v| empty().read(v)).unwrap().build().unwrap();
    let shown = format!("{psp:?}");
    assert!(shown.contains("Post(Secret(value))") && shown.contains("audience: None"), "{shown}");
}

// A secret that came from a file is read again, one that did not is not.
#[test]
fn a_secret_out_of_a_file_stays_one() {
    let files = Files::new();
    let path = files.holding("secret", b"old\n");
    let secret = with(&[("P_KEY_FILE", path.clone().into())], |v| v.secret("KEY"));
    let shown = format!("{:?}", secret.unwrap().unwrap());
    assert!(shown.contains(&path.display().to_string()), "{shown}");
    assert!(Path::new(&path).exists());
}
