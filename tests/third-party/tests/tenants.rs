//! A keyed provider with its own rejection rules, against the sandbox. Requests are counted at its servers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use third_party::tenants::{Tenant, Tenants, mark_rejection_in_body};
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer_auth::token_endpoint::{HttpClient, TokenEndpoint};
use tower_bearer_auth::{
    Audit, BearerAuthLayer, BoxError, Error, ErrorKind, ExtensionKey, Origins, ReplayOutcome, TokenSource, replay,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, ScriptedResponse};

struct Platform {
    sandbox: AccessPspSandbox,
    source: TokenSource<Tenants>,
    https: HttpClient,
}

/// The status of a response and its audit.
type Outcome = (StatusCode, Option<Audit>);

impl Platform {
    async fn start() -> Self {
        let sandbox = AccessPspSandbox::builder().allow_scope("acme").allow_scope("globex").start().await.unwrap();
        let https = HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
        let endpoint = TokenEndpoint::new(&sandbox.token_url(), https.clone()).unwrap();
        let origins = Origins::none().allow(&sandbox.api_origin()).unwrap();
        let provider = Tenants::new(endpoint, sandbox.client_id(), sandbox.client_secret(), origins);
        Self { source: TokenSource::new(provider), sandbox, https }
    }

    fn request(&self, tenant: Option<&str>) -> Request<Bytes> {
        let mut request = Request::put(format!("{}/echo", self.sandbox.api_origin())).body(Bytes::from("{}")).unwrap();
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(Tenant(tenant.to_owned()));
        }
        request
    }

    /// Sends a request. A rejection is in a header of the response.
    async fn send(&self, tenant: Option<&str>) -> Result<Outcome, BoxError> {
        let layer: BearerAuthLayer<Tenants, _> = self.source.layer().bodies(replay::Cloned);
        let service = ServiceBuilder::new().layer(layer).service(self.https.clone());
        let response = service.oneshot(self.request(tenant)).await?;
        Ok((response.status(), Audit::of(&response).cloned()))
    }

    /// Sends a request. A rejection is in the body of the response.
    async fn send_and_read_body(&self, tenant: &str) -> Result<Outcome, BoxError> {
        let layer = self.source.layer().bodies(replay::Cloned);
        let service = ServiceBuilder::new().layer(layer).and_then(mark_rejection_in_body).service(self.https.clone());
        let response = service.oneshot(self.request(Some(tenant))).await?;
        Ok((response.status(), Audit::of(&response).cloned()))
    }

    /// The scopes of the token requests that the issuer received.
    fn scopes(&self) -> Vec<String> {
        let requests = self.sandbox.token_requests();
        requests.iter().map(|request| request.fields[3].1.clone()).collect()
    }
}

#[tokio::test]
async fn each_tenant_gets_one_token_and_uses_it_again() {
    let platform = Platform::start().await;
    for tenant in ["acme", "globex", "acme", "globex"] {
        assert_eq!(platform.send(Some(tenant)).await.unwrap().0, StatusCode::OK);
    }
    assert_eq!(platform.scopes(), ["acme", "globex"]);
    let requests = platform.sandbox.api_requests();
    let tokens: Vec<_> = requests.iter().map(|request| request.jti.clone().unwrap()).collect();
    assert_eq!(tokens.len(), 4);
    assert!(tokens[0] == tokens[2] && tokens[1] == tokens[3] && tokens[0] != tokens[1]);
}

#[tokio::test]
async fn a_403_with_the_documented_code_is_replayed_with_a_new_token_of_that_tenant_only() {
    let platform = Platform::start().await;
    platform.send(Some("acme")).await.unwrap();
    platform.send(Some("globex")).await.unwrap();
    let code = HeaderValue::from_static("token_expired");
    let name = HeaderName::from_static("x-error-code");
    platform.sandbox.reject_with(ScriptedResponse::new(StatusCode::FORBIDDEN).header(name, code));
    assert!(platform.sandbox.revoke(&platform.sandbox.tokens()[0].jti));
    let (status, audit) = platform.send(Some("acme")).await.unwrap();
    let audit = audit.unwrap();
    assert_eq!((status, audit.sends, audit.replay), (StatusCode::OK, 2, ReplayOutcome::Replayed));
    assert_eq!(audit.key::<ExtensionKey<Tenant>>().unwrap().0, Tenant("acme".to_owned()));
    assert_eq!(platform.send(Some("globex")).await.unwrap().0, StatusCode::OK);
    assert_eq!(platform.scopes(), ["acme", "globex", "acme"]);
    assert_eq!(platform.sandbox.api_request_count(), 5);
}

#[tokio::test]
async fn a_403_without_the_code_is_returned_as_it_is() {
    let platform = Platform::start().await;
    platform.send(Some("acme")).await.unwrap();
    platform.sandbox.script_api(ScriptedResponse::new(StatusCode::FORBIDDEN));
    let (status, audit) = platform.send(Some("acme")).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(audit.is_none());
    assert_eq!((platform.scopes().len(), platform.sandbox.api_request_count()), (1, 2));
}

#[tokio::test]
async fn a_rejection_in_a_200_body_is_replayed_if_a_layer_below_marks_it() {
    let platform = Platform::start().await;
    platform.send_and_read_body("acme").await.unwrap();
    let body = r#"{"error":{"code":"AUTH_EXPIRED"}}"#;
    platform.sandbox.reject_with(ScriptedResponse::new(StatusCode::OK).json(body));
    platform.sandbox.revoke_all();
    let (status, audit) = platform.send_and_read_body("acme").await.unwrap();
    let audit = audit.unwrap();
    assert_eq!((status, audit.sends, audit.replay), (StatusCode::OK, 2, ReplayOutcome::Replayed));
    assert_eq!((platform.scopes().len(), platform.sandbox.api_request_count()), (2, 3));
}

#[tokio::test]
async fn a_request_without_a_tenant_is_not_sent() {
    let platform = Platform::start().await;
    let error = platform.send(None).await.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::MissingKey);
    assert_eq!((platform.sandbox.token_request_count(), platform.sandbox.api_request_count()), (0, 0));
}

#[tokio::test]
async fn a_failed_fetch_of_one_tenant_does_not_affect_another() {
    let platform = Platform::start().await;
    let error = platform.send(Some("umbrella")).await.unwrap_err();
    let error = Error::find(&*error).unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, Some("invalid_request")));
    assert!(error.hint().is_some());
    assert_eq!(platform.send(Some("acme")).await.unwrap().0, StatusCode::OK);
    assert_eq!(platform.scopes(), ["umbrella", "acme"]);
    assert_eq!(platform.sandbox.api_request_count(), 1);
}
