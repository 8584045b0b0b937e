//! Providers that need the token that they are fetching.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::time::sleep;
use tower::buffer::Buffer;
use tower::util::BoxCloneService;
use tower::{BoxError, Layer as _, ServiceExt as _};
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, FetchContext, IssuedToken, TokenProvider, TokenSource};

use crate::common::{Api, Stopwatch, TestClock, Trickle, User, get, layer, ms, secs};

type Client = BoxCloneService<http::Request<String>, http::Response<Trickle>, BoxError>;

/// Sends a request with its own client for each token. A test sets the client later.
#[derive(Clone, Default)]
struct Looped {
    client: Arc<Mutex<Option<Client>>>,
    fetches: Arc<Mutex<usize>>,
}

impl TokenProvider for Looped {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        *self.fetches.lock().unwrap() += 1;
        let client = self.client.lock().unwrap().clone().unwrap();
        let response = client.oneshot(get()).await;
        response.map_err(|error| Error::find(&*error).cloned().unwrap_or_else(|| Error::transient(error)))?;
        let number = *self.fetches.lock().unwrap();
        Ok(IssuedToken::bearer(format!("token.{number}"))?.expires_in(secs(1800)))
    }
}

struct World {
    provider: Looped,
    source: TokenSource<Looped>,
    clock: TestClock,
    api: Api,
}

fn world() -> World {
    let (provider, clock, api) = (Looped::default(), TestClock::new(), Api::new(1));
    let source = TokenSource::builder(provider.clone()).clock(clock.clone()).build();
    World { provider, source, clock, api }
}

// R13
#[tokio::test(start_paused = true)]
async fn a_provider_whose_client_is_wrapped_by_its_own_layer_fails_at_once() {
    let World { provider, source, api, .. } = world();
    *provider.client.lock().unwrap() = Some(BoxCloneService::new(layer(&source).layer(api.clone())));
    let client = layer(&source).layer(api.clone());
    let watch = Stopwatch::start();
    let error = client.oneshot(get()).await.map(drop).unwrap_err();
    let error = Error::find(&*error).unwrap();
    assert!(watch.read() < secs(1), "{:?}", watch.read());
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Reentrant, false));
    assert!(error.hint().unwrap().contains("client"), "{error}");
    assert!(api.authorizations().is_empty());
    assert_eq!(*provider.fetches.lock().unwrap(), 1);
}

// R13
#[tokio::test(start_paused = true)]
async fn in_the_refresh_window_a_wrapped_client_sends_the_old_token() {
    let World { provider, source, clock, api } = world();
    // The first token is fetched with a plain client.
    let plain = tower::service_fn(|_| async { Ok::<_, BoxError>(http::Response::new(Trickle::default())) });
    *provider.client.lock().unwrap() = Some(BoxCloneService::new(plain));
    let client = layer(&source).layer(api.clone());
    client.clone().oneshot(get()).await.unwrap();
    *provider.client.lock().unwrap() = Some(BoxCloneService::new(layer(&source).layer(api.clone())));
    clock.mono_forward(secs(1100));
    client.clone().oneshot(get()).await.unwrap();
    sleep(ms(10)).await;
    client.oneshot(get()).await.unwrap();
    assert_eq!(api.authorizations(), ["Bearer token.1", "Bearer token.1", "Bearer token.1", "Bearer token.2"]);
    assert_eq!(*provider.fetches.lock().unwrap(), 2);
}

// R13
#[tokio::test(start_paused = true)]
async fn a_wrapped_client_in_another_task_is_ended_by_the_fetch_timeout() {
    let World { provider, source, api, .. } = world();
    let buffered = Buffer::new(layer(&source).layer(api.clone()), 1);
    *provider.client.lock().unwrap() = Some(BoxCloneService::new(tower::ServiceBuilder::new().service(buffered)));
    let watch = Stopwatch::start();
    let error = source.token().await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
    assert!(watch.read() <= ms(12_050), "{:?}", watch.read());
}

/// A provider that needs another user's token for some users' tokens.
struct Chained {
    source: Arc<OnceLock<TokenSource<Self>>>,
    needs: fn(u32) -> Option<u32>,
}

impl Chained {
    fn source(needs: fn(u32) -> Option<u32>) -> TokenSource<Self> {
        let itself = Arc::new(OnceLock::new());
        let source = TokenSource::new(Self { source: Arc::clone(&itself), needs });
        itself.set(source.clone()).ok().unwrap();
        source
    }
}

impl TokenProvider for Chained {
    type Key = User;

    async fn fetch(&self, key: &User, _: &FetchContext) -> Result<IssuedToken, Error> {
        sleep(ms(100)).await;
        if let Some(other) = (self.needs)(key.0) {
            self.source.get().unwrap().token_for(&ExtensionKey(other)).await?;
        }
        IssuedToken::bearer(format!("user.{}", key.0))
    }
}

// R13
#[tokio::test(start_paused = true)]
async fn a_fetch_may_wait_for_the_token_of_another_key() {
    let source = Chained::source(|user| (user == 2).then_some(1));
    let token = source.token_for(&ExtensionKey(2)).await.unwrap();
    assert_eq!(token.expose_secret(), "user.2");
    assert_eq!(source.stats().fetches, 2);
}

// R13
#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_for_its_own_key_fails_at_once() {
    let source = Chained::source(Some);
    let watch = Stopwatch::start();
    assert_eq!(source.token_for(&ExtensionKey(2)).await.unwrap_err().kind(), ErrorKind::Reentrant);
    assert_eq!(watch.read(), ms(100));
}

// R13
#[tokio::test(start_paused = true)]
async fn two_fetches_that_wait_for_each_other_are_ended_by_the_fetch_timeout() {
    let source = Chained::source(|user| Some(3 - user));
    let watch = Stopwatch::start();
    let (one, two) = (ExtensionKey(1), ExtensionKey(2));
    let (one, two) = tokio::join!(source.token_for(&one), source.token_for(&two));
    assert!(one.is_err() && two.is_err());
    assert!(watch.read() <= ms(12_100), "{:?}", watch.read());
    assert_eq!(source.stats().fetches, 2);
}
