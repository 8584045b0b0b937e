//! Everything that can happen at a shared store.

use std::time::Duration;

use tokio::time::sleep;
use tower_bearer_auth::shared::{Claim, Identity, MemoryStore, Outcome, SealingKey, Shared, StoreError, TokenStore};
use tower_bearer_auth::{Error, ErrorKind, IssuedToken, TokenProvider, TokenSource, from_fn};

use crate::support::telemetry::Capture;

/// A store that is down.
struct Down;

impl TokenStore for Down {
    async fn claim(&self, _: &str, _: &[u8; 16], _: Duration, _: Option<[u8; 16]>) -> Result<Claim, StoreError> {
        Err(StoreError::new("connection refused"))
    }

    async fn publish(&self, _: &str, _: &[u8; 16], _: Outcome<'_>) -> Result<bool, StoreError> {
        Err(StoreError::new("connection refused"))
    }
}

fn source<S: TokenStore>(store: S, key: u8, fails: bool) -> TokenSource<impl TokenProvider<Key = ()>> {
    let mut bytes = [7; 32];
    bytes[0] = key;
    let provider = from_fn(move || async move {
        sleep(Duration::from_millis(200)).await;
        match fails {
            true => Err(Error::new(ErrorKind::Unavailable, "down")),
            false => Ok(IssuedToken::bearer("a")?.expires_in(Duration::from_secs(1800))),
        }
    });
    let identity = Identity::new("https://issuer.test").field("fails", fails.to_string());
    let shared = Shared::builder(provider.identified_by(identity), store).sealing_key(SealingKey::new(bytes).unwrap());
    TokenSource::builder(shared.build().unwrap()).patience(Duration::ZERO).build()
}

/// Causes every event about a store.
pub(crate) async fn each_outcome() {
    let store = MemoryStore::new();
    let [one, two] = [(); 2].map(|()| source(store.clone(), 1, false));
    let (first, second) = tokio::join!(one.token(), two.token());
    assert!(first.is_ok() && second.is_ok());
    // Another key, and then a note.
    source(store.clone(), 2, false).token().await.unwrap();
    for _ in 0..2 {
        source(store.clone(), 1, true).token().await.unwrap_err();
    }
    source(Down, 1, false).token().await.unwrap();
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn the_counters_of_the_store_equal_the_statistics() {
    let capture = Capture::start();
    let store = MemoryStore::new();
    let sources = [(1, false), (1, false), (2, false), (1, true), (1, true)]
        .map(|(key, fails)| source(store.clone(), key, fails));
    for source in &sources {
        let _ = source.token().await;
    }
    let down = source(Down, 1, false);
    down.token().await.unwrap();
    let stats = sources.iter().map(TokenSource::stats).chain([down.stats()]).collect::<Vec<_>>();
    let sum = |of: fn(&tower_bearer_auth::SourceStats) -> u64| stats.iter().map(of).sum::<u64>();
    let counted = |outcome| capture.count("store_total", &[("outcome", outcome)]);
    assert_eq!((counted("hit"), sum(|stats| stats.store_hits)), (1, 1));
    assert_eq!((counted("miss"), sum(|stats| stats.store_misses)), (3, 3));
    assert_eq!((counted("leased"), sum(|stats| stats.store_leases)), (3, 3));
    assert_eq!((counted("noted"), sum(|stats| stats.store_notes)), (1, 1));
    assert_eq!((counted("failed"), sum(|stats| stats.store_failures)), (1, 1));
    assert_eq!((counted("unopened"), sum(|stats| stats.store_unopened)), (1, 1));
    assert_eq!((counted("waited"), sum(|stats| stats.store_waits)), (0, 0));
}
