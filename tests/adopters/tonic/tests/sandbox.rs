use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use health_client::{CallError, Health};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Status};
use tower_bearer_auth::ClientCredentials;
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

type TestResult = Result<(), Box<dyn Error>>;

/// An issuer, and a health API that accepts its tokens.
struct Api {
    sandbox: Arc<AccessPspSandbox>,
    origin: String,
    tls: ClientTlsConfig,
}

impl Api {
    async fn start() -> Result<Self, Box<dyn Error>> {
        Self::serve("http", |_| Ok(Server::builder())).await
    }

    async fn start_with_tls() -> Result<Self, Box<dyn Error>> {
        Self::serve("https", |sandbox| {
            let (certificate, key) = sandbox.server_identity_pem()?;
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
            Ok(Server::builder().tls_config(tls)?)
        })
        .await
    }

    async fn serve(
        scheme: &str,
        server: impl FnOnce(&AccessPspSandbox) -> Result<Server, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let sandbox = Arc::new(AccessPspSandbox::builder().plain_http().start().await?);
        let (_, health) = tonic_health::server::health_reporter();
        let judge = Arc::clone(&sandbox);
        let health = InterceptedService::new(health, move |request: Request<()>| {
            let verdict = judge.judge(request.metadata().as_ref());
            verdict
                .is_accepted()
                .then_some(request)
                .ok_or_else(|| Status::unauthenticated("token"))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("{scheme}://{}", listener.local_addr()?);
        let server = server(&sandbox)?.add_service(health);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(sandbox.ca_pem()));
        Ok(Self {
            sandbox,
            origin,
            tls,
        })
    }

    fn client(&self) -> Result<Health, Box<dyn Error>> {
        self.client_of(
            &self.origin,
            &self.sandbox.token_url(),
            Duration::from_secs(10),
        )
    }

    fn client_of(
        &self,
        origin: &str,
        token_url: &str,
        timeout: Duration,
    ) -> Result<Health, Box<dyn Error>> {
        let credentials = ClientCredentials::builder()
            .token_url(token_url)
            .api_origin(origin)
            .client_id(self.sandbox.client_id())
            .client_secret(self.sandbox.client_secret())
            .build()?;
        Ok(Health::new(origin, credentials, self.tls.clone(), timeout)?)
    }
}

/// An origin at which nothing listens.
async fn closed_origin() -> Result<String, Box<dyn Error>> {
    Ok(format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0").await?.local_addr()?
    ))
}

#[tokio::test]
async fn a_call_has_a_token() -> TestResult {
    let api = Api::start().await?;
    let health = api.client()?;
    assert!(health.is_serving("").await?);
    assert!(health.is_serving("").await?);
    assert_eq!(api.sandbox.token_request_count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_call_after_a_revocation_succeeds() -> TestResult {
    let api = Api::start().await?;
    let health = api.client()?;
    assert!(health.is_serving("").await?);
    api.sandbox.revoke_all();
    assert!(health.is_serving("").await?);
    assert_eq!(api.sandbox.token_request_count(), 2);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_is_unavailable_with_retry_after() -> TestResult {
    let api = Api::start().await?;
    let token_url = format!("{}/oauth/token", closed_origin().await?);
    let health = api.client_of(&api.origin, &token_url, Duration::from_secs(10))?;

    let error = health.is_serving("").await.unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }), "{error:?}");
    let response = error.into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = response.headers()[RETRY_AFTER].to_str()?.parse()?;
    assert!((1..=60).contains(&seconds), "{seconds}");

    let error = health.is_serving("").await.unwrap_err();
    assert_eq!(Status::from(error).code(), Code::Unavailable);
    Ok(())
}

#[tokio::test]
async fn the_retry_after_of_the_issuer_reaches_the_caller() -> TestResult {
    let api = Api::start().await?;
    let delay = HeaderValue::from_static("30");
    api.sandbox
        .script_always(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, delay));
    let response = api
        .client()?
        .is_serving("")
        .await
        .unwrap_err()
        .into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = response.headers()[RETRY_AFTER].to_str()?.parse()?;
    assert!(seconds >= 29, "{seconds}");
    Ok(())
}

#[tokio::test]
async fn an_api_that_is_down_is_unavailable_with_retry_after() -> TestResult {
    let api = Api::start().await?;
    let health = api.client_of(
        &closed_origin().await?,
        &api.sandbox.token_url(),
        Duration::from_secs(10),
    )?;
    let response = health.is_serving("").await.unwrap_err().into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    Ok(())
}

#[tokio::test]
async fn a_disabled_client_is_an_internal_error() -> TestResult {
    let api = Api::start().await?;
    api.sandbox.script_always(Fault::disabled_client());
    let error = api.client()?.is_serving("").await.unwrap_err();
    assert!(matches!(error, CallError::Blocked(_)), "{error:?}");
    assert_eq!(Status::from(error).code(), Code::Internal);
    Ok(())
}

#[tokio::test]
async fn a_rejected_call_is_not_the_callers_fault() -> TestResult {
    let api = Api::start().await?;
    api.sandbox.reject_always(true);
    let error = api.client()?.is_serving("").await.unwrap_err();
    assert!(matches!(error, CallError::Failed(_)), "{error:?}");
    assert_eq!(Status::from(error).code(), Code::Internal);
    assert_eq!(api.sandbox.token_request_count(), 2);
    Ok(())
}

#[tokio::test]
async fn a_call_without_a_token_ends_at_its_deadline() -> TestResult {
    let api = Api::start().await?;
    api.sandbox.hold_issuer();
    let health = api.client_of(
        &api.origin,
        &api.sandbox.token_url(),
        Duration::from_millis(200),
    )?;
    let error = health.is_serving("").await.unwrap_err();
    assert!(matches!(error, CallError::NotSent { .. }), "{error:?}");
    Ok(())
}

/// Serves `response` for every call.
async fn serve<F, R>(response: F) -> Result<String, Box<dyn Error>>
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Future<Output = axum::response::Response> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let routes = Routes::from(Router::new().fallback(response));
    tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(origin)
}

#[tokio::test]
async fn a_call_without_a_response_ends_at_its_deadline() -> TestResult {
    let api = Api::start().await?;
    let origin = serve(std::future::pending).await?;
    let health = api.client_of(&origin, &api.sandbox.token_url(), Duration::from_secs(1))?;
    let error = health.is_serving("").await.unwrap_err();
    assert_eq!(Status::from(error).code(), Code::DeadlineExceeded);
    Ok(())
}

#[tokio::test]
async fn a_call_whose_response_stalls_ends_at_its_deadline() -> TestResult {
    let api = Api::start().await?;
    let origin = serve(|| async {
        let body = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, Status>>());
        ([(CONTENT_TYPE, "application/grpc")], body).into_response()
    })
    .await?;
    let health = api.client_of(&origin, &api.sandbox.token_url(), Duration::from_secs(1))?;
    let error = health.is_serving("").await.unwrap_err();
    assert_eq!(Status::from(error).code(), Code::DeadlineExceeded);
    Ok(())
}

#[tokio::test]
async fn a_call_over_tls_has_a_token() -> TestResult {
    let api = Api::start_with_tls().await?;
    assert!(api.client()?.is_serving("").await?);
    Ok(())
}
