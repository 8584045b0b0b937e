//! The token request in both versions: what is sent, and what each documented response becomes, according to Aeropay's
//! pages.

use std::time::Duration;

use tower_bearer_auth::aeropay::{ApiVersion, Credentials, Environment, Identity, MerchantIdForm};
use tower_bearer_auth::{Aeropay, Error, ErrorKind, FetchContext, IssuedToken, TokenProvider as _, TokenSource};

use super::fake::{SECRET, bodies, settings, token_endpoint, unused};

const GOOD: &str = r#"{"TTL": 1800, "token": "eyJ0eXAiOiJKV1Qi.e30.c2ln"}"#;
const BOTH: [ApiVersion; 2] = [ApiVersion::V1, ApiVersion::V2];

fn user() -> Identity {
    Identity::user("27bccca2-d345-4620-9987-3f3854abcd51")
}

async fn sent(version: ApiVersion, form: Option<MerchantIdForm>, key: &Identity) -> String {
    let issuer = token_endpoint(200, GOOD);
    let mut builder = settings(version, issuer.clone());
    if let Some(form) = form {
        builder = builder.merchant_id_form(form);
    }
    builder.build().unwrap().fetch(key, &FetchContext::default()).await.unwrap();
    let call = issuer.sends().remove(0);
    assert_eq!(call.method(), "POST");
    let path = if version == ApiVersion::V1 { "/token" } else { "/v2/token" };
    assert_eq!(call.uri().to_string(), format!("https://api.sandbox-pay.aero.inc{path}"));
    assert_eq!(call.headers()["content-type"], "application/json");
    assert_eq!(call.headers()["accept"], "application/json");
    assert!(!call.headers().contains_key("authorization") && !call.headers().contains_key("authorizationtoken"));
    String::from_utf8(call.body().to_vec()).unwrap()
}

