//! A provider of one's own, with keys of its own: one token for each tenant of a platform.
//!
//! ```sh
//! cargo run --example custom_provider
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_bearer_auth::{
    BearerAuthLayer, BoxError, Error, ErrorKind, FetchContext, FromExtension, IssuedToken, TokenProvider,
};

/// Put into a request's extensions, it says for which tenant the request is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(&'static str);

/// An issuer that would be asked over the network; here it is in the process.
#[derive(Clone, Default)]
struct Issuer {
    asked: Arc<AtomicUsize>,
}

impl TokenProvider for Issuer {
    type Key = FromExtension<Tenant>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        match key.0.0 {
            "umbrella" => {
                let error = Error::permanent("403").with_kind(ErrorKind::InvalidCredentials);
                Err(error.with_message("the issuer has no contract with umbrella"))
            }
            tenant => Ok(IssuedToken::bearer(format!("{tenant}-{nth}"))?.expires_in(Duration::from_secs(600))),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::default();
    let layer = BearerAuthLayer::new(issuer.clone()).allow_origin("https://api.example.com")?;
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        println!("    the API saw {:?}", request.headers()["authorization"].to_str().unwrap_or("no text"));
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    for tenant in [Some("acme"), Some("globex"), Some("acme"), Some("umbrella"), None] {
        println!("{}", tenant.unwrap_or("nobody"));
        let mut request = Request::get("https://api.example.com/orders").body(Full::default())?;
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(Tenant(tenant));
        }
        if let Err(error) = layer.layer(api).oneshot(request).await {
            println!("    not sent: {error}");
        }
    }
    println!("{} token requests", issuer.asked.load(Ordering::SeqCst));
    Ok(())
}
