//! The client after a migration from the crate `oauth2`, as a process: its settings are environment variables.

use std::env;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use migration::oauth2_crate::after::Orders;
use rustls::crypto::aws_lc_rs;
use tower_bearer_auth::BoxError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let url = env::var("ORDERS_URL")?.parse()?;
    let tls = HttpsConnectorBuilder::new().with_provider_and_native_roots(aws_lc_rs::default_provider())?;
    let https = Client::builder(TokioExecutor::new()).build(tls.https_or_http().enable_http1().build());
    print!("{}", String::from_utf8(Orders::from_env(url, https)?.fetch().await?.into())?);
    Ok(())
}
