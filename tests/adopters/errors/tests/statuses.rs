//! What the callers of the service get.

use std::time::Duration;

use bytes::Bytes;
use errors::{Wallet, routes};
use http::{HeaderValue, Request, StatusCode};
use tower::{Layer, ServiceExt};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BoxError, TokenSource, replay};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

const ROUTES: [&str; 3] = ["/anyhow", "/eyre", "/thiserror"];

struct Service {
    sandbox: AccessPspSandbox,
    source: TokenSource<AccessPsp>,
    origin: String,
    caller: HttpClient,
}

impl Service {
    async fn start(api_origin: Option<&str>) -> Result<Self, BoxError> {
        Self::start_with(api_origin, Duration::from_secs(15)).await
    }

    async fn start_with(api_origin: Option<&str>, max_wait: Duration) -> Result<Self, BoxError> {
        let sandbox = AccessPspSandbox::start().await?;
        let https = HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?;
        let api_origin = api_origin.map_or_else(|| sandbox.api_origin(), str::to_owned);
        let provider = AccessPsp::builder()
            .environment("sandbox")
            .token_url(sandbox.token_url())
            .api_origin(&api_origin)
            .client_id(sandbox.client_id())
            .client_secret(sandbox.client_secret())
            .http_client(https.clone())
            .build()?;
        // Without patience a request does not wait for a failing issuer to recover.
        let source = TokenSource::builder(provider).patience(Duration::ZERO).max_wait(max_wait).build();
        let client = source.layer().bodies(replay::Cloned).layer(https);
        let wallet = Wallet { client, sessions: format!("{api_origin}/wallets/wsps/sessions") };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, routes(wallet)).await });
        Ok(Self { sandbox, source, origin, caller: HttpClient::builder().build()? })
    }

    /// The status and the `Retry-After` that a caller gets.
    async fn order(&self, route: &str) -> Result<(StatusCode, Option<u64>), BoxError> {
        let request = Request::post(format!("{}{route}", self.origin)).body(Bytes::new())?;
        let response = self.caller.clone().oneshot(request).await?;
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        Ok((response.status(), retry_after))
    }
}

// R84
#[tokio::test]
async fn a_request_that_was_not_sent_is_a_503_with_retry_after_through_each_wrapper() -> Result<(), BoxError> {
    let service = Service::start(None).await?;
    let down = Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from_static("30"));
    service.sandbox.script_always(down);
    for route in ROUTES {
        let (status, retry_after) = service.order(route).await?;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{route}");
        assert!(retry_after.is_some_and(|seconds| (30..=35).contains(&seconds)), "{route}: {retry_after:?}");
    }
    assert_eq!(service.sandbox.api_request_count(), 0);

    service.sandbox.clear_script();
    service.source.rotate(); // ends the backoff
    for route in ROUTES {
        assert_eq!(service.order(route).await?, (StatusCode::CREATED, None), "{route}");
    }
    assert_eq!(service.sandbox.sessions().len(), ROUTES.len());
    Ok(())
}

// R84: no time is known while the token request continues, and a 503 without `Retry-After` is retried at once by some callers.
#[tokio::test]
async fn a_wait_that_is_too_long_is_a_503_with_retry_after_through_each_wrapper() -> Result<(), BoxError> {
    let service = Service::start_with(None, Duration::from_millis(1)).await?;
    service.sandbox.hold_issuer();
    for route in ROUTES {
        assert_eq!(service.order(route).await?, (StatusCode::SERVICE_UNAVAILABLE, Some(1)), "{route}");
    }
    assert_eq!(service.sandbox.api_request_count(), 0);
    Ok(())
}

// R84: nobody can help a permanent error by a retry.
#[tokio::test]
async fn wrong_credentials_are_a_500_without_retry_after_through_each_wrapper() -> Result<(), BoxError> {
    let service = Service::start(None).await?;
    service.sandbox.script_always(Fault::disabled_client());
    for route in ROUTES {
        assert_eq!(service.order(route).await?, (StatusCode::INTERNAL_SERVER_ERROR, None), "{route}");
    }
    assert_eq!(service.sandbox.api_request_count(), 0);
    Ok(())
}

// R84: an error of the inner service does not show that nothing was sent.
#[tokio::test]
async fn an_api_that_cannot_be_reached_is_a_502_through_each_wrapper() -> Result<(), BoxError> {
    // It closes each connection.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("https://{}", listener.local_addr()?);
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let service = Service::start(Some(&origin)).await?;
    for route in ROUTES {
        assert_eq!(service.order(route).await?, (StatusCode::BAD_GATEWAY, None), "{route}");
    }
    assert_eq!(service.sandbox.token_request_count(), 1);
    Ok(())
}
