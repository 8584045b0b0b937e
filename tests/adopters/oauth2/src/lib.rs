//! A client of the reports API.

use std::env;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use tower::{Layer, ServiceExt};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{BasicEncoding, BearerAuth, BearerAuthLayer, BoxError, ClientCredentials, OnForeignOrigin};

#[cfg(feature = "before")]
pub mod before;
mod error;

pub use error::Error;

pub type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The client. A clone is cheap and shares the token.
#[derive(Clone, Debug)]
pub struct Reports {
    url: Uri,
    api: BearerAuth<Https, ClientCredentials>,
}

impl Reports {
    /// Reads `REPORTS_URL`, `REPORTS_TOKEN_URL`, `REPORTS_CLIENT_ID` and `REPORTS_CLIENT_SECRET`, and the proxy for
    /// token requests from `HTTPS_PROXY`.
    pub fn from_env() -> Result<Self, BoxError> {
        let url = env::var("REPORTS_URL").map_err(|error| format!("REPORTS_URL: {error}"))?;
        let url: Uri = url.parse().map_err(|error| format!("REPORTS_URL: {error}"))?;
        let provider = ClientCredentials::builder()
            .api_origin(origin(&url)?)
            .client_secret_basic(BasicEncoding::Form)
            .scope("reports")
            .default_lifetime(Duration::from_secs(240))
            .http_client(HttpClient::builder().proxy_from_env().build()?)
            .from_env("REPORTS")?
            .build()?;
        let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(aws_lc_rs::default_provider())?;
        let connector = tls.https_only().enable_http1().build();
        Ok(Self::new(url, provider, Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// A client of the report at `url`. `provider` must allow the origin of `url`.
    pub fn new(url: Uri, provider: ClientCredentials, https: Https) -> Self {
        let layer = BearerAuthLayer::new(provider).on_foreign_origin(OnForeignOrigin::Fail);
        Self { url, api: layer.layer(https) }
    }

    pub async fn fetch(&self) -> Result<Bytes, Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.url.clone();
        let response = self.api.clone().oneshot(request).await.map_err(Error::Call)?;
        match response.status() {
            StatusCode::OK => {}
            status => return Err(Error::Status(status)),
        }
        let body = response.into_body().collect().await.map_err(|error| Error::Body(error.into()))?;
        Ok(body.to_bytes())
    }
}

fn origin(url: &Uri) -> Result<String, BoxError> {
    let scheme = url.scheme_str().ok_or("REPORTS_URL has no scheme")?;
    let authority = url.authority().ok_or("REPORTS_URL has no host")?;
    Ok(format!("{scheme}://{authority}"))
}
