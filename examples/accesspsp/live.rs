//! One session at the real service. It makes no sale.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tower::{Service, ServiceExt};
use tower_bearer_auth::{AccessPsp, BearerAuthLayer, BoxError, OnForeignOrigin};

use crate::job::expect;
use crate::stack::{self, Added};

pub(crate) async fn open_one_session(api: &str) -> Result<(), BoxError> {
    let provider = AccessPsp::from_env("ACCESS_PSP")?;
    let uri: Uri = format!("{}/wallets/wsps/sessions", api.trim_end_matches('/')).parse()?;
    println!("provider {provider:?}");
    println!("Wallet API host {}", uri.host().ok_or("the API URL has no host")?);

    let layer = BearerAuthLayer::new(provider)
        .allow_origin(api.trim_end_matches('/'))?
        .on_foreign_origin(OnForeignOrigin::Fail);
    let mut client = stack::with_token(stack::https_client(None)?, &layer, &Added::default());
    let request = Request::post(uri)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(r#"{"reference":"tower-bearer-auth example"}"#))?;
    expect(StatusCode::CREATED, client.ready().await?.call(request).await?).await?;
    println!("created one session");
    Ok(())
}
