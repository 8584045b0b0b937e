//! AccessPSP as its page documents it, against the sandbox's issuer over TLS.

use http::{HeaderValue, Response, StatusCode};
use tower_bearer_auth::token_endpoint::{HttpClient, TokenClient};
use tower_bearer_auth::{
    AccessPsp, AccessPspBuilder, Error, ErrorKind, FetchContext, Rejection, ResponseHead, TokenProvider, TokenSource,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse};

use super::wire::{Wire, http_response};

/// The sandbox as an environment.
pub(crate) fn settings(sandbox: &AccessPspSandbox) -> AccessPspBuilder {
    let client = HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
    AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(client)
}

async fn failure(provider: &AccessPsp) -> Error {
    provider.fetch(&(), &FetchContext::default()).await.unwrap_err()
}

// AccessPSP's page, the token request: the fields of the form. A scope and x-api-key are sent only if they are set.
#[tokio::test]
async fn the_issuer_receives_the_documented_form_and_issues_a_token() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let source = TokenSource::new(settings(&sandbox).build().unwrap());
    let token = source.token().await.unwrap();
    assert_eq!(token.expose_secret().split('.').count(), 3);
    let requests = sandbox.token_requests();
    let [request] = requests.as_slice() else {
        panic!("{} requests", requests.len());
    };
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/oauth/token");
    assert_eq!(request.version, http::Version::HTTP_11);
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.headers["accept"], "application/json");
    assert!(!request.headers.contains_key("x-api-key"));
    assert!(!request.headers.contains_key("authorization"));
    let sent: Vec<(&str, &str)> = request.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        sent,
        [
            ("grant_type", "client_credentials"),
            ("client_id", sandbox.client_id()),
            ("client_secret", sandbox.client_secret()),
        ]
    );
    assert_eq!(request.status, Some(StatusCode::OK));
    assert_eq!(sandbox.tokens().len(), 1);
}

#[tokio::test]
async fn the_scope_and_the_api_key_of_token_requests_are_sent_if_they_are_set() {
    let sandbox = AccessPspSandbox::builder().allow_scope("wallet").require_token_api_key().start().await.unwrap();
    let provider = settings(&sandbox)
        .scope("wallet")
        .token_api_key(sandbox.token_api_key())
        .api_key(sandbox.api_key())
        .build()
        .unwrap();
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
    let request = sandbox.token_requests().remove(0);
    assert_eq!(request.fields[3], ("scope".to_owned(), "wallet".to_owned()));
    let keys: Vec<_> = request.headers.get_all("x-api-key").iter().collect();
    assert_eq!(keys, [sandbox.token_api_key()]);
    let headers = provider.api_headers();
    assert_eq!(headers["x-api-key"], sandbox.api_key());
    assert!(headers["x-api-key"].is_sensitive());
}

// AccessPSP's page, the error table: the code, the status and the fix.
const PAGE: [(u16, &str, ErrorKind, &str); 3] = [
    (400, "invalid_request", ErrorKind::InvalidRequest, "body fields"),
    (401, "invalid_client", ErrorKind::InvalidCredentials, "verify the client_id and client_secret"),
    (403, "disabled_client", ErrorKind::InvalidCredentials, "contact Aera support"),
];

