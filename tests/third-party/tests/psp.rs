//! The protocol of AccessPSP, against the sandbox. Requests are counted at its servers.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use third_party::psp::Psp;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer_auth::token_endpoint::{HttpClient, ResponseBody};
use tower_bearer_auth::{Audit, BearerAuthLayer, BoxError, Error, ErrorKind, NotSent, ReplayOutcome, Secret, replay};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse, Verdict};

fn https(sandbox: &AccessPspSandbox) -> HttpClient {
    HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap()
}

fn provider(sandbox: &AccessPspSandbox, secret: &str) -> Psp {
    let credentials = (sandbox.client_id(), Secret::new(secret));
    Psp::new(&sandbox.token_url(), &sandbox.api_origin(), credentials, sandbox.api_key(), https(sandbox)).unwrap()
}

fn wallet(
    sandbox: &AccessPspSandbox,
    secret: &str,
) -> impl Service<Request<Bytes>, Response = Response<ResponseBody>, Error = BoxError> {
    let layer = BearerAuthLayer::new(provider(sandbox, secret)).bodies(replay::Cloned);
    ServiceBuilder::new().layer(layer).service(https(sandbox))
}

async fn open_session<S>(wallet: &mut S, sandbox: &AccessPspSandbox) -> Result<Response<ResponseBody>, BoxError>
where
    S: Service<Request<Bytes>, Response = Response<ResponseBody>, Error = BoxError>,
{
    let request = Request::post(format!("{}/wallets/wsps/sessions", sandbox.api_origin()))
        .header("content-type", "application/json")
        .body(Bytes::from(r#"{"reference":"order 17"}"#))?;
    wallet.ready().await?.call(request).await
}

#[tokio::test]
async fn the_first_request_fetches_a_token_and_the_next_ones_use_it() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let mut wallet = wallet(&sandbox, sandbox.client_secret());
    for _ in 0..3 {
        assert_eq!(open_session(&mut wallet, &sandbox).await.unwrap().status(), StatusCode::CREATED);
    }
    let token_requests = sandbox.token_requests();
    assert_eq!(token_requests.len(), 1);
    let names: Vec<_> = token_requests[0].fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "client_id", "client_secret"]);
    let requests = sandbox.api_requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.verdict == Some(Verdict::Accepted)));
    assert!(requests.iter().all(|request| request.headers["x-api-key"] == sandbox.api_key()));
    assert_eq!(sandbox.sessions().len(), 3);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_the_request_replayed_once() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let mut wallet = wallet(&sandbox, sandbox.client_secret());
    open_session(&mut wallet, &sandbox).await.unwrap();
    sandbox.revoke_all();
    let response = open_session(&mut wallet, &sandbox).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let audit = Audit::of(&response).unwrap();
    assert_eq!((audit.sends, audit.replay), (2, ReplayOutcome::Replayed));
    assert_eq!(sandbox.token_request_count(), 2);
    let verdicts: Vec<_> = sandbox.api_requests().iter().map(|request| request.verdict.unwrap()).collect();
    assert_eq!(verdicts, [Verdict::Accepted, Verdict::Revoked, Verdict::Accepted]);
    assert_eq!(sandbox.sessions().len(), 2, "the rejected request had no effect");
}

#[tokio::test]
async fn a_wrong_secret_ends_in_an_error_with_a_kind_and_a_hint_and_nothing_is_sent() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let mut wallet = wallet(&sandbox, "wrong");
    let error = open_session(&mut wallet, &sandbox).await.unwrap_err();
    assert!(error.is::<NotSent>());
    let error = Error::find(&*error).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
    assert_eq!(error.code(), Some("invalid_client"));
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert!(!error.is_transient());
    assert!(error.hint().unwrap().contains("verify the client_id and client_secret"));
    assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (1, 0));
}

#[tokio::test]
async fn each_documented_error_has_its_kind_and_hint_by_its_code_or_else_by_its_status() {
    let documented = [
        (400, "invalid_request", ErrorKind::InvalidRequest, "body fields"),
        (401, "invalid_client", ErrorKind::InvalidCredentials, "verify the client_id"),
        (403, "disabled_client", ErrorKind::InvalidCredentials, "contact Aera support"),
    ];
    for (status, code, kind, hint) in documented {
        for body in [format!(r#"{{"error":"{code}"}}"#), String::new()] {
            let sandbox = AccessPspSandbox::start().await.unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            let has_code = !body.is_empty();
            sandbox.script(Fault::Response(ScriptedResponse::new(status).json(body)));
            let error = open_session(&mut wallet(&sandbox, "any"), &sandbox).await.unwrap_err();
            let error = Error::find(&*error).unwrap();
            assert_eq!((error.kind(), error.status()), (kind, Some(status)));
            assert_eq!(error.code(), has_code.then_some(code));
            assert!(error.hint().unwrap().contains(hint), "{error}");
        }
    }
}

#[tokio::test]
async fn the_token_and_the_api_key_do_not_reach_a_foreign_server() {
    let sandbox = AccessPspSandbox::start().await.unwrap();
    let foreign = sandbox.recorder().await.unwrap();
    let mut wallet = wallet(&sandbox, sandbox.client_secret());
    open_session(&mut wallet, &sandbox).await.unwrap();
    let request = Request::get(foreign.origin()).body(Bytes::new()).unwrap();
    wallet.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(foreign.request_count(), 1);
    assert!(!foreign.has_received(b"Bearer ") && !foreign.has_received(sandbox.api_key().as_bytes()));
}
