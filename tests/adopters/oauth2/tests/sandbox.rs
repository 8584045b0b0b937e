use http::{HeaderValue, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use reports::{Reports, ReportsError};
use rustls::crypto::aws_lc_rs;
use tower_bearer_auth::{BoxError, ClientCredentials};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse};

async fn start() -> Result<(AccessPspSandbox, Reports), BoxError> {
    let sandbox = AccessPspSandbox::builder().plain_http().allow_scope("reports").start().await?;
    let provider = ClientCredentials::builder()
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .scope("reports")
        .build()?;
    let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(aws_lc_rs::default_provider())?;
    let connector = tls.https_or_http().enable_http1().build();
    let https = Client::builder(TokioExecutor::new()).build(connector);
    let reports = Reports::new(&sandbox.api_origin(), provider, https)?;
    Ok((sandbox, reports))
}

fn script_reports(sandbox: &AccessPspSandbox, reports: &'static str) {
    sandbox.script_api(ScriptedResponse::new(StatusCode::OK).json(reports));
}

#[tokio::test]
async fn a_stamped_request_succeeds() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    script_reports(&sandbox, r#"["january"]"#);

    assert_eq!(reports.fetch().await?, r#"["january"]"#);
    assert_eq!(sandbox.token_request_count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_replaced() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    script_reports(&sandbox, r#"["january"]"#);
    script_reports(&sandbox, r#"["january", "february"]"#);
    reports.fetch().await?;

    sandbox.revoke_all();
    assert_eq!(reports.fetch().await?, r#"["january", "february"]"#);
    assert_eq!(sandbox.token_request_count(), 2);
    assert_eq!(sandbox.api_request_count(), 3);
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_gives_503_with_retry_after() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    sandbox.script_always(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from_static("7")));

    let response = reports.fetch().await.unwrap_err().to_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry_after: u64 = response.headers()["retry-after"].to_str()?.parse()?;
    assert!(retry_after >= 7, "{retry_after}");
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_failure_of_the_api_gives_502() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    sandbox.script_api(ScriptedResponse::new(StatusCode::SERVICE_UNAVAILABLE));

    let error = reports.fetch().await.unwrap_err();
    assert!(matches!(error, ReportsError::Status(StatusCode::SERVICE_UNAVAILABLE)), "{error:?}");
    assert_eq!(error.to_response().status(), StatusCode::BAD_GATEWAY);
    Ok(())
}
