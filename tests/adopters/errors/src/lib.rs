//! A service with one route for each way to handle errors. Each route opens a wallet session at the API.

use std::error::Error as StdError;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::Request;
use tower::ServiceExt;
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BearerAuth, BoxError, Error, replay};

pub type Client = BearerAuth<HttpClient, AccessPsp, replay::Cloned>;

#[derive(Clone, Debug)]
pub struct Wallet {
    pub client: Client,
    pub sessions: String,
}

impl Wallet {
    async fn open(self) -> Result<StatusCode, BoxError> {
        let request = Request::post(&self.sessions).header("content-type", "application/json");
        let request = request.body(Bytes::from_static(br#"{"reference":"order 17"}"#))?;
        Ok(self.client.oneshot(request).await?.status())
    }
}

/// The response for an error. `Error::find` looks through the wrappers.
fn response_for(error: &(dyn StdError + 'static)) -> Response {
    let Some(error) = Error::find(error) else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if !error.is_transient() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    // Rounded up: a caller that comes back too early fails again. Without a time it is one second.
    let seconds = error.retry_after().unwrap_or_default().as_secs() + 1;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// With anyhow.
pub mod with_anyhow {
    use anyhow::Context;

    use super::*;

    #[derive(Debug)]
    pub struct Failed(anyhow::Error);

    impl<E: Into<anyhow::Error>> From<E> for Failed {
        fn from(error: E) -> Self {
            Self(error.into())
        }
    }

    impl IntoResponse for Failed {
        fn into_response(self) -> Response {
            response_for(self.0.as_ref())
        }
    }

    pub async fn order(State(wallet): State<Wallet>) -> Result<StatusCode, Failed> {
        Ok(wallet.open().await.map_err(anyhow::Error::from_boxed).context("open a session")?)
    }
}

/// With eyre.
pub mod with_eyre {
    use eyre::WrapErr;

    use super::*;

    #[derive(Debug)]
    pub struct Failed(eyre::Report);

    impl<E: Into<eyre::Report>> From<E> for Failed {
        fn from(error: E) -> Self {
            Self(error.into())
        }
    }

    impl IntoResponse for Failed {
        fn into_response(self) -> Response {
            response_for(self.0.as_ref())
        }
    }

    pub async fn order(State(wallet): State<Wallet>) -> Result<StatusCode, Failed> {
        Ok(wallet.open().await.map_err(|error| eyre::eyre!(error)).wrap_err("open a session")?)
    }
}

/// With an error type by thiserror.
pub mod with_thiserror {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    pub enum Failed {
        #[error("the session could not be opened")]
        Wallet(#[from] BoxError),
    }

    impl IntoResponse for Failed {
        fn into_response(self) -> Response {
            response_for(&self)
        }
    }

    pub async fn order(State(wallet): State<Wallet>) -> Result<StatusCode, Failed> {
        Ok(wallet.open().await?)
    }
}

pub fn routes(wallet: Wallet) -> Router {
    Router::new()
        .route("/anyhow", post(with_anyhow::order))
        .route("/eyre", post(with_eyre::order))
        .route("/thiserror", post(with_thiserror::order))
        .with_state(wallet)
}
