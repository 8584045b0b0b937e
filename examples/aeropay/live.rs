//! One search at Aeropay's sandbox with the merchant's token.

use bytes::Bytes;
use http::Request;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_bearer_auth::aeropay::{self, Environment};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{Aeropay, BearerAuthLayer, BoxError, OnForeignOrigin, Origins, TokenProvider, replay};

pub(crate) async fn search_transactions() -> Result<(), BoxError> {
    let provider = Aeropay::builder().environment(Environment::Sandbox).from_env("AEROPAY")?.build()?;
    let sandbox = Environment::Sandbox.base_url();
    if provider.origins() != Origins::none().allow(sandbox)? {
        return Err("--live connects to Aeropay's sandbox only; unset AEROPAY_ENVIRONMENT".into());
    }
    println!("provider {provider:?}");
    println!("API host {sandbox}");
    let path = match provider.api_version() {
        aeropay::ApiVersion::V2 => "/v2/transactionSearch",
        _ => "/transactionSearch",
    };
    let layer = BearerAuthLayer::new(provider).on_foreign_origin(OnForeignOrigin::Fail).bodies(replay::Cloned);
    let mut client = ServiceBuilder::new().layer(aeropay::layer(layer)).service(HttpClient::new()?);
    let request =
        Request::post(format!("{sandbox}{path}")).header("content-type", "application/json").body(Bytes::from("{}"))?;
    let response = client.ready().await?.call(request).await?;
    println!("POST {path}: {}", response.status());
    Ok(())
}
