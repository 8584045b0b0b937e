use std::collections::BTreeSet;
use std::error::Error as StdError;

use super::*;

/// Every kind, its label, what it prints, and whether it is transient by default.
const KINDS: [(ErrorKind, &str, &str, bool); 16] = [
    (ErrorKind::InvalidCredentials, "invalid_credentials", "the issuer rejects the credentials", false),
    (ErrorKind::InvalidRequest, "invalid_request", "invalid request", false),
    (ErrorKind::Throttled, "throttled", "the issuer limits the rate of token requests", true),
    (ErrorKind::Unavailable, "unavailable", "the issuer is unavailable", true),
    (ErrorKind::Tls, "tls", "the TLS connection to the issuer fails", false),
    (ErrorKind::Timeout, "timeout", "timed out", true),
    (ErrorKind::MalformedResponse, "malformed_response", "the issuer's response is malformed", true),
    (ErrorKind::UnsupportedTokenType, "unsupported_token_type", "unsupported token type", false),
    (ErrorKind::MissingKey, "missing_key", "the request names no identity", false),
    (ErrorKind::NoOrigin, "no_origin", "the origin may not receive the token", false),
    (ErrorKind::InsecureUrl, "insecure_url", "the URL is not encrypted", false),
    (ErrorKind::NoRuntime, "no_runtime", "no usable tokio runtime", false),
    (ErrorKind::Reentrant, "reentrant", "the provider waits for its own token", false),
    (ErrorKind::Panicked, "panicked", "the provider panicked", true),
    (ErrorKind::Config, "config", "invalid configuration", false),
    (ErrorKind::Other, "other", "the token request failed", true),
];

#[test]
fn each_kind_has_a_label_and_a_phrase() {
    for (kind, label, phrase, transient) in KINDS {
        assert_eq!((kind.as_str(), kind.to_string()), (label, phrase.to_owned()));
        assert_eq!(Error::new(kind, "m").is_transient(), transient, "{label}");
        assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
    }
    let labels: BTreeSet<_> = KINDS.iter().map(|(_, label, ..)| label).collect();
    let phrases: BTreeSet<_> = KINDS.iter().map(|(_, _, phrase, _)| phrase).collect();
    assert_eq!((labels.len(), phrases.len()), (KINDS.len(), KINDS.len()), "no two kinds share one");
}

#[cfg(feature = "metrics")]
#[test]
fn the_list_of_all_kinds_is_complete() {
    assert_eq!(ErrorKind::ALL, KINDS.map(|(kind, ..)| kind));
}

#[test]
fn a_config_error_prints_the_setting_the_reason_and_the_hint() {
    let error = ConfigError::new("token_url", "required when `client_id` is set");
    assert_eq!((error.setting(), error.hint()), ("token_url", None));
    assert_eq!(error.to_string(), "token_url: required when `client_id` is set");
    assert!(error.source().is_none());

    let error = error.with_hint("set\nTOKEN_URL").with_source("no such variable");
    assert_eq!((error.setting(), error.hint()), ("token_url", Some("set\nTOKEN_URL")));
    assert_eq!(error.to_string(), "token_url: required when `client_id` is set: set TOKEN_URL", "one line");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("no such variable"));
    assert_eq!(format!("{:?}", error.clone()), format!("{error:?}"));
    assert!(format!("{error:?}").contains("no such variable"));
}

#[test]
fn a_config_error_becomes_a_permanent_error_with_the_same_text() {
    fn converts() -> Result<(), Error> {
        Err(ConfigError::new("scope", "empty").with_hint("name a scope").with_source("cause"))?;
        Ok(())
    }
    let error = converts().unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false));
    assert_eq!((error.to_string().as_str(), error.hint()), ("scope: empty: name a scope", Some("name a scope")));
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("cause"));
}

#[test]
fn an_error_prints_one_line_without_its_source() {
    let error = Error::new(ErrorKind::InvalidCredentials, "the issuer\r\nrejects us")
        .with_status(StatusCode::UNAUTHORIZED)
        .with_code("invalid_client")
        .with_hint("check the secret")
        .with_source("cause");
    assert_eq!(error.to_string(), "the issuer  rejects us (HTTP 401, invalid_client): check the secret");
    assert_eq!(error.clone().with_code("not a code").code(), Some("invalid_client"), "an invalid code is ignored");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("cause"));
}

#[test]
fn a_not_sent_shows_the_kind_and_leads_to_the_error() {
    for (kind, _, phrase, _) in KINDS {
        let error = NotSent::new(Error::new(kind, "message"));
        assert_eq!(error.to_string(), format!("request not sent: {phrase}"));
        let found = Error::find(&error).map(Error::kind);
        assert_eq!((found, error.error().kind(), error.clone().into_error().kind()), (Some(kind), kind, kind));
    }
}

// R50: the request was sent once, so nothing in it may say otherwise.
#[test]
fn a_not_replayed_shows_the_kind_and_is_not_found_as_an_error_of_this_crate() {
    let error = NotReplayed::rotated(Error::new(ErrorKind::InvalidCredentials, "message"));
    let text = "request rejected, and not replayed because the credentials were rotated and there is no new token: \
                the issuer rejects the credentials";
    assert_eq!(error.to_string(), text);
    assert!(error.source().is_none());
    assert!(Error::find(&error).is_none());
    let kind = ErrorKind::InvalidCredentials;
    assert_eq!((error.error().kind(), error.clone().into_error().kind()), (kind, kind));
    let boxed: BoxError = error.into();
    assert!(boxed.is::<NotReplayed>() && !boxed.is::<NotSent>());
}
