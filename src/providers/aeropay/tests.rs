use std::ffi::OsString;

use super::{Aeropay, AeropayBuilder, ApiVersion, Credentials, Environment, MerchantIdForm};
use crate::error::ConfigError;
use crate::providers::env::Variables;
use crate::token_endpoint::TokenClient;

fn read(builder: AeropayBuilder, variables: &[(&str, &str)]) -> Result<Aeropay, ConfigError> {
    let lookup =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let client = tower::service_fn(|_: http::Request<bytes::Bytes>| async {
        Err::<http::Response<http_body_util::Full<bytes::Bytes>>, _>(std::io::Error::other("no request is sent"))
    });
    builder.read(&Variables::new("P", &lookup)?)?.http_client(TokenClient::new(client)).build()
}

const NEEDED: [(&str, &str); 3] = [("P_API_KEY", "key"), ("P_API_SECRET", "CANARY"), ("P_MERCHANT_ID", "1057")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    NEEDED.iter().chain(more).copied().collect()
}

#[test]
fn every_setting_has_its_variable() {
    let built = read(Aeropay::builder(), &with(&[("P_ENVIRONMENT", "production")])).unwrap();
    assert_eq!(
        (built.environment.as_str(), built.version, built.id_form),
        ("production", ApiVersion::V1, MerchantIdForm::String)
    );
    let (id, credentials) = built.merchant.as_ref().unwrap();
    assert_eq!(id.as_str(), "1057");
    assert_eq!(credentials.api_key.peek().unwrap().expose_secret(), "key");
    assert_eq!(credentials.api_secret.peek().unwrap().expose_secret(), "CANARY");
    let more = [("P_BASE_URL", "https://aeropay.test/x"), ("P_API_VERSION", "2"), ("P_MERCHANT_ID_FORM", "string")];
    let built = read(Aeropay::builder(), &with(&more)).unwrap();
    assert_eq!(
        (built.environment.as_str(), built.version, built.id_form),
        ("https://aeropay.test", ApiVersion::V2, MerchantIdForm::String)
    );
    assert_eq!(built.base_path, "/x");
    // A setting of the builder stays if its variable is not set.
    let builder = Aeropay::builder().environment(Environment::Sandbox).api_version(ApiVersion::V2);
    let built = read(builder, &NEEDED).unwrap();
    assert_eq!(
        (built.environment.as_str(), built.version, built.id_form),
        ("sandbox", ApiVersion::V2, MerchantIdForm::Number)
    );
}

#[test]
fn an_error_names_a_missing_or_invalid_variable_without_its_value() {
    for (missing, _) in NEEDED {
        let mut some = with(&[("P_ENVIRONMENT", "sandbox")]);
        some.retain(|(name, _)| *name != missing);
        let error = read(Aeropay::builder(), &some).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{missing}: ")), "{error}");
    }
    for invalid in [
        ("P_ENVIRONMENT", "CANARY"),
        ("P_ENVIRONMENT", "Sandbox"),
        ("P_API_VERSION", "CANARY"),
        ("P_API_VERSION", "v2"),
        ("P_MERCHANT_ID_FORM", "CANARY"),
    ] {
        let error = read(Aeropay::builder().environment(Environment::Sandbox), &with(&[invalid])).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: ", invalid.0)), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
    let both = with(&[("P_ENVIRONMENT", "sandbox"), ("P_BASE_URL", "https://aeropay.test")]);
    assert!(read(Aeropay::builder(), &both).unwrap_err().to_string().starts_with("base_url: "));
    assert!(read(Aeropay::builder(), &NEEDED).unwrap_err().to_string().starts_with("environment: "));
}

#[test]
fn a_platform_needs_no_credentials_in_its_environment() {
    let platform = || Aeropay::builder().credentials_for(|_| Ok(Credentials::new("key", "secret")));
    assert!(read(platform(), &[("P_ENVIRONMENT", "sandbox")]).unwrap().merchant.is_none());
    let error = read(platform(), &[("P_ENVIRONMENT", "sandbox"), ("P_API_KEY", "key")]).unwrap_err();
    assert!(error.to_string().starts_with("P_API_SECRET: "), "{error}");
}