#[tokio::test]
async fn each_documented_error_is_permanent_and_its_hint_is_the_documented_fix() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let provider = settings(&sandbox).build().unwrap();
    for (status, code, kind, fix) in PAGE {
        let status = StatusCode::from_u16(status).unwrap();
        let body = format!(r#"{{"error":"{code}"}}"#);
        let with_code = ScriptedResponse::new(status).json(body);
        // Real servers send a 403 with an empty body, and gateways send their own bodies (1.8).
        let gateway = ScriptedResponse::new(status).json(r#"{"message":"Forbidden"}"#);
        let other = ScriptedResponse::new(status).json(r#"{"error":"no such code"}"#);
        for (response, code) in
            [(with_code, Some(code)), (ScriptedResponse::new(status), None), (gateway, None), (other, None)]
        {
            sandbox.script(Fault::Response(response));
            let error = failure(&provider).await;
            assert_eq!(error.kind(), kind);
            assert!(!error.is_transient());
            assert_eq!(error.status(), Some(status));
            assert_eq!(error.code(), code);
            assert!(error.hint().unwrap().contains(fix), "{error}");
            assert!(error.to_string().contains(fix), "{error}");
            assert!(error.to_string().contains(&sandbox.issuer_origin()), "{error}");
        }
    }
}

#[tokio::test]
async fn the_code_decides_if_it_contradicts_the_status() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let provider = settings(&sandbox).build().unwrap();
    for (_, code, kind, _) in PAGE {
        for status in [400, 401, 403, 404, 409] {
            let status = StatusCode::from_u16(status).unwrap();
            let body = format!(r#"{{"error":"{code}"}}"#);
            sandbox.script(Fault::Response(ScriptedResponse::new(status).json(body)));
            let error = failure(&provider).await;
            assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{code}");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_permanent_and_overload_is_transient() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let wrong = settings(&sandbox).client_secret("wrong").build().unwrap();
    let error = failure(&wrong).await;
    assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
    assert_eq!(error.code(), Some("invalid_client"));
    let unknown_scope = settings(&sandbox).scope("unknown").build().unwrap();
    assert_eq!(failure(&unknown_scope).await.kind(), ErrorKind::InvalidRequest);

    let provider = settings(&sandbox).build().unwrap();
    for (status, kind) in [
        (StatusCode::REQUEST_TIMEOUT, ErrorKind::Timeout),
        (StatusCode::TOO_MANY_REQUESTS, ErrorKind::Throttled),
        (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unavailable),
        (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unavailable),
    ] {
        sandbox.script(Fault::retry_after(status, HeaderValue::from_static("17")));
        let error = failure(&provider).await;
        assert_eq!(error.kind(), kind);
        assert!(error.is_transient());
        assert_eq!(error.retry_after().unwrap().as_secs(), 17);
    }
    // R58: on a reused connection the request is sent once more, so only a second reset is an error.
    sandbox.script(Fault::Reset);
    for (fault, status) in [(Fault::Reset, None), (Fault::TruncatedBody, Some(StatusCode::OK))] {
        sandbox.script(fault);
        let error = failure(&provider).await;
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, status));
        assert!(error.is_transient());
    }
    // The next call succeeds: the pool keeps no broken connection.
    provider.fetch(&(), &FetchContext::default()).await.unwrap();
}

// AccessPSP's page, the environments: production is the default, with these hosts.
#[test]
fn production_is_the_default_environment() {
    let provider = AccessPsp::new("id", "secret").unwrap();
    assert_eq!(provider.label(), "production");
    let shown = format!("{:?}", provider.origins());
    assert_eq!(shown, "[https://api.aerahost.com, https://psp.aerahost.com]");
    let shown = format!("{provider:?}");
    assert!(shown.contains("https://accesspsp.aerahost.com"), "{shown}");
    assert!(provider.api_headers().is_empty());
    assert_eq!(provider.header(), "authorization");
}

// A token request to the default environment has the path of the page.
#[tokio::test]
async fn the_token_url_of_production_is_the_documented_one() {
    let (seen, mut urls) = tokio::sync::mpsc::unbounded_channel();
    let provider = AccessPsp::builder()
        .client_id("id")
        .client_secret("secret")
        .http_client(TokenClient::new(tower::service_fn(move |request: http::Request<bytes::Bytes>| {
            seen.send(request.uri().to_string()).unwrap();
            std::future::ready(Ok::<_, std::io::Error>(Response::new(String::from(
                // The literal example body of the page.
                r#"{ "access_token": "eyJraWQiOiJrMSIsImFsZyI6IlJTMjU2In0.eyJ", "token_type": "Bearer", "expires_in": 1800 }"#,
            ))))
        })))
        .build()
        .unwrap();
    let token = provider.fetch(&(), &FetchContext::default()).await.unwrap();
    assert!(format!("{token:?}").contains("1800s"));
    assert_eq!(urls.recv().await.unwrap(), "https://accesspsp.aerahost.com/oauth/token");
}

// AccessPSP's page: a 401 is the only signal. R16: a response that a new token does not change is not a rejection.
#[test]
fn a_401_of_the_api_is_an_invalid_token_unless_a_new_token_does_not_help() {
    let provider = AccessPsp::new("id", "secret").unwrap();
    for (status, challenge, expected) in [
        (401, None, Some(Rejection::InvalidToken)),
        (401, Some("Bearer"), Some(Rejection::InvalidToken)),
        (401, Some("Bearer error=\"invalid_token\""), Some(Rejection::InvalidToken)),
        (401, Some("Bearer error=\"insufficient_scope\""), None),
        (401, Some("Bearer error=\"insufficient_user_authentication\""), None),
        (403, None, None),
        (403, Some("Bearer error=\"invalid_token\""), None),
        (200, None, None),
        (500, None, None),
    ] {
        let mut response = Response::builder().status(status);
        if let Some(challenge) = challenge {
            response = response.header("www-authenticate", challenge);
        }
        let response = response.body(()).unwrap();
        assert_eq!(provider.rejection(&ResponseHead::of(&response)), expected, "{status} {challenge:?}");
    }
}

// R26, with a target that has a certificate of the same authority.
#[tokio::test]
async fn a_redirect_of_the_issuer_sends_no_secret_to_another_host() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let target = sandbox.recorder().await.unwrap();
    let provider = settings(&sandbox).build().unwrap();
    for status in [301, 302, 307, 308] {
        let location = HeaderValue::try_from(format!("{}/oauth/token", target.origin())).unwrap();
        sandbox.script(Fault::redirect(StatusCode::from_u16(status).unwrap(), location));
        let error = failure(&provider).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&target.origin()), "{error}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_empty_403_has_the_hint_of_a_disabled_client_for_access_psp_only() {
    let wire = Wire::responding(http_response(403, &[], "")).await;
    let provider = AccessPsp::builder()
        .client_id("id")
        .client_secret("secret")
        .token_url(wire.token_url())
        .api_origin("http://127.0.0.1:1")
        .build()
        .unwrap();
    let error = failure(&provider).await;
    assert_eq!((error.kind(), error.hint()), (ErrorKind::InvalidCredentials, Some("contact Aera support")));
    assert_eq!(provider.label(), wire.origin());
    let general = wire.client().fetch(&(), &FetchContext::default()).await.unwrap_err();
    assert_eq!(general.kind(), ErrorKind::InvalidCredentials);
    assert!(!general.hint().unwrap().contains("Aera"), "{general}");
}
