//! A variable that is required and not set.

use super::{all, with};
use crate::providers::client_credentials::ClientCredentialsBuilder;
use crate::{AccessPsp, AccessPspBuilder, ConfigError, TokenProvider};

#[test]
fn an_error_names_a_missing_variable() {
    for missing in ["P_CLIENT_ID", "P_CLIENT_SECRET"] {
        let mut some = all();
        some.retain(|(name, _)| *name != missing);
        let error = with(&some, |v| ClientCredentialsBuilder::default().read(v)).map(drop).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{missing}: ")), "{error}");
        assert!(error.to_string().contains(&format!("{missing}_FILE")), "{error}");
    }
}

/// Reads the credentials and these variables.
fn read(builder: AccessPspBuilder, set: &[(&str, &str)]) -> Result<AccessPspBuilder, ConfigError> {
    let credentials = [("P_CLIENT_ID", "id"), ("P_CLIENT_SECRET", "secret")];
    let variables: Vec<_> = credentials.iter().chain(set).map(|(name, value)| (*name, value.into())).collect();
    with(&variables, |v| builder.read(v))
}

#[track_caller]
fn incomplete(builder: AccessPspBuilder, set: &[(&str, &str)]) -> String {
    let error = read(builder, set).unwrap_err();
    assert!(!error.to_string().contains("CANARY"), "{error}");
    error.to_string()
}

// The names of builder methods do not help somebody who sets variables.
#[test]
fn an_incomplete_environment_is_an_error_that_names_the_missing_variables() {
    let both = "set P_TOKEN_URL and P_API_ORIGINS";
    let (name, url, origins) =
        (("P_ENVIRONMENT", "CANARY"), ("P_TOKEN_URL", "https://CANARY.test"), ("P_API_ORIGINS", "https://CANARY.test"));
    for set in [&[url][..], &[name, url]] {
        let shown = incomplete(AccessPsp::builder(), set);
        assert_eq!(shown, format!("P_API_ORIGINS: it is not set, but the token URL is: {both}"));
    }
    for set in [&[origins][..], &[name, origins]] {
        let shown = incomplete(AccessPsp::builder(), set);
        assert_eq!(shown, format!("P_TOKEN_URL: it is not set, but the API origins are: {both}"));
    }
    let alone = format!("P_ENVIRONMENT: its token URL and API origins are missing: {both}");
    assert_eq!(incomplete(AccessPsp::builder(), &[name]), alone);
    assert_eq!(incomplete(AccessPsp::builder().environment("staging"), &[]), alone);
}

#[test]
fn an_environment_may_be_set_partly_by_variables_and_partly_by_the_builder() {
    let staging = AccessPsp::builder().token_url("https://issuer.test").api_origin("https://api.test");
    for (builder, set, label) in [
        (staging, &[("P_ENVIRONMENT", "staging")][..], "staging"),
        (AccessPsp::builder(), &[("P_ENVIRONMENT", "production")], "production"),
        (AccessPsp::builder(), &[], "production"),
    ] {
        assert_eq!(read(builder, set).unwrap().build().unwrap().label(), label);
    }
}
