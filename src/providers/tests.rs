use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::client_credentials::{BasicEncoding, ClientCredentialsBuilder, PrivateKeyJwt, SigningAlgorithm};
use super::env::Variables;
use crate::error::ConfigError;

mod missing_variables;
mod unknown_variables;

/// A directory that is removed after the test.
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
        // A file that remains in the temporary directory does not fail the test.
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
        .map(|found| found.map(|secret| secret.peek().unwrap().expose_secret().to_owned()))
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
fn a_variable_or_its_file_is_read_without_a_trailing_newline() {
    let files = Files::new();
    let file = |content: &str| -> OsString { files.holding("good", content.as_bytes()).into() };
    assert_eq!(secret(&[]).unwrap(), None);
    assert_eq!(secret(&[("P_KEY", "v".into())]).unwrap().unwrap(), "v");
    // A newline in a variable is kept.
    assert_eq!(secret(&[("P_KEY", "v\n".into())]).unwrap().unwrap(), "v\n");
    for (content, expected) in
        [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), ("v\n\n", "v\n"), (" v \n", " v "), ("\n\n", "\n")]
    {
        let found = secret(&[("P_KEY_FILE", file(content))]).unwrap();
        assert_eq!(found.unwrap(), expected, "{content:?}");
    }
}

#[test]
fn an_unreadable_variable_is_an_error_with_its_name_and_path_only() {
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
fn the_items_of_a_list_are_separated_by_commas() {
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
        ("P_LABEL", "staging".into()),
    ]
}

#[test]
fn every_setting_has_its_variable() {
    let read = |builder: ClientCredentialsBuilder| with(&all(), |v| builder.read_all(v));
    let built = read(ClientCredentialsBuilder::default()).unwrap().build().unwrap();
    assert_eq!(built.client_id, "id");
    assert_eq!(built.parameters.scope.as_deref(), Some("read write"));
    assert_eq!(built.label, "staging");
    assert_eq!(built.endpoint.origin(), "https://issuer.test");
    assert_eq!(format!("{:?}", built.origins), "[https://a.test, https://b.test]");
    // A variable replaces what is set before, and what is set after replaces the variable. Origins are added.
    let own = || ClientCredentialsBuilder::default().scope("own").label("own").token_url("https://own.test");
    let read_over = || read(own().api_origin("https://own.test")).unwrap();
    let built = read_over().build().unwrap();
    assert_eq!((built.label.as_str(), built.endpoint.origin()), ("staging", "https://issuer.test"));
    assert_eq!(built.parameters.scope.as_deref(), Some("read write"));
    assert_eq!(format!("{:?}", built.origins), "[https://own.test, https://a.test, https://b.test]");
    let built = read_over().scope("later").client_secret_basic(BasicEncoding::Form).build().unwrap();
    assert_eq!(built.parameters.scope.as_deref(), Some("later"));
    assert!(format!("{built:?}").contains("Basic("), "{built:?}");
    // A setting of the builder stays if its variable is not set.
    let mut some = all();
    some.retain(|(name, _)| !name.ends_with("CLIENT_ID") && !name.ends_with("SCOPE"));
    let builder = ClientCredentialsBuilder::default().client_id("mine").scope("own");
    let built = with(&some, |v| builder.read_all(v)).unwrap().build().unwrap();
    assert_eq!(built.client_id, "mine");
    assert_eq!(built.parameters.scope.as_deref(), Some("own"));
}

