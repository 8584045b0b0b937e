//! A provider for one issuer that gives each tenant its own token.
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
    BearerAuthLayer, BoxError, Error, ErrorKind, ExtensionKey, FetchContext, IssuedToken, TokenProvider,
};

/// The tenant of a request. The caller puts it into the extensions of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(&'static str);

/// The provider. A real one sends a request to its issuer; this one creates the tokens itself.
#[derive(Clone, Default)]
struct Issuer {
    token_requests: Arc<AtomicUsize>,
}

impl TokenProvider for Issuer {
    type Key = ExtensionKey<Tenant>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        let number = self.token_requests.fetch_add(1, Ordering::SeqCst) + 1;
        match key.0.0 {
            "umbrella" => Err(Error::new(ErrorKind::InvalidCredentials, "the issuer does not know umbrella")
                .with_hint("sign a contract with umbrella first")),
            tenant => Ok(IssuedToken::bearer(format!("{tenant}-{number}"))?.expires_in(Duration::from_secs(600))),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::default();
    let layer = BearerAuthLayer::new(issuer.clone()).allow_origin("https://api.example.com")?;
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        println!("    the API received {:?}", request.headers()["authorization"].to_str().unwrap_or_default());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    for tenant in [Some("acme"), Some("globex"), Some("acme"), Some("umbrella"), None] {
        println!("{}", tenant.unwrap_or("no tenant"));
        let mut request = Request::get("https://api.example.com/orders").body(Full::default())?;
        if let Some(tenant) = tenant {
            request.extensions_mut().insert(Tenant(tenant));
        }
        if let Err(error) = layer.layer(api).oneshot(request).await {
            println!("    {error}");
            if let Some(hint) = Error::find(&*error).and_then(Error::hint) {
                println!("    hint: {hint}");
            }
        }
    }
    println!("{} token requests", issuer.token_requests.load(Ordering::SeqCst));
    Ok(())
}
