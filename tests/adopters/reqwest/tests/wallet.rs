use std::time::Duration;

use eyre::{Result, eyre};
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{ClientCredentials, TokenSource};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};
use wallet_sessions::{NewSession, Wallet, status_for};

const KEY: &str = "6f1c9a9e-0d6c-4c7a-9d3a-1f0b8a5f2c11";

async fn start() -> Result<(AccessPspSandbox, Wallet)> {
    let sandbox = AccessPspSandbox::start()
        .await
        .map_err(|error| eyre!(error))?;
    let provider = ClientCredentials::builder()
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let source = TokenSource::builder(provider)
        .patience(Duration::ZERO)
        .build();
    let http =
        Client::builder().tls_certs_only([Certificate::from_pem(sandbox.ca_pem().as_bytes())?]);
    let wallet = Wallet::new(http, source, sandbox.api_origin())?;
    Ok((sandbox, wallet))
}

fn order() -> NewSession {
    NewSession {
        reference: "order 17".to_owned(),
    }
}

#[tokio::test]
async fn a_session_is_opened_with_a_token() -> Result<()> {
    let (sandbox, wallet) = start().await?;

    let session = wallet.open_session(&order(), KEY).await?;
    wallet.open_session(&order(), KEY).await?;

    assert!(!session.session_id.is_empty());
    assert_eq!(sandbox.sessions().len(), 2);
    assert_eq!(sandbox.token_request_count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_fails_no_call() -> Result<()> {
    let (sandbox, wallet) = start().await?;
    wallet.open_session(&order(), KEY).await?;

    sandbox.revoke_all();
    wallet.open_session(&order(), KEY).await?;

    assert_eq!(sandbox.sessions().len(), 2);
    assert_eq!(sandbox.api_request_count(), 3);
    assert_eq!(sandbox.token_request_count(), 2);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_is_a_503_with_retry_after() -> Result<()> {
    let (sandbox, wallet) = start().await?;
    sandbox.script_always(Fault::retry_after(
        StatusCode::SERVICE_UNAVAILABLE,
        HeaderValue::from(7),
    ));

    let report = wallet.open_session(&order(), KEY).await.unwrap_err();
    let (status, headers) = status_for(&report);

    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = headers[RETRY_AFTER].to_str()?.parse()?;
    assert!((7..=37).contains(&seconds), "{seconds}");
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_a_500() -> Result<()> {
    let (sandbox, wallet) = start().await?;
    sandbox.script_always(Fault::disabled_client());

    let report = wallet.open_session(&order(), KEY).await.unwrap_err();
    let (status, headers) = status_for(&report);

    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(headers.is_empty());
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_token_that_the_api_rejects_twice_is_a_502() -> Result<()> {
    let (sandbox, wallet) = start().await?;
    sandbox.reject_always(true);

    let report = wallet.open_session(&order(), KEY).await.unwrap_err();

    assert_eq!(status_for(&report).0, StatusCode::BAD_GATEWAY);
    assert_eq!(sandbox.api_request_count(), 2);
    Ok(())
}
