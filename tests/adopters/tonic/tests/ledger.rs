use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use ledger_client::{Error, Ledger, http_status};
use tokio::net::TcpListener;
use tonic::service::InterceptorLayer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tower_bearer_auth::ClientCredentials;
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

type TestResult = Result<(), Box<dyn StdError>>;

struct World {
    issuer: Arc<AccessPspSandbox>,
    ledger: Ledger,
    /// Calls that reached the gRPC server.
    calls: Arc<AtomicUsize>,
}

impl World {
    async fn start(deadline: Duration) -> Result<Self, Box<dyn StdError>> {
        let issuer = Arc::new(AccessPspSandbox::start().await?);
        let calls = Arc::new(AtomicUsize::new(0));
        let url = serve(issuer.clone(), calls.clone()).await?;

        let provider = ClientCredentials::builder()
            .token_url(issuer.token_url())
            .api_origin(&url)
            .client_id(issuer.client_id())
            .client_secret(issuer.client_secret())
            .http_client(HttpClient::builder().roots_pem(issuer.ca_pem()).build()?)
            .build()?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(issuer.ca_pem()));
        let ledger = Ledger::new(&url, provider, tls, deadline)?;
        Ok(Self {
            issuer,
            ledger,
            calls,
        })
    }

    async fn status(&self) -> Result<ServingStatus, Error> {
        self.ledger.status("").await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// A gRPC server that accepts only the tokens of `issuer`.
async fn serve(
    issuer: Arc<AccessPspSandbox>,
    calls: Arc<AtomicUsize>,
) -> Result<String, Box<dyn StdError>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}", listener.local_addr()?);
    let (certificate, key) = issuer.server_identity_pem()?;
    let check = move |request: Request<()>| {
        calls.fetch_add(1, Ordering::SeqCst);
        if issuer
            .judge(&request.metadata().clone().into_headers())
            .is_accepted()
        {
            Ok(request)
        } else {
            Err(Status::unauthenticated("invalid token"))
        }
    };
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))?
        .layer(InterceptorLayer::new(check))
        .add_service(tonic_health::server::health_reporter().1)
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    Ok(url)
}

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_call_carries_a_token() -> TestResult {
    let world = World::start(DEADLINE).await?;

    assert_eq!(world.status().await?, ServingStatus::Serving);
    assert_eq!(world.status().await?, ServingStatus::Serving);

    assert_eq!(world.calls(), 2);
    assert_eq!(world.issuer.token_request_count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_call_with_a_revoked_token_is_replayed_with_a_new_one() -> TestResult {
    let world = World::start(DEADLINE).await?;
    world.status().await?;

    world.issuer.revoke_all();
    assert_eq!(world.status().await?, ServingStatus::Serving);

    assert_eq!(world.calls(), 3);
    assert_eq!(world.issuer.token_request_count(), 2);
    assert_eq!(world.ledger.tokens().stats().replays, 1);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_gives_a_503_with_retry_after() -> TestResult {
    let world = World::start(DEADLINE).await?;
    world
        .issuer
        .script_always(Fault::status(StatusCode::SERVICE_UNAVAILABLE));

    let error = world.status().await.unwrap_err();
    let (status, retry_after) = http_status(&error);

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = retry_after.ok_or("no Retry-After")?.to_str()?.parse()?;
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(world.calls(), 0);
    Ok(())
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_call_is_sent_gives_a_503_with_retry_after() -> TestResult
{
    let world = World::start(Duration::from_millis(50)).await?;
    world.issuer.hold_issuer();

    let error = world.status().await.unwrap_err();

    assert!(
        matches!(&error, Error::Call(status) if status.code() == Code::DeadlineExceeded),
        "{error:?}"
    );
    let (status, retry_after) = http_status(&error);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry_after.ok_or("no Retry-After")?, "1");
    assert_eq!(world.calls(), 0);
    Ok(())
}

#[tokio::test]
async fn a_disabled_client_gives_a_500() -> TestResult {
    let world = World::start(DEADLINE).await?;
    world.issuer.script_always(Fault::disabled_client());

    let error = world.status().await.unwrap_err();

    assert_eq!(
        http_status(&error),
        (StatusCode::INTERNAL_SERVER_ERROR, None)
    );
    assert_eq!(world.calls(), 0);
    Ok(())
}

#[test]
fn a_rejection_by_the_ledger_gives_a_502() {
    let error = Error::from(Status::unauthenticated("invalid token"));
    assert_eq!(http_status(&error), (StatusCode::BAD_GATEWAY, None));
}
