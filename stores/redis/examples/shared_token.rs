//! Three replicas that share one token through Redis or Valkey.
//!
//! ```sh
//! cargo run --example shared_token -- --redis redis://127.0.0.1:6379
//! ```
//!
//! The replicas are sources in one process, and each has a connection of its own. Start the example twice at the same time: the
//! second one takes the token of the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tower_bearer_auth::shared::{Identity, SealingKey, Shareable, Shared};
use tower_bearer_auth::{BoxError, Error, FetchContext, IssuedToken, Secret, TokenProvider, TokenSource};
use tower_bearer_auth_redis::RedisStore;

/// The provider of one replica. A real one sends a request to its issuer; this one creates the tokens itself.
#[derive(Clone)]
struct Issuer {
    token_requests: Arc<AtomicUsize>,
    secret: Secret,
}

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        let number = self.token_requests.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let token = format!("token-{number}-of-process-{}", std::process::id());
        Ok(IssuedToken::bearer(token)?.expires_in(Duration::from_secs(60)))
    }
}

impl Shareable for Issuer {
    async fn identity(&self, (): &()) -> Result<Identity, Error> {
        let identity = Identity::new("https://issuer.example/token").field("client", "orders");
        Ok(identity.credential(self.secret.load().await?))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    // A URL with rediss:// needs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = match &arguments[..] {
        [option, url] if option == "--redis" => Secret::from(url.as_str()),
        _ => return Err("usage: shared_token --redis URL".into()),
    };
    // For this example alone. Make your own with `openssl rand -hex 32`, and keep it secret.
    let key = SealingKey::from_hex("8f14e45fceea167a5a36dedd4bea2543a1d0c6e83f027327d8461063f4ac58a6")?;
    let issuer = Issuer { token_requests: Arc::default(), secret: Secret::from("correct horse battery staple") };
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let store = RedisStore::builder(url.clone()).build()?;
        let shared = Shared::builder(issuer.clone(), store).sealing_key(key.clone()).build()?;
        replicas.push(TokenSource::new(shared));
    }

    println!("three replicas start at the same time");
    let (first, second, third) = tokio::join!(replicas[0].token(), replicas[1].token(), replicas[2].token());
    for token in [&first, &second, &third] {
        println!("    a replica has {}", token.as_ref().map_err(Clone::clone)?.expose_secret());
    }

    println!("the API rejects the token");
    for replica in &replicas {
        replica.reject(&(), &replica.token().await?);
        println!("    a replica has {}", replica.token().await?.expose_secret());
    }
    println!("{} token requests of this process", issuer.token_requests.load(Ordering::SeqCst));
    Ok(())
}
