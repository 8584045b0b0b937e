//! The layer over the pooled client of hyper-util: a cold start, and a revocation while requests are pending.
//!
//! ```sh
//! cargo run --example hyper
//! ```

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BearerAuth, BearerAuthLayer, BoxError, replay};
use tower_bearer_auth_sandbox::AccessPspSandbox;

const SESSIONS: usize = 20;

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sandbox = AccessPspSandbox::start().await?;
    let provider = AccessPsp::builder()
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .environment("sandbox")
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    // `Full<Bytes>` is cheap to clone, so requests with a body can be replayed.
    let layer = BearerAuthLayer::new(provider).bodies(replay::Cloned);
    let wallet = layer.layer(https_client(sandbox.ca_pem())?);

    open_sessions(&wallet, &sandbox).await?;
    report("a cold start", &sandbox, 0)?;

    sandbox.hold();
    let revoke = async {
        sandbox.wait_held(SESSIONS).await;
        sandbox.revoke_all();
        sandbox.release();
    };
    let (opened, ()) = tokio::join!(open_sessions(&wallet, &sandbox), revoke);
    opened?;
    report("a revocation while requests are pending", &sandbox, SESSIONS)
}

/// The client names its cryptography, so it does not depend on the default of the process.
fn https_client(ca_pem: &str) -> Result<Https, BoxError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_all_versions().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn open_sessions(
    wallet: &BearerAuth<Https, AccessPsp, replay::Cloned>,
    sandbox: &AccessPspSandbox,
) -> Result<(), BoxError> {
    let mut calls = JoinSet::new();
    for number in 0..SESSIONS {
        let mut wallet = wallet.clone();
        let request = Request::post(format!("{}/wallets/wsps/sessions", sandbox.api_origin()))
            .header("content-type", "application/json")
            .body(Full::from(format!(r#"{{"reference":"order {number}"}}"#)))?;
        calls.spawn(async move { wallet.ready().await?.call(request).await });
    }
    while let Some(response) = calls.join_next().await {
        let status = response??.status();
        if status != StatusCode::CREATED {
            return Err(format!("the API responded with {status}").into());
        }
    }
    Ok(())
}

/// Prints and checks what the servers counted since the last report.
fn report(what: &str, sandbox: &AccessPspSandbox, expected_rejections: usize) -> Result<(), BoxError> {
    let (sessions, tokens) = (sandbox.sessions().len(), sandbox.token_request_count());
    let requests = sandbox.api_requests();
    let rejected = requests.iter().filter(|request| request.status == Some(StatusCode::UNAUTHORIZED)).count();
    let version = requests[0].version;
    println!("{what}: {sessions} sessions over {version:?}, {rejected} rejected requests, {tokens} token request");
    sandbox.reset_records();
    let is_expected = (sessions, rejected, tokens) == (SESSIONS, expected_rejections, 1);
    if is_expected { Ok(()) } else { Err("the counts differ from the expected ones".into()) }
}
