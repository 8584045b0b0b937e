//! Which settings the builder accepts, and its errors.

use tower_bearer_auth::aeropay::{ApiVersion, Credentials, Environment, MerchantIdForm};
use tower_bearer_auth::{Aeropay, AeropayBuilder, ConfigError, Error, ErrorKind, TokenProvider as _};

use super::fake::{SECRET, provider, settings, unused};

fn at(url: &str) -> AeropayBuilder {
    Aeropay::builder().base_url(url).api_key("key").api_secret(SECRET).merchant_id(1).http_client(unused())
}

#[test]
fn an_environment_sets_the_token_url_and_the_origins_and_debug_names_it() {
    for (environment, name, origin) in [
        (Environment::Sandbox, "sandbox", "https://api.sandbox-pay.aero.inc"),
        (Environment::Production, "production", "https://api.aeropay.com"),
    ] {
        let provider = Aeropay::builder()
            .environment(environment)
            .api_key("the-key")
            .api_secret(SECRET)
            .merchant_id(1057)
            .http_client(unused())
            .build()
            .unwrap();
        assert_eq!(provider.label(), name);
        assert_eq!(format!("{:?}", provider.origins()), format!("[{origin}]"));
        let shown = format!("{provider:?}");
        assert!(shown.contains(name) && shown.contains(origin) && shown.contains("1057"), "{shown}");
        assert!(!shown.contains("CANARY") && !shown.contains("the-key"), "{shown}");
    }
    let provider = at("https://aeropay.test:8443/base").build().unwrap();
    assert_eq!(provider.label(), "https://aeropay.test:8443");
    assert_eq!(format!("{:?}", provider.origins()), "[https://aeropay.test:8443]");
}

#[test]
fn each_version_has_its_header() {
    assert_eq!(provider(ApiVersion::V1).header(), "authorizationtoken");
    assert_eq!(provider(ApiVersion::V2).header(), "authorization");
    assert_eq!(
        Aeropay::builder()
            .environment(Environment::Sandbox)
            .api_key("k")
            .api_secret("s")
            .merchant_id(1)
            .http_client(unused())
            .build()
            .unwrap()
            .api_version(),
        ApiVersion::V1
    );
}

#[track_caller]
fn rejected(built: Result<Aeropay, ConfigError>, setting: &str, reason: &str) {
    let error = built.unwrap_err();
    assert_eq!(error.setting(), setting, "{error}");
    assert!(error.to_string().starts_with(&format!("{setting}: ")), "{error}");
    assert!(error.to_string().contains(reason), "{reason}: {error}");
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.is_transient());
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn an_error_names_the_missing_or_invalid_setting() {
    let complete = || settings(ApiVersion::V1, unused());
    let without_credentials = || Aeropay::builder().environment(Environment::Sandbox).http_client(unused());
    rejected(without_credentials().build(), "merchant_id", "");
    rejected(without_credentials().merchant_id(1).build(), "api_key", "");
    rejected(without_credentials().merchant_id(1).api_key("k").build(), "api_secret", "");
    rejected(without_credentials().api_key("k").api_secret("s").build(), "merchant_id", "");
    rejected(Aeropay::builder().api_key("k").api_secret("s").merchant_id(1).build(), "environment", "");
    rejected(complete().base_url("https://aeropay.test").build(), "base_url", "");
    rejected(complete().api_key("").build(), "api_key", "");
    rejected(complete().api_secret("CANARY\n").build(), "api_secret", "");
    rejected(complete().merchant_id("").build(), "merchant_id", "");
    rejected(complete().token_header("content-type", "x").build(), "token_header", "");
    rejected(complete().token_header("x-api-version", "1\n1").build(), "token_header", "");
    rejected(complete().timeout(std::time::Duration::ZERO).build(), "timeout", "");
    for url in [
        "",
        "aeropay",
        "ftp://aeropay.test",
        "https://CANARY@aeropay.test",
        "https://a.test?CANARY",
        "https://a.test/#CANARY",
    ] {
        rejected(at(url).build(), "base_url", "");
    }
    rejected(at("http://aeropay.test").build(), "base_url", "clear text");
    at("http://127.0.0.1:9").build().unwrap();
}

#[test]
fn a_merchant_s_id_is_sent_as_a_number_only_if_it_is_one() {
    let with = |id: &str, form| settings(ApiVersion::V1, unused()).merchant_id(id).merchant_id_form(form).build();
    for invalid in ["x", "007", "-1", "1.5", " 1", "1 ", "+1", "99999999999999999999999"] {
        rejected(with(invalid, MerchantIdForm::Number), "merchant_id", "");
        with(invalid, MerchantIdForm::String).unwrap();
    }
    for number in ["0", "1057", "18446744073709551615"] {
        with(number, MerchantIdForm::Number).unwrap();
    }
    let v2 = settings(ApiVersion::V2, unused()).merchant_id("not-a-number").build();
    rejected(v2, "merchant_id", "");
}

#[test]
fn a_platform_needs_no_merchant_of_its_own() {
    let lookup = |_: &_| Ok(Credentials::new("key", "secret"));
    let platform =
        || Aeropay::builder().environment(Environment::Sandbox).http_client(unused()).credentials_for(lookup);
    platform().build().unwrap();
    rejected(platform().merchant_id(1).build(), "api_key", "");
    platform().merchant_id(1).api_key("k").api_secret("s").build().unwrap();
}

#[test]
fn no_secret_is_printed() {
    let lookup = |_: &_| Ok(Credentials::new("CANARY-key", SECRET));
    let builder = settings(ApiVersion::V1, unused()).credentials_for(lookup).token_header("x-canary", "CANARY");
    let shown = format!("{builder:?} {:?} {:?}", Credentials::new("CANARY", SECRET), builder);
    assert!(!shown.contains("CANARY"), "{shown}");
    let provider = builder.build().unwrap();
    assert!(!format!("{provider:?}").contains("CANARY"), "{provider:?}");
}
