//! A client of the reports API.

#[cfg(feature = "before")]
pub mod before;
mod error;

use std::env;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use tower::{Layer, ServiceExt};
use tower_bearer_auth::{BasicEncoding, BearerAuth, BearerAuthLayer, BoxError, ClientCredentials, OnForeignOrigin};

pub use error::ReportsError;

/// The pooled HTTP client below the token layer.
pub type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Fetches reports. Clones share the token and the connections.
#[derive(Clone)]
pub struct Reports {
    api: BearerAuth<Https, ClientCredentials>,
    url: Uri,
}

impl Reports {
    /// Reads `REPORTS_ORIGIN`, `OAUTH_TOKEN_URL`, `OAUTH_CLIENT_ID` and `OAUTH_CLIENT_SECRET`.
    pub fn from_env() -> Result<Self, BoxError> {
        let origin = env::var("REPORTS_ORIGIN")?;
        let provider = ClientCredentials::builder()
            .api_origin(&origin)
            .client_secret_basic(BasicEncoding::Form)
            .scope("reports")
            .from_env("OAUTH")?
            .build()?;
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(aws_lc_rs::default_provider())?;
        let connector = tls.https_only().enable_http1().build();
        Self::new(&origin, provider, Client::builder(TokioExecutor::new()).build(connector))
    }

    /// A client of the API at `origin`, to which `provider` must allow its tokens.
    pub fn new(origin: &str, provider: ClientCredentials, https: Https) -> Result<Self, BoxError> {
        let layer = BearerAuthLayer::new(provider).on_foreign_origin(OnForeignOrigin::Fail);
        Ok(Self { api: layer.layer(https), url: format!("{origin}/reports").parse()? })
    }

    /// Fetches the reports.
    pub async fn fetch(&self) -> Result<Bytes, ReportsError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.url.clone();
        let response = self.api.clone().oneshot(request).await?;
        if !response.status().is_success() {
            return Err(ReportsError::Status(response.status()));
        }
        let body = response.into_body().collect().await.map_err(BoxError::from)?;
        Ok(body.to_bytes())
    }
}