// Aeropay's page on the token request: the fields of the body.
#[tokio::test]
async fn each_version_has_its_own_token_request() {
    let secret = serde_json::to_string(SECRET).unwrap();
    let v1 = |id: &str, scope: &str, user: &str| {
        format!(r#"{{"scope":"{scope}","api_key":"the-key","api_secret":{secret},"id":{id}{user}}}"#)
    };
    let v2 = |id: &str, scope: &str, user: &str| {
        format!(r#"{{"scope":"{scope}","apiKey":"the-key","apiSecret":{secret},"id":{id}{user}}}"#)
    };
    let of_user = r#","userId":"27bccca2-d345-4620-9987-3f3854abcd51""#;
    let (number, string) = (Some(MerchantIdForm::Number), Some(MerchantIdForm::String));
    let merchant = Identity::merchant();
    assert_eq!(sent(ApiVersion::V1, None, &merchant).await, v1("\"1057\"", "merchant", ""));
    assert_eq!(sent(ApiVersion::V1, None, &user()).await, v1("\"1057\"", "userForMerchant", of_user));
    assert_eq!(sent(ApiVersion::V1, number, &merchant).await, v1("1057", "merchant", ""));
    assert_eq!(sent(ApiVersion::V2, None, &merchant).await, v2("1057", "merchant", ""));
    assert_eq!(sent(ApiVersion::V2, None, &user()).await, v2("1057", "userForMerchant", of_user));
    assert_eq!(sent(ApiVersion::V2, string, &merchant).await, v2("\"1057\"", "merchant", ""));
}

#[tokio::test]
async fn a_token_header_is_sent_with_token_requests_only() {
    let issuer = token_endpoint(200, GOOD);
    let provider = settings(ApiVersion::V1, issuer.clone()).token_header("X-API-Version", "1.1").build().unwrap();
    provider.fetch(&Identity::merchant(), &FetchContext::default()).await.unwrap();
    assert_eq!(issuer.sends()[0].headers()["x-api-version"], "1.1");
    assert!(provider.api_headers().is_empty());
}

async fn outcome(status: u16, body: &str, key: &Identity) -> Result<IssuedToken, Error> {
    let mut outcomes = Vec::new();
    for version in BOTH {
        outcomes.push(
            settings(version, token_endpoint(status, body.to_owned()))
                .build()
                .unwrap()
                .fetch(key, &FetchContext::default())
                .await,
        );
    }
    // Both versions read all forms, because Aeropay's pages disagree about which version sends which.
    let shown: Vec<_> = outcomes.iter().map(|outcome| format!("{outcome:?}")).collect();
    assert_eq!(shown[0], shown[1], "{status} {body}");
    outcomes.remove(0)
}

async fn failure(status: u16, body: &str, key: &Identity) -> Error {
    let error = outcome(status, body, key).await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{body}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
    error
}

/// The code in every form that Aeropay documents (2.6), with misleading texts.
fn forms(code: &str) -> Vec<String> {
    vec![
        // E1, E1'
        format!(r#"{{"success": false, "code": "{code}", "error": "CANARY AP007 token expired"}}"#),
        format!(r#"{{"success": 0, "code": "{code}", "error": "CANARY invalid API key"}}"#),
        // E2, E2'
        format!(r#"{{"success": false, "error": {{"code": "{code}", "message": "CANARY Account locked"}}}}"#),
        format!(r#"{{"success": 0, "error": {{"code": "{code}", "message": "CANARY"}}}}"#),
        // E3
        format!(r#"{{"error": {{"help": "contact CANARY", "code": "{code}", "message": "CANARY"}}}}"#),
        format!(r#"{{"error": {{"code": "{code}"}}}}"#),
        // E4
        format!(r#"{{"success": false, "code": "{code}", "error": "CANARY. We are having issues"}}"#),
        // A token next to an error is ignored.
        format!(r#"{{"success": false, "code": "{code}", "error": "x", "token": "CANARY", "TTL": 1800}}"#),
        // The code in `error` takes precedence. It is the newer form.
        format!(r#"{{"success": false, "code": "AP999", "error": {{"code": "{code}"}}}}"#),
    ]
}

/// 2.7, with the documented statuses: 200 in version 1, and those of version 2.
const CODES: [(&str, &[u16], ErrorKind, &str); 16] = [
    ("AP001", &[200, 400, 401], ErrorKind::InvalidCredentials, "check the API key and secret"),
    ("AP002", &[200, 400, 401], ErrorKind::InvalidCredentials, "belong to this environment"),
    ("AP003", &[200, 401], ErrorKind::InvalidCredentials, "contact Aeropay"),
    ("AP004", &[200, 401], ErrorKind::InvalidRequest, "API version"),
    ("AP005", &[200, 401], ErrorKind::Unavailable, "refresh your session"),
    ("AP006", &[200, 401], ErrorKind::InvalidRequest, "use the correct scope"),
    ("AP007", &[200, 401], ErrorKind::Unavailable, "retrieve a new token"),
    ("AP008", &[200, 401], ErrorKind::Unavailable, "retrieve a new token"),
    ("AP009", &[200, 401], ErrorKind::InvalidCredentials, "check the merchant id"),
    ("AP010", &[200, 401], ErrorKind::InvalidCredentials, "scope"),
    ("AP011", &[200, 401], ErrorKind::InvalidCredentials, "scope"),
    ("AP101", &[200, 401], ErrorKind::Unavailable, "correct token and token scope"),
    ("AP700", &[200, 400], ErrorKind::InvalidRequest, "fix the request"),
    ("AP701", &[200, 400], ErrorKind::InvalidRequest, "fix the request"),
    ("AP800", &[200], ErrorKind::InvalidRequest, "contact Aeropay"),
    ("AP317", &[200], ErrorKind::Throttled, "wait a few minutes"),
];

#[tokio::test]
async fn the_code_decides_in_every_form_and_with_every_status() {
    for (code, statuses, kind, hint) in CODES {
        for status in statuses.iter().copied() {
            for body in forms(code) {
                let error = failure(status, &body, &Identity::merchant()).await;
                assert_eq!(error.kind(), kind, "{status} {body}");
                assert_eq!(error.code(), Some(code), "{status} {body}");
                assert!(error.hint().unwrap().contains(hint), "{error}");
                let is_transient = matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled);
                assert_eq!(error.is_transient(), is_transient, "{status} {body}");
            }
        }
    }
}

// E5, E6, E7, E8, and bodies without a known code: the status decides. With a 200, the error is unknown.
#[tokio::test]
async fn without_a_known_code_the_status_decides_and_never_the_text() {
    use ErrorKind::{Config, InvalidCredentials, InvalidRequest, Other};
    for (status, body, kind) in [
        (400, r#"{"code": "INVALID_FORMAT", "message": "AP002 invalid API key or secret key"}"#, InvalidRequest),
        (400, r#"{"code": "MISSING_PARAMETER", "message": "Account locked"}"#, InvalidRequest),
        (200, r#"{"error": "Error generating totals"}"#, Other),
        (200, r#"{"error": "Invalid API key or secret key"}"#, Other),
        (200, r#"{"error": "AP002"}"#, Other),
        (200, r#"{"success": false, "error": "Token has expired"}"#, Other),
        (200, r#"{"success": false}"#, Other),
        (200, r#"{"success": 0, "error": null}"#, Other),
        (200, r#"{"error": {"code": "ApError", "message": "Transaction not found"}}"#, Other),
        (400, r#"{"error": {"code": "VALIDATION_ERROR", "message": "AP002"}}"#, InvalidRequest),
        (401, r#"{"error": {"code": "VALIDATION_ERROR", "message": "AP700"}}"#, InvalidCredentials),
        (403, r#"{"message":"Missing Authentication Token"}"#, Config),
        (403, "", Config),
        (404, "", Config),
        (405, "", Config),
        (400, "", InvalidRequest),
        (401, "", InvalidCredentials),
        (401, r#"{"error": {"message": "invalid API key or secret key"}}"#, InvalidCredentials),
        (401, r#"{"error": {"code": 2}}"#, InvalidCredentials),
        (400, r#"{"error": {"code": "ap002"}}"#, InvalidRequest),
        (400, r#"{"error": {"code": "AP002 "}}"#, InvalidRequest),
        (400, r#"{"error": {"code": "AP9999CANARY"}}"#, InvalidRequest),
        (400, r#"{"error": [{"code": "AP002"}]}"#, InvalidRequest),
        (400, r#"[{"error": {"code": "AP002"}}]"#, InvalidRequest),
        (400, r#"{"error": {"code": "AP002"}, "error": {"code": "AP003"}}"#, InvalidRequest),
        (400, r#"{"error": {"code": "AP002"}"#, InvalidRequest),
        (400, "<html>AP002</html>", InvalidRequest),
    ] {
        let error = failure(status, body, &Identity::merchant()).await;
        assert_eq!(error.kind(), kind, "{status} {body}");
        assert_eq!(error.code(), None, "{status} {body}");
        assert_eq!(error.is_transient(), kind == Other, "{status} {body}");
    }
    for status in [408, 429, 500, 502, 503] {
        let error = failure(status, r#"{"error": {"code": "AP002"}}"#, &Identity::merchant()).await;
        assert!(error.is_transient(), "{status}");
    }
}

// 2.7: AP002 has two meanings for a user's token, and one for the merchant's.
#[tokio::test]
async fn the_hint_of_ap002_differs_for_a_user_and_for_the_merchant() {
    for text in ["Invalid API key or secret key", "User ID doesn't exist or hasn't been associated with this merchant."]
    {
        for (status, body) in [
            (200, format!(r#"{{"success": false, "error": {{"code": "AP002", "message": "{text}"}}}}"#)),
            (400, format!(r#"{{"error": {{"code": "AP002", "message": "{text}"}}}}"#)),
            (401, format!(r#"{{"error": {{"code": "AP002", "message": "{text}"}}}}"#)),
        ] {
            let of_user = failure(status, &body, &user()).await;
            assert_eq!(of_user.kind(), ErrorKind::InvalidCredentials);
            assert_eq!(of_user.code(), Some("AP002"));
            assert!(!of_user.is_transient());
            assert!(of_user.hint().unwrap().contains("confirmUser"), "{of_user}");
            let of_merchant = failure(status, &body, &Identity::merchant()).await;
            assert!(!of_merchant.hint().unwrap().contains("confirmUser"), "{of_merchant}");
            assert!(!of_merchant.is_transient());
        }
    }
}

// 2.4 and 2.6: responses that look like an error and are a success.
#[tokio::test]
async fn an_error_that_is_null_is_ignored() {
    for body in [
        GOOD,
        r#"{"success": true, "error": null, "TTL": 1800, "token": "abc"}"#,
        r#"{"error": null, "TTL": 1800, "token": "abc"}"#,
        r#"{"success": 1, "TTL": 1800, "token": "abc"}"#,
        r#"{"token": "abc", "TTL": 1800, "code": "AP002"}"#,
    ] {
        outcome(200, body, &Identity::merchant()).await.unwrap();
    }
}

// R41
#[tokio::test]
async fn a_2xx_without_a_token_is_a_transient_error_that_quotes_nothing() {
    let large = format!(r#"{{"token": "abc", "pad": "{}"}}"#, "CANARY".repeat(20_000));
    for body in [
        "",
        "{}",
        "null",
        "<html>CANARY</html>",
        r#"{"token": "CANARY", "TTL": 1"#,
        r#"{"TTL": 1800}"#,
        r#"{"TTL": 1800, "token": null}"#,
        r#"{"TTL": 1800, "token": 17}"#,
        r#"{"TTL": 1800, "token": ""}"#,
        r#"{"TTL": 1800, "access_token": "CANARY"}"#,
        r#"["token", "CANARY"]"#,
        r#"{"token": "CANARY", "token": "abc"}"#,
        // The response of another endpoint.
        r#"{"success": true, "user": {"token": "None"}}"#,
        &large,
    ] {
        let error = failure(200, body, &Identity::merchant()).await;
        assert_eq!(error.kind(), ErrorKind::MalformedResponse, "{body:.80}");
        assert!(error.is_transient());
    }
    // R53: the issuer would return such a token again.
    for body in [r#"{"TTL": 1800, "token": "CANARY with spaces"}"#, r#"{"TTL": 1800, "token": "CANARY\r\nx: y"}"#] {
        let error = failure(200, body, &Identity::merchant()).await;
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::MalformedResponse, false), "{body:.80}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
    }
}

// R55
#[tokio::test(start_paused = true)]
async fn the_default_lifetime_replaces_a_ttl_that_is_missing_or_zero() {
    for (body, seconds) in
        [(r#"{"token": "abc"}"#, 1800), (r#"{"TTL": 0, "token": "abc"}"#, 1800), (r#"{"TTL": 60, "token": "abc"}"#, 60)]
    {
        let settings = settings(ApiVersion::V1, token_endpoint(200, body.to_owned()));
        let provider = settings.default_lifetime(Duration::from_secs(1800)).build().unwrap();
        let token = provider.fetch(&Identity::merchant(), &FetchContext::default()).await.unwrap();
        assert_eq!(token.lifetime(), Some(Duration::from_secs(seconds)), "{body}");
    }
    let error = settings(ApiVersion::V1, unused()).default_lifetime(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.setting(), "default_lifetime");
}

// R32 and R55, for TTL
#[tokio::test(start_paused = true)]
async fn ttl_is_read_like_expires_in() {
    const HOUR: u64 = 3600;
    for (ttl, seconds) in [
        (Some("1800"), 1800),
        (Some("1"), 1),
        (Some("59"), 59),
        (Some("3600"), HOUR),
        (Some("3600.0"), HOUR),
        (Some("\"3600\""), HOUR),
        (Some("\"3600 \""), HOUR),
        (Some("0"), 300),
        (Some("-1"), 300),
        (Some("1e18"), 24 * HOUR),
        (Some("18446744073709551615"), 24 * HOUR),
        (Some("null"), 300),
        (Some("true"), 300),
        (Some("\"\""), 300),
        (None, 300),
    ] {
        let ttl = ttl.map(|ttl| format!(r#""TTL": {ttl}, "#)).unwrap_or_default();
        let issuer = token_endpoint(200, format!(r#"{{{ttl}"token": "abc"}}"#));
        let source = TokenSource::new(settings(ApiVersion::V1, issuer).build().unwrap());
        #[expect(clippy::disallowed_methods, reason = "expires_at is a time of day")]
        let now = std::time::SystemTime::now();
        let token = source.token_for(&Identity::merchant()).await.unwrap();
        let left = token.expires_at().duration_since(now).unwrap();
        let expected = Duration::from_secs(seconds);
        assert!(
            left <= expected + Duration::from_secs(5) && left + Duration::from_secs(1) >= expected,
            "{ttl}: {left:?}"
        );
    }
    let error = failure(200, r#"{"TTL": NaN, "token": "abc"}"#, &Identity::merchant()).await;
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
}

// R30: the credentials of a merchant are found by its id. Wrong ones affect only that merchant.
#[tokio::test]
async fn each_merchant_has_its_own_credentials_and_its_own_failures() {
    let issuer = token_endpoint(200, GOOD);
    let provider = Aeropay::builder()
        .environment(Environment::Sandbox)
        .http_client(issuer.clone())
        .credentials_for(|merchant| match merchant.as_str() {
            "3" => Err(Error::permanent("CANARY is unknown here").with_kind(ErrorKind::Config)),
            "4" => Ok(Credentials::new("", "secret")),
            id => Ok(Credentials::new(format!("key-of-{id}"), format!("secret-of-{id}"))),
        })
        .build()
        .unwrap();
    let source = TokenSource::new(provider);
    source.token_for(&Identity::merchant().at("1")).await.unwrap();
    source.token_for(&Identity::user("9").at("2")).await.unwrap();
    let bodies = bodies(&issuer);
    assert!(bodies[0].contains("key-of-1") && bodies[0].contains("secret-of-1") && bodies[0].contains(r#""id":"1""#));
    assert!(
        bodies[1].contains("key-of-2") && bodies[1].contains("secret-of-2") && bodies[1].contains(r#""userId":"9""#)
    );
    for bad in ["3", "4"] {
        let error = source.token_for(&Identity::merchant().at(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert_eq!(issuer.sends().len(), 2);
    source.token_for(&Identity::merchant().at("5")).await.unwrap();
    assert_eq!(issuer.sends().len(), 3);
    let error = source.token_for(&Identity::merchant()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

// R50: key and secret are loaded for each fetch.
#[tokio::test]
async fn a_rotated_key_and_secret_are_used_by_the_next_token_request() {
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let of = |name: &'static str| {
        let turn = std::sync::Arc::clone(&turn);
        tower_bearer_auth::Secret::from_fn(move || {
            Ok(format!("{name}-{}", turn.load(std::sync::atomic::Ordering::SeqCst)).into())
        })
    };
    let issuer = token_endpoint(200, GOOD);
    let builder = settings(ApiVersion::V1, issuer.clone()).api_key(of("key")).api_secret(of("secret"));
    let source = TokenSource::new(builder.build().unwrap());
    source.token_for(&Identity::merchant()).await.unwrap();
    turn.store(1, std::sync::atomic::Ordering::SeqCst);
    source.rotate();
    source.token_for(&Identity::merchant()).await.unwrap();
    let bodies = bodies(&issuer);
    assert!(bodies[0].contains("key-0") && bodies[0].contains("secret-0"), "{bodies:?}");
    assert!(bodies[1].contains("key-1") && bodies[1].contains("secret-1"), "{bodies:?}");
}
