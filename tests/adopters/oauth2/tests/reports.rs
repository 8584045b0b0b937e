use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reports::{Https, Reports};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BoxError, ClientCredentials};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse};

fn https(ca_pem: &str) -> Result<Https, BoxError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn start() -> Result<(AccessPspSandbox, Reports), BoxError> {
    let sandbox = AccessPspSandbox::builder().allow_scope("reports").start().await?;
    let provider = ClientCredentials::builder()
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .scope("reports")
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let url = format!("{}/echo", sandbox.api_origin()).parse()?;
    let reports = Reports::new(url, provider, https(sandbox.ca_pem())?);
    Ok((sandbox, reports))
}

#[tokio::test]
async fn a_request_is_stamped() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    sandbox.script_api(ScriptedResponse::new(StatusCode::OK).body("the report"));
    assert_eq!(reports.fetch().await?, "the report");
    assert_eq!(sandbox.token_requests()[0].fields.iter().find(|(name, _)| name == "scope").unwrap().1, "reports");

    reports.fetch().await?;
    assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn a_revoked_token_is_replaced() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    reports.fetch().await?;
    sandbox.revoke_all();
    reports.fetch().await?;
    assert_eq!((sandbox.token_request_count(), sandbox.api_request_count()), (2, 3));
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_down_is_a_503_with_retry_after() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    sandbox.script_always(Fault::retry_after(StatusCode::SERVICE_UNAVAILABLE, HeaderValue::from(7)));
    let response = reports.fetch().await.unwrap_err().to_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = response.headers()[RETRY_AFTER].to_str()?.parse()?;
    assert!((2..=8).contains(&seconds), "{seconds}");
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn an_api_that_rejects_every_token_is_a_502() -> Result<(), BoxError> {
    let (sandbox, reports) = start().await?;
    sandbox.reject_always(true);
    let response = reports.fetch().await.unwrap_err().to_response();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(!response.headers().contains_key(RETRY_AFTER));
    Ok(())
}
