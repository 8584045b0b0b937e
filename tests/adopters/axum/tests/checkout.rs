use anyhow::Result;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_bearer_auth::{AccessPsp, token_endpoint::HttpClient};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

fn https(ca_pem: &str) -> Result<checkout::Https> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let tls = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(tls))
}

/// Starts the service in front of a sandbox, on a free port of loopback, and returns its origin.
async fn start(sandbox: &AccessPspSandbox) -> Result<String> {
    let provider = AccessPsp::builder()
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    let app = checkout::app(provider, https(sandbox.ca_pem())?, &sandbox.api_origin());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(origin)
}

async fn send(request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    let (head, body) = Client::builder(TokioExecutor::new())
        .build_http()
        .request(request)
        .await?
        .into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

async fn checkout(origin: &str) -> Result<Response<Bytes>> {
    let order = Full::from(json!({"reference": "order 17"}).to_string());
    send(
        Request::post(format!("{origin}/checkout"))
            .header(CONTENT_TYPE, "application/json")
            .body(order)?,
    )
    .await
}

async fn status_of(url: String) -> Result<StatusCode> {
    Ok(send(Request::get(url).body(Full::default())?)
        .await?
        .status())
}

#[tokio::test]
async fn a_checkout_opens_a_session() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let origin = start(&sandbox).await?;

    let response = checkout(&origin).await?;

    assert_eq!(response.status(), StatusCode::CREATED);
    let session: Value = serde_json::from_slice(response.body())?;
    let opened = sandbox.sessions();
    assert_eq!(opened.len(), 1);
    assert_eq!(session["sessionId"], opened[0].session_id);
    assert_eq!(
        serde_json::from_slice::<Value>(&opened[0].body)?,
        json!({"reference": "order 17"})
    );
    assert_eq!(status_of(format!("{origin}/readyz")).await?, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_checkout_after_a_revocation_succeeds() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let origin = start(&sandbox).await?;
    assert_eq!(checkout(&origin).await?.status(), StatusCode::CREATED);

    sandbox.revoke_all();

    assert_eq!(checkout(&origin).await?.status(), StatusCode::CREATED);
    assert_eq!(sandbox.sessions().len(), 2);
    assert_eq!(sandbox.api_request_count(), 3);
    assert_eq!(sandbox.token_request_count(), 2);
    Ok(())
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_caller_may_retry() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let origin = start(&sandbox).await?;
    let down = Fault::retry_after(
        StatusCode::SERVICE_UNAVAILABLE,
        HeaderValue::from_static("20"),
    );
    sandbox.script_always(down);

    let response = checkout(&origin).await?;

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry_after: u64 = response.headers()[RETRY_AFTER].to_str()?.parse()?;
    assert!(retry_after >= 20, "{retry_after}");
    assert_eq!(sandbox.api_request_count(), 0);
    assert_eq!(
        status_of(format!("{origin}/readyz")).await?,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(status_of(format!("{origin}/livez")).await?, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_rejected_session_is_a_bad_gateway() -> Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let origin = start(&sandbox).await?;
    sandbox.reject_always(true);

    let response = checkout(&origin).await?;

    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(!response.headers().contains_key(RETRY_AFTER));
    assert!(sandbox.sessions().is_empty());
    Ok(())
}
