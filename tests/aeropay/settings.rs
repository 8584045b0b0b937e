//! What the builder takes, and what it says of what it does not take.

use tower_bearer_auth::aeropay::{ApiVersion, Credentials, Environment, MerchantIdForm};
use tower_bearer_auth::{Aeropay, AeropayBuilder, Error, ErrorKind, TokenProvider as _};

use crate::fake::{Issuer, SECRET, provider, settings};

fn own(url: &str) -> AeropayBuilder {
    Aeropay::builder().base_url(url).api_key("key").api_secret(SECRET).merchant_id(1).http_client(nobody())
}

fn nobody() -> Issuer {
    Issuer::answering(500, "")
}

#[test]
fn token_url_and_origins_are_set_together_and_debug_names_the_environment() {
    for (environment, name, origin) in [
        (Environment::Sandbox, "sandbox", "https://api.sandbox-pay.aero.inc"),
        (Environment::Production, "production", "https://api.aeropay.com"),
    ] {
        let provider = Aeropay::builder()
            .environment(environment)
            .api_key("the-key")
            .api_secret(SECRET)
            .merchant_id(1057)
            .http_client(nobody())
            .build()
            .unwrap();
        assert_eq!(provider.label(), name);
        assert_eq!(format!("{:?}", provider.origins()), format!("[{origin}]"));
        let shown = format!("{provider:?}");
        assert!(shown.contains(name) && shown.contains(origin) && shown.contains("1057"), "{shown}");
        assert!(!shown.contains("CANARY") && !shown.contains("the-key"), "{shown}");
    }
    let provider = own("https://aeropay.test:8443/base").build().unwrap();
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
            .http_client(nobody())
            .build()
            .unwrap()
            .version(),
        ApiVersion::V1
    );
}

#[track_caller]
fn refused(built: Result<Aeropay, Error>, kind: ErrorKind, begins: &str) {
    let error = built.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with(begins), "{error}");
    assert!(!error.is_transient());
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    use ErrorKind::{Config, InsecureUrl};
    let whole = || settings(ApiVersion::V1, nobody());
    let none = || Aeropay::builder().environment(Environment::Sandbox).http_client(nobody());
    refused(none().build(), Config, "merchant_id: ");
    refused(none().merchant_id(1).build(), Config, "api_key: ");
    refused(none().merchant_id(1).api_key("k").build(), Config, "api_secret: ");
    refused(none().api_key("k").api_secret("s").build(), Config, "merchant_id: ");
    refused(Aeropay::builder().api_key("k").api_secret("s").merchant_id(1).build(), Config, "environment: ");
    refused(whole().base_url("https://aeropay.test").build(), Config, "base_url: ");
    refused(whole().api_key("").build(), Config, "api_key: ");
    refused(whole().api_secret("CANARY\n").build(), Config, "api_secret: ");
    refused(whole().merchant_id("").build(), Config, "merchant_id: ");
    refused(whole().token_header("content-type", "x").build(), Config, "token_header: ");
    refused(whole().token_header("x-api-version", "1\n1").build(), Config, "token_header: ");
    refused(whole().timeout(std::time::Duration::ZERO).build(), Config, "timeout: ");
    for url in [
        "",
        "aeropay",
        "ftp://aeropay.test",
        "https://CANARY@aeropay.test",
        "https://a.test?CANARY",
        "https://a.test/#CANARY",
    ] {
        refused(own(url).build(), Config, "base_url: ");
    }
    refused(own("http://aeropay.test").build(), InsecureUrl, "base_url: ");
    own("http://127.0.0.1:9").build().unwrap();
}

#[test]
fn a_merchant_s_id_is_sent_as_a_number_only_if_it_is_one() {
    let with = |id: &str, form| settings(ApiVersion::V1, nobody()).merchant_id(id).merchant_id_form(form).build();
    for odd in ["x", "007", "-1", "1.5", " 1", "1 ", "+1", "99999999999999999999999"] {
        refused(with(odd, MerchantIdForm::Number), ErrorKind::Config, "merchant_id: ");
        with(odd, MerchantIdForm::String).unwrap();
    }
    for number in ["0", "1057", "18446744073709551615"] {
        with(number, MerchantIdForm::Number).unwrap();
    }
    let v2 = settings(ApiVersion::V2, nobody()).merchant_id("not-a-number").build();
    refused(v2, ErrorKind::Config, "merchant_id: ");
}

#[test]
fn a_platform_needs_no_merchant_of_its_own() {
    let lookup = |_: &_| Ok(Credentials::new("key", "secret"));
    let platform =
        || Aeropay::builder().environment(Environment::Sandbox).http_client(nobody()).credentials_for(lookup);
    platform().build().unwrap();
    refused(platform().merchant_id(1).build(), ErrorKind::Config, "api_key: ");
    platform().merchant_id(1).api_key("k").api_secret("s").build().unwrap();
}

#[test]
fn nothing_shown_has_a_secret_in_it() {
    let lookup = |_: &_| Ok(Credentials::new("CANARY-key", SECRET));
    let builder = settings(ApiVersion::V1, nobody()).credentials_for(lookup).token_header("x-canary", "CANARY");
    let shown = format!("{builder:?} {:?} {:?}", Credentials::new("CANARY", SECRET), builder);
    assert!(!shown.contains("CANARY"), "{shown}");
    let provider = builder.build().unwrap();
    assert!(!format!("{provider:?}").contains("CANARY"), "{provider:?}");
}
