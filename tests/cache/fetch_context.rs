//! What a provider learns about the fetch that it performs.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{
    BoxError, Clock as _, Error, FetchContext, FetchReason, IssuedToken, TokenProvider, TokenSource, from_fn,
};

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

/// What a fetch learns about time, and whether it wants a token of half an hour with these secrets and ages in s.
type Asked = Arc<Mutex<Vec<(tokio::time::Duration, Vec<bool>)>>>;

/// Asks its context about tokens, and then returns `token-1`, `token-2` and so on.
#[derive(Clone, Default)]
struct Asking {
    about: Arc<Mutex<Vec<(&'static str, u64)>>>,
    asked: Asked,
}

impl TokenProvider for Asking {
    type Key = ();

    async fn fetch(&self, (): &(), cx: &FetchContext) -> Result<IssuedToken, Error> {
        sleep(ms(250)).await;
        let about = self.about.lock().unwrap().clone();
        let wants = |(secret, age): (&str, u64)| {
            cx.wants(&IssuedToken::bearer(secret).unwrap().expires_in(secs(1800)).with_age(secs(age)))
        };
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((cx.time_left(), about.into_iter().map(wants).collect()));
            asked.len()
        };
        Ok(IssuedToken::bearer(format!("token-{number}"))?.expires_in(secs(1800)))
    }
}

// R87
#[tokio::test(start_paused = true)]
async fn a_fetch_knows_its_time_and_which_tokens_it_must_not_take() {
    let provider = Asking::default();
    let source = TokenSource::builder(provider.clone()).clock(TestClock::new()).fetch_timeout(secs(7)).build();
    *provider.about.lock().unwrap() = vec![("other", 0), ("other", 1769), ("other", 1770)];
    let first = source.token().await.unwrap();
    assert_eq!(*provider.asked.lock().unwrap(), [(ms(6750), vec![true, true, false])]);
    source.accept(&first);
    sleep(secs(100)).await;
    // The first token is 100.25 s old, and the second fetch asks 250 ms later.
    *provider.about.lock().unwrap() = vec![("token-1", 0), ("other", 100), ("other", 101)];
    assert!(source.reject(&(), &first));
    source.token().await.unwrap();
    assert_eq!(provider.asked.lock().unwrap()[1], (ms(6750), vec![false, true, false]));
    source.invalidate();
    *provider.about.lock().unwrap() = vec![("token-1", 0), ("token-2", 0), ("other", 0), ("other", 2)];
    source.token().await.unwrap();
    assert_eq!(provider.asked.lock().unwrap()[2].1, [false, false, true, false]);
}

// R87
#[test]
fn a_context_without_a_source_wants_every_usable_token_and_has_no_timeout() {
    let cx = FetchContext::default();
    assert_eq!(cx.time_left(), std::time::Duration::MAX);
    let token = |lifetime, age| IssuedToken::bearer("a").unwrap().expires_in(secs(lifetime)).with_age(secs(age));
    assert!(cx.wants(&token(1800, 1769)));
    assert!(!cx.wants(&token(1800, 1770)));
    assert!(!cx.wants(&IssuedToken::bearer("a").unwrap().expires_at(std::time::SystemTime::UNIX_EPOCH)));
    // Without a lifetime, 5 min are assumed.
    assert!(cx.wants(&IssuedToken::bearer("a").unwrap().with_age(secs(269))));
    assert!(!cx.wants(&IssuedToken::bearer("a").unwrap().with_age(secs(270))));
}

/// Returns a token of half an hour, `age` old, after `took`.
async fn usable_for(age: u64, took: u64) -> (Result<u64, Error>, Option<u64>) {
    let clock = TestClock::new();
    let provider = from_fn(move || async move {
        sleep(secs(took)).await;
        Ok(IssuedToken::bearer("old")?.expires_in(secs(1800)).with_age(secs(age)))
    });
    let source = TokenSource::builder(provider).clock(clock.clone()).patience(ms(0)).build();
    let begun = clock.now().wall;
    let token = source.token().await.map(|token| token.expires_at().duration_since(begun).unwrap().as_secs());
    let mut seconds = 0;
    while source.peek().is_some() {
        clock.mono_forward(secs(1));
        clock.wall_forward(secs(1));
        seconds += 1;
    }
    (token, Some(seconds).filter(|seconds| *seconds > 0))
}

// R91
#[tokio::test(start_paused = true)]
async fn the_age_of_a_token_counts_from_the_end_of_the_fetch() {
    for (age, took, expires_at, usable) in [(0, 9, 1809, 1770), (600, 9, 1209, 1170), (1769, 3, 34, 1)] {
        let (token, seconds) = usable_for(age, took).await;
        assert_eq!((token.unwrap(), seconds), (expires_at, Some(usable)), "age {age}");
    }
    // Rule 3: after `usable_until` a token serves the waiters of its fetch alone, and after `expires_at` no one.
    let (token, seconds) = usable_for(1780, 3).await;
    assert_eq!((token.unwrap(), seconds), (23, None));
    let (token, _) = usable_for(1800, 3).await;
    let error = token.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("had expired"), "{error}");
}
