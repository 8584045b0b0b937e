//! Opens wallet sessions at Aera for our shop.

mod error;

use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde::{Deserialize, Serialize};
use tower::timeout::Timeout;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer_auth::{
    AccessPsp, Audit, BearerAuth, BearerAuthLayer, OnForeignOrigin, TokenSource, replay,
};

pub use error::Failed;

/// The client for Aera's API, without the token.
pub type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Longer than a request may wait for a token (15 s), so that an issuer that is down never looks like an API that is slow.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_RESPONSE: usize = 64 * 1024;

#[derive(Clone)]
struct Wallet {
    api: Timeout<BearerAuth<Https, AccessPsp, replay::Cloned>>,
    tokens: TokenSource<AccessPsp>,
    sessions_url: String,
}

#[derive(Deserialize, Serialize)]
struct Order {
    reference: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
    session_key: String,
}

/// `api_origin` is one of the origins of the provider, for example `https://api.aerahost.com`.
pub fn app(provider: AccessPsp, https: Https, api_origin: &str) -> Router {
    let layer = BearerAuthLayer::new(provider)
        .on_foreign_origin(OnForeignOrigin::Fail)
        .bodies(replay::Cloned);
    let wallet = Wallet {
        tokens: layer.source().clone(),
        api: ServiceBuilder::new()
            .timeout(TIMEOUT)
            .layer(layer)
            .service(https),
        sessions_url: format!("{api_origin}/wallets/wsps/sessions"),
    };
    Router::new()
        .route("/checkout", post(checkout))
        .route("/readyz", get(readyz))
        .route("/livez", get(async || StatusCode::OK))
        .with_state(wallet)
}

async fn checkout(
    State(wallet): State<Wallet>,
    Json(order): Json<Order>,
) -> Result<(StatusCode, Json<Session>), Failed> {
    let request = Request::post(&wallet.sessions_url)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(serde_json::to_vec(&order)?))?;
    let response = wallet
        .api
        .oneshot(request)
        .await
        .map_err(anyhow::Error::from_boxed)
        .context("open a session")?;

    if response.status() != StatusCode::CREATED {
        let replay = Audit::of(&response).map(|audit| audit.replay);
        return Err(anyhow!(
            "Aera responded with {} (replay: {replay:?})",
            response.status()
        )
        .into());
    }
    let body = Limited::new(response.into_body(), MAX_RESPONSE)
        .collect()
        .await;
    let body = body
        .map_err(anyhow::Error::from_boxed)
        .context("read the session")?
        .to_bytes();
    Ok((
        StatusCode::CREATED,
        Json(serde_json::from_slice(&body).context("parse the session")?),
    ))
}

async fn readyz(State(wallet): State<Wallet>) -> StatusCode {
    if wallet.tokens.check_ready(&()).is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
