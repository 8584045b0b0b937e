//! What a provider learns about the fetch that it performs.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{BoxError, Error, FetchContext, FetchReason, IssuedToken, TokenProvider, TokenSource};

use crate::common::{TestClock, Trickle, get, layer, ms, secs, settle};

/// One fetch: its reason, the earlier tokens that it replaces, and the challenges.
type Seen = (FetchReason, Vec<usize>, Vec<String>);

/// Returns `token-1`, `token-2` and so on, for 30 min each, and records the context of every fetch.
#[derive(Clone, Default)]
struct Recording {
    seen: Arc<Mutex<Vec<Seen>>>,
    fails: Arc<Mutex<bool>>,
}

impl Recording {
    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn fails(&self, fails: bool) {
        *self.fails.lock().unwrap() = fails;
    }
}

impl TokenProvider for Recording {
    type Key = ();

    async fn fetch(&self, (): &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            let replaced = (1..=seen.len()).filter(|number| cx.replaces(&format!("token-{number}"))).collect();
            let challenges = cx.challenges().iter().map(|value| value.to_str().unwrap().to_owned()).collect();
            seen.push((cx.reason(), replaced, challenges));
            seen.len()
        };
        sleep(ms(10)).await;
        if *self.fails.lock().unwrap() {
            return Err(Error::transient("down"));
        }
        Ok(IssuedToken::bearer(format!("token-{number}"))?.expires_in(secs(1800)))
    }
}

fn world() -> (Recording, TestClock, TokenSource<Recording>) {
    let (provider, clock) = (Recording::default(), TestClock::new());
    let source = TokenSource::builder(provider.clone()).clock(clock.clone()).patience(ms(0)).build();
    (provider, clock, source)
}

fn without_challenges(reason: FetchReason, replaced: &[usize]) -> Seen {
    (reason, replaced.to_vec(), Vec::new())
}

#[tokio::test(start_paused = true)]
async fn the_first_fetch_of_a_key_replaces_nothing() {
    let (provider, _, source) = world();
    provider.fails(true);
    source.token().await.unwrap_err();
    assert_eq!(provider.last(), without_challenges(FetchReason::First, &[]));
    // After a failure there is still no token.
    sleep(secs(1)).await;
    provider.fails(false);
    source.token().await.unwrap();
    assert_eq!(provider.last(), without_challenges(FetchReason::First, &[]));
}

#[tokio::test(start_paused = true)]
async fn an_early_refresh_and_a_fetch_after_expiry_replace_the_expiring_token() {
    let (provider, clock, source) = world();
    source.token().await.unwrap();
    clock.mono_forward(secs(1000));
    source.token().await.unwrap();
    settle().await;
    assert_eq!((provider.count(), provider.last()), (2, without_challenges(FetchReason::Expiring, &[1])));
    sleep(ms(20)).await;
    clock.mono_forward(secs(1800));
    assert!(source.peek().is_none());
    source.token().await.unwrap();
    assert_eq!((provider.count(), provider.last()), (3, without_challenges(FetchReason::Expiring, &[2])));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_after_a_rejection_replaces_the_rejected_token() {
    let (provider, _, source) = world();
    let first = source.token().await.unwrap();
    source.accept(&first);
    assert!(source.reject(&(), &first));
    settle().await;
    assert_eq!(provider.last(), without_challenges(FetchReason::Rejected, &[1]));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_and_an_invalidation_replace_no_token() {
    for forget in [TokenSource::<Recording>::rotate, TokenSource::<Recording>::invalidate] {
        let (provider, _, source) = world();
        source.token().await.unwrap();
        forget(&source);
        source.token().await.unwrap();
        assert_eq!((provider.count(), provider.last()), (2, without_challenges(FetchReason::Rotated, &[])));
        // The next fetch has another reason again.
        let second = source.peek().unwrap();
        assert!(source.reject(&(), &second));
        settle().await;
        assert_eq!(provider.last(), without_challenges(FetchReason::Rejected, &[2]));
    }
}

const CHALLENGE: &str = "Bearer realm=\"api\", error=\"invalid_token\"";

/// Sends one request through the layer, to an API that rejects its first request.
async fn rejected_once(source: &TokenSource<Recording>) {
    let requests = Arc::new(Mutex::new(0));
    let api = service_fn(move |_: Request<String>| {
        let mut requests = requests.lock().unwrap();
        *requests += 1;
        let mut response = Response::new(Trickle::default());
        if *requests == 1 {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            response.headers_mut().append("www-authenticate", CHALLENGE.parse().unwrap());
            response.headers_mut().append("www-authenticate", "Basic".parse().unwrap());
        }
        async move { Ok::<_, BoxError>(response) }
    });
    layer(source).layer(api).oneshot(get()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_after_a_401_gets_its_challenges_and_the_next_fetch_does_not() {
    let (provider, clock, source) = world();
    rejected_once(&source).await;
    let challenges = vec![CHALLENGE.to_owned(), "Basic".to_owned()];
    assert_eq!((provider.count(), provider.last()), (2, (FetchReason::Rejected, vec![1], challenges)));
    clock.mono_forward(secs(1800));
    source.token().await.unwrap();
    assert_eq!(provider.last(), without_challenges(FetchReason::Expiring, &[2]));
}

/// The provider must not return the invalid token from a cache of its own in a later fetch either.
#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_by_the_fetch_after_a_failed_one_too() {
    let (provider, clock, source) = world();
    source.accept(&source.token().await.unwrap());
    provider.fails(true);
    rejected_once(&source).await;
    assert_eq!(provider.count(), 2);
    assert_eq!(source.peek().unwrap().expose_secret(), "token-1", "the fetch failed, so the token is stamped again");
    provider.fails(false);
    clock.mono_forward(secs(10));
    rejected_once(&source).await;
    let challenges = vec![CHALLENGE.to_owned(), "Basic".to_owned()];
    assert_eq!((provider.count(), provider.last()), (3, (FetchReason::Rejected, vec![1], challenges)));
}
