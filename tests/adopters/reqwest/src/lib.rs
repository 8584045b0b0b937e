//! The client of the wallet API.

use std::time::Duration;

use eyre::{Report, Result, WrapErr, eyre};
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use reqwest::{Body, Client, ClientBuilder, Method, RequestBuilder, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};
use tower_bearer_auth::replay::{Buffered, ReplayBody};
use tower_bearer_auth::{BoxError, ClientCredentials, Error, OnForeignOrigin, TokenSource};

/// The largest body that can be sent again after a rejected token.
const REPLAY_LIMIT: usize = 64 * 1024;

#[derive(Debug, Serialize)]
pub struct NewSession {
    pub reference: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub session_id: String,
    pub session_key: String,
}

/// A cheap handle: clones share the connections and the token.
#[derive(Clone)]
pub struct Wallet {
    http: Client,
    api: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
    origin: String,
}

impl Wallet {
    /// Reads `WALLET_API_ORIGIN`, `OAUTH_TOKEN_URL`, `OAUTH_CLIENT_ID`, `OAUTH_CLIENT_SECRET` and the optional
    /// variables of [`ClientCredentialsBuilder::from_env`].
    ///
    /// [`ClientCredentialsBuilder::from_env`]: tower_bearer_auth::ClientCredentialsBuilder::from_env
    pub fn from_env() -> Result<Self> {
        let origin = std::env::var("WALLET_API_ORIGIN").wrap_err("WALLET_API_ORIGIN")?;
        let provider = ClientCredentials::builder()
            .api_origin(&origin)
            .from_env("OAUTH")?
            .build()?;
        Self::new(
            Client::builder().timeout(Duration::from_secs(20)),
            TokenSource::new(provider),
            origin,
        )
    }

    /// `http` gets no redirects, because they would bypass the check of the origin.
    pub fn new(
        http: ClientBuilder,
        source: TokenSource<ClientCredentials>,
        origin: String,
    ) -> Result<Self> {
        let http = http.redirect(redirect::Policy::none()).build()?;
        let layer = source
            .layer()
            .on_foreign_origin(OnForeignOrigin::Fail)
            .bodies(Buffered::new(REPLAY_LIMIT, |body: ReplayBody<Body>| {
                Body::wrap(body)
            }));
        let api = ServiceBuilder::new()
            .layer(layer)
            .map_response(Response::<Body>::from)
            .filter(|request: Request<Body>| reqwest::Request::try_from(request))
            .service(http.clone());
        Ok(Self {
            http,
            api: BoxCloneSyncService::new(api),
            origin,
        })
    }

    /// The caller stores `idempotency_key` with the order, and uses it again for each retry.
    pub async fn open_session(
        &self,
        session: &NewSession,
        idempotency_key: &str,
    ) -> Result<Session> {
        let request = self
            .request(Method::POST, "/wallets/wsps/sessions")
            .header("idempotency-key", idempotency_key)
            .json(session);
        self.send(request).await.wrap_err("open a wallet session")
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.origin))
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let request = request.build()?.try_into()?;
        let response = self
            .api
            .clone()
            .oneshot(request)
            .await
            .map_err(|error| eyre!(error))?;
        Ok(reqwest::Response::from(response)
            .error_for_status()?
            .json()
            .await?)
    }
}

/// What to return to our own caller, whose credentials and request are not the cause.
///
/// 503 if the request was not sent and a retry may help, 500 if it was not sent and a setting is wrong, and 502 if the
/// API may have received it.
pub fn status_for(report: &Report) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    let status = match Error::find(report.as_ref()) {
        Some(error) if error.is_transient() => {
            let delay = error.retry_after().unwrap_or(Duration::from_secs(1));
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs() + 1));
            StatusCode::SERVICE_UNAVAILABLE
        }
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
        None => StatusCode::BAD_GATEWAY,
    };
    (status, headers)
}
