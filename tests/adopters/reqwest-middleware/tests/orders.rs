use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http::header::RETRY_AFTER;
use orders_client::{Bearer, Order, OrdersClient, Receipt, response_for};
use reqwest::{Certificate, Request, Response, Url};
use reqwest_middleware::{ClientBuilder, Middleware, Next};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{
    Audit, BearerAuthLayer, ClientCredentials, Error, ErrorKind, TokenSource, Unauthenticated,
};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault, ScriptedResponse};

const KEY: &str = "6f1c9a9e-0d6c-4c7a-9d3a-1f0b8a5f2c11";

fn layer(sandbox: &AccessPspSandbox) -> anyhow::Result<BearerAuthLayer<ClientCredentials>> {
    let source = TokenSource::builder(provider(sandbox)?).patience(Duration::ZERO);
    Ok(source.build().layer())
}

fn provider(sandbox: &AccessPspSandbox) -> anyhow::Result<ClientCredentials> {
    let provider = ClientCredentials::builder()
        .token_url(sandbox.token_url())
        .api_origin(sandbox.api_origin())
        .client_id(sandbox.client_id())
        .client_secret(sandbox.client_secret())
        .http_client(HttpClient::builder().roots_pem(sandbox.ca_pem()).build()?)
        .build()?;
    Ok(provider)
}

fn http(sandbox: &AccessPspSandbox) -> anyhow::Result<reqwest::ClientBuilder> {
    Ok(reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(sandbox.ca_pem().as_bytes())?]))
}

fn orders_client(sandbox: &AccessPspSandbox) -> anyhow::Result<OrdersClient> {
    orders_client_with(sandbox, layer(sandbox)?)
}

fn orders_client_with(
    sandbox: &AccessPspSandbox,
    layer: BearerAuthLayer<ClientCredentials>,
) -> anyhow::Result<OrdersClient> {
    let orders = Url::parse(&sandbox.api_origin())?.join("/orders")?;
    OrdersClient::new(http(sandbox)?, layer, orders)
}

fn order() -> Order {
    Order {
        reference: "order 17".into(),
        amount: "10.00".into(),
    }
}

fn created(id: &str) -> ScriptedResponse {
    ScriptedResponse::new(StatusCode::CREATED).json(format!(r#"{{"id":"{id}"}}"#))
}

#[tokio::test]
async fn an_order_is_sent_with_a_token_and_its_key() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = orders_client(&sandbox)?;
    sandbox.script_api(created("17"));

    assert_eq!(
        client.place(KEY, &order()).await?,
        Receipt { id: "17".into() }
    );

    let requests = sandbox.api_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/orders");
    assert_eq!(requests[0].headers["idempotency-key"], KEY);
    assert_eq!(
        requests[0].body,
        r#"{"reference":"order 17","amount":"10.00"}"#
    );
    Ok(())
}

#[tokio::test]
async fn after_a_revocation_the_same_order_is_sent_again_with_a_new_token() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = orders_client(&sandbox)?;
    sandbox.script_api(created("17"));
    client.place(KEY, &order()).await?;

    sandbox.revoke_all();
    sandbox.reset_records();
    sandbox.script_api(created("18"));
    assert_eq!(
        client.place(KEY, &order()).await?,
        Receipt { id: "18".into() }
    );

    let requests = sandbox.api_requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].status, Some(StatusCode::UNAUTHORIZED));
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(
        requests[0].headers["idempotency-key"],
        requests[1].headers["idempotency-key"]
    );
    assert_ne!(requests[0].jti, requests[1].jti);
    assert_eq!(sandbox.token_request_count(), 1);
    Ok(())
}

#[tokio::test]
async fn while_the_issuer_is_down_our_caller_gets_a_503_and_nothing_is_sent() -> anyhow::Result<()>
{
    let sandbox = AccessPspSandbox::start().await?;
    let client = orders_client(&sandbox)?;
    sandbox.script_always(Fault::Reset);

    let error = client.place(KEY, &order()).await.unwrap_err();
    assert_eq!(
        Error::find(error.as_ref()).map(Error::kind),
        Some(ErrorKind::Unavailable)
    );
    let response = response_for(&error);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers()[RETRY_AFTER].to_str()?.parse::<u64>()? >= 1);
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn while_the_issuer_does_not_respond_our_caller_gets_a_503_with_retry_after()
-> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let source = TokenSource::builder(provider(&sandbox)?).max_wait(Duration::from_millis(1));
    let client = orders_client_with(&sandbox, source.build().layer())?;
    sandbox.hold_issuer();

    let response = response_for(&client.place(KEY, &order()).await.unwrap_err());
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(sandbox.api_request_count(), 0);
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_a_500_without_retry_after() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = orders_client(&sandbox)?;
    sandbox.script(Fault::disabled_client());

    let response = response_for(&client.place(KEY, &order()).await.unwrap_err());
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.headers().contains_key(RETRY_AFTER));
    Ok(())
}

#[tokio::test]
async fn a_failure_of_the_api_is_a_502_and_names_the_url() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = orders_client(&sandbox)?;
    sandbox.script_api(ScriptedResponse::new(StatusCode::INTERNAL_SERVER_ERROR));

    let error = client.place(KEY, &order()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("{}/orders", sandbox.api_origin())),
        "{error:#}"
    );
    assert_eq!(response_for(&error).status(), StatusCode::BAD_GATEWAY);
    Ok(())
}

struct Count(Arc<AtomicUsize>);

#[async_trait]
impl Middleware for Count {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.0.fetch_add(1, Ordering::SeqCst);
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn a_middleware_after_the_bearer_sees_each_send() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let (before, after) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = ClientBuilder::new(http(&sandbox)?.build()?)
        .with(Count(before.clone()))
        .with(Bearer::new(layer(&sandbox)?))
        .with(Count(after.clone()))
        .build();
    sandbox.reject_next(1);

    let url = format!("{}/echo", sandbox.api_origin());
    let response = client
        .post(url)
        .header("idempotency-key", KEY)
        .json(&order())
        .send()
        .await?;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response
            .extensions()
            .get::<Audit>()
            .map(|audit| audit.sends),
        Some(2)
    );
    assert_eq!(
        (before.load(Ordering::SeqCst), after.load(Ordering::SeqCst)),
        (1, 2)
    );
    Ok(())
}

#[tokio::test]
async fn the_timeout_of_a_request_ends_a_send() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = ClientBuilder::new(http(&sandbox)?.build()?)
        .with(Bearer::new(layer(&sandbox)?))
        .build();
    sandbox.hold();

    let url = format!("{}/echo", sandbox.api_origin());
    let error = client
        .get(url)
        .timeout(Duration::from_millis(200))
        .send()
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    sandbox.release();
    Ok(())
}

#[tokio::test]
async fn a_request_can_be_sent_without_a_token() -> anyhow::Result<()> {
    let sandbox = AccessPspSandbox::start().await?;
    let client = ClientBuilder::new(http(&sandbox)?.build()?)
        .with(Bearer::new(layer(&sandbox)?))
        .build();

    let url = format!("{}/echo", sandbox.api_origin());
    let response = client
        .get(url)
        .with_extension(Unauthenticated)
        .send()
        .await?;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(sandbox.token_request_count(), 0);
    assert!(
        !sandbox.api_requests()[0]
            .headers
            .contains_key("authorization")
    );
    Ok(())
}
