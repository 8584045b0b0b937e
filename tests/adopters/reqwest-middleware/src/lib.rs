//! A client of the orders API.

mod bearer;

use anyhow::Context as _;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use reqwest::{Url, redirect};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use serde::{Deserialize, Serialize};
use tower_bearer_auth::{BearerAuthLayer, ClientCredentials, OnForeignOrigin, TokenProvider};

pub use bearer::Bearer;

#[derive(Debug, Serialize)]
pub struct Order {
    pub reference: String,
    pub amount: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    pub id: String,
}

/// A cheap handle: clones share the connections and the token.
#[derive(Clone)]
pub struct OrdersClient {
    http: ClientWithMiddleware,
    orders: Url,
}

impl OrdersClient {
    /// Reads `ORDERS_URL`, `OAUTH_TOKEN_URL`, `OAUTH_CLIENT_ID` and `OAUTH_CLIENT_SECRET`.
    pub fn from_env() -> anyhow::Result<Self> {
        let orders = std::env::var("ORDERS_URL").context("ORDERS_URL")?;
        let orders: Url = orders.parse().context("ORDERS_URL")?;
        let provider = ClientCredentials::builder()
            .api_origin(orders.origin().ascii_serialization())
            .from_env("OAUTH")?
            .build()?;
        Self::new(
            reqwest::Client::builder(),
            BearerAuthLayer::new(provider),
            orders,
        )
    }

    /// A client that posts to `orders` with the tokens of `layer`.
    pub fn new<P: TokenProvider>(
        http: reqwest::ClientBuilder,
        layer: BearerAuthLayer<P>,
        orders: Url,
    ) -> anyhow::Result<Self> {
        let http = http.redirect(redirect::Policy::none()).build()?;
        let bearer = Bearer::new(layer.on_foreign_origin(OnForeignOrigin::Fail));
        Ok(Self {
            http: ClientBuilder::new(http).with(bearer).build(),
            orders,
        })
    }

    /// Places an order. `key` is stored with the order: each attempt for the same order must use it.
    pub async fn place(&self, key: &str, order: &Order) -> anyhow::Result<Receipt> {
        let request = self
            .http
            .post(self.orders.clone())
            .header("idempotency-key", key)
            .json(order);
        let response = request.send().await.context("place an order")?;
        Ok(response.error_for_status()?.json().await?)
    }
}

/// The response to our own caller for a failed [`OrdersClient::place`].
pub fn response_for(error: &anyhow::Error) -> Response<()> {
    let mut response = Response::new(());
    let Some(error) = tower_bearer_auth::Error::find(error.as_ref()) else {
        *response.status_mut() = StatusCode::BAD_GATEWAY; // the order may have been placed
        return response;
    };
    if !error.is_transient() {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    }
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    // Rounded up. Without a time it is one second.
    let seconds = error.retry_after().unwrap_or_default().as_secs() + 1;
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