// The names are those of the registry of RFC 8414 section 2.
#[test]
fn client_authentication_is_read_from_variables() {
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
        (vec![(METHOD, "none")], "P_CLIENT_AUTHENTICATION: the value is unknown: use one of client_secret_post, "),
        (vec![(ENCODING, "raw")], "P_BASIC_ENCODING: "),
        (
            vec![(METHOD, "client_secret_basic"), (ENCODING, "base64")],
            "P_BASIC_ENCODING: the value is unknown: use one of percent, form, raw",
        ),
        // The secret is set, and would not be sent.
        (vec![(METHOD, "tls_client_auth")], "client_secret: "),
    ] {
        let error = built(&extra, empty()).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{error}");
    }
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let signed = (METHOD, "private_key_jwt");
    let key_settings = [
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
    let shown = format!("{:?}", signing(&key_settings, empty()).unwrap());
    for part in ["Es256", "Secret(value)", r#"Some("k7")"#, r#"Some("https://issuer.test")"#] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let own = || empty().private_key_jwt(PrivateKeyJwt::new(SigningAlgorithm::Es256, key.as_str()));
    let shown = format!("{:?}", signing(&key_settings[3..], own()).unwrap());
    assert!(shown.contains("k7"), "{shown}");
    // A key from the environment replaces the key id, and keeps the other settings of assertions.
    let configured = PrivateKeyJwt::new(SigningAlgorithm::Rs256, "another").key_id("k1");
    let configured =
        empty().private_key_jwt(configured.audience("https://issuer.test/a").lifetime(Duration::from_secs(300)));
    let shown = format!("{:?}", signing(&key_settings[..3], configured).unwrap());
    for part in ["Es256", "key_id: None", r#"Some("https://issuer.test/a")"#, "lifetime: 300s"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for (extra, begins) in [
        (&key_settings[..1], "P_PRIVATE_KEY: "),
        (&key_settings[..2], "P_PRIVATE_KEY_ALGORITHM: "),
        (
            &[signed, ("P_PRIVATE_KEY_ALGORITHM", "HS256")][..],
            "P_PRIVATE_KEY_ALGORITHM: the value is unknown: use one of RS256, ",
        ),
    ] {
        let error = signing(extra, empty()).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{error}");
    }
    // Otherwise a weaker method would be used without notice. A key file is not read.
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
            let hint = format!("set {METHOD} to private_key_jwt, or remove this variable");
            let expected = format!("{what}: it requires the method private_key_jwt, which is not set: {hint}");
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
    // AccessPSP documents only client_secret_post.
    let mut variables = all();
    variables.extend([(METHOD, "client_secret_basic".into()), ("P_AUDIENCE", "a".into())]);
    let psp = with(&variables, |v| empty().read(v)).unwrap().build().unwrap();
    let shown = format!("{psp:?}");
    assert!(shown.contains("Post(Secret(value))") && shown.contains("audience: None"), "{shown}");
}

// A secret from a file is read again for each fetch.
#[test]
fn a_secret_from_a_file_keeps_its_path() {
    let files = Files::new();
    let path = files.holding("secret", b"old\n");
    let secret = with(&[("P_KEY_FILE", path.clone().into())], |v| v.secret("KEY"));
    let shown = format!("{:?}", secret.unwrap().unwrap());
    assert!(shown.contains(&path.display().to_string()), "{shown}");
    assert!(Path::new(&path).exists());
}

#[test]
fn every_named_value_has_one_name_and_an_unknown_one_lists_them() {
    fn round_trip<T>(values: &[T], setting: &str, names: &str)
    where
        T: std::str::FromStr<Err = ConfigError> + std::fmt::Display + std::fmt::Debug + PartialEq,
    {
        for value in values {
            assert_eq!(value.to_string().parse::<T>().as_ref().ok(), Some(value));
        }
        let listed: Vec<String> = values.iter().map(T::to_string).collect();
        assert_eq!(listed.join(", "), names);
        for unknown in ["", "CANARY", &listed[0].to_uppercase().replace(|c: char| c.is_ascii_digit(), "x")] {
            let error = unknown.parse::<T>().unwrap_err();
            assert_eq!(error.to_string(), format!("{setting}: the value is unknown: use one of {names}"));
        }
    }
    use BasicEncoding::{Form, Percent, Raw};
    use SigningAlgorithm::{EdDsa, Es256, Ps256, Rs256};
    round_trip(&[Percent, Form, Raw], "basic_encoding", "percent, form, raw");
    round_trip(&[Rs256, Ps256, Es256, EdDsa], "algorithm", "RS256, PS256, ES256, EdDSA");
    #[cfg(feature = "aeropay")]
    {
        use crate::aeropay::{ApiVersion, Environment, MerchantIdForm};
        round_trip(&[Environment::Sandbox, Environment::Production], "environment", "sandbox, production");
        round_trip(&[ApiVersion::V1, ApiVersion::V2], "api_version", "1, 2");
        round_trip(&[MerchantIdForm::Number, MerchantIdForm::String], "merchant_id_form", "number, string");
    }
}

// A header of API requests does not change, so its secret is loaded in `build`.
#[test]
fn an_api_header_from_a_function_is_loaded_once() {
    use crate::providers::Secret;
    use crate::{Error, TokenProvider as _};
    let builder = |secret: Secret| {
        ClientCredentialsBuilder::default()
            .client_id("id")
            .client_secret("secret")
            .token_url("https://issuer.test/token")
            .api_origin("https://api.test")
            .api_header("x-api-key", secret)
    };
    let provider = builder(Secret::from_fn(|| Ok("the-key".into()))).build().unwrap();
    assert_eq!(provider.api_headers()["x-api-key"], "the-key");
    let error = builder(Secret::from_fn(|| Err(Error::transient("vault")))).build().unwrap_err();
    assert_eq!(error.to_string(), "api_header: it could not be loaded");
    let error = builder(Secret::from_fn(|| Ok("a\nb".into()))).build().unwrap_err();
    assert_eq!(error.setting(), "api_header");
}
