use std::env;

use anyhow::Context;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_bearer_auth::AccessPsp;

/// `ACCESS_PSP_*` are the settings of `AccessPsp::from_env`. `AERA_API_ORIGIN` is the host of the Wallet API, and
/// `LISTEN_ADDR` is where this service listens.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let provider = AccessPsp::from_env("ACCESS_PSP")?;
    let api_origin = env::var("AERA_API_ORIGIN").context("AERA_API_ORIGIN")?;
    let address = env::var("LISTEN_ADDR").context("LISTEN_ADDR")?;

    let tls = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_only()
        .enable_http1()
        .build();
    let https = Client::builder(TokioExecutor::new()).build(tls);
    let app = checkout::app(provider, https, &api_origin);

    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(&address)
        .await
        .with_context(|| format!("listen on {address}"))?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move { _ = terminate.recv().await })
        .await?;
    Ok(())
}
