//! Many keys in a bounded cache.

use std::convert::Infallible;

use futures::FutureExt as _;
use futures::future::join_all;
use http::{Request, Response};
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_bearer_auth::{ExtensionKey, TokenSource};

use crate::common::{Issuer, Outcome, TestClock, User, assert_reconciles, ms, secs, settle, unavailable};

struct World {
    issuer: Issuer<User>,
    source: TokenSource<Issuer<User>>,
}

fn world(max_keys: usize) -> World {
    let issuer = Issuer::for_users();
    issuer.set_latency(ms(1));
    let source = TokenSource::builder(issuer.clone()).clock(TestClock::new()).max_keys(max_keys).build();
    World { issuer, source }
}

impl World {
    async fn warm(&self, user: u32, lifetime: u64) {
        self.issuer.set_lifetime(secs(lifetime));
        self.source.warm_up_for(&ExtensionKey(user)).await.unwrap();
    }

    fn touch(&self, user: u32) {
        self.source.token_for(&ExtensionKey(user)).now_or_never().unwrap().unwrap();
    }

    fn cached(&self, users: std::ops::Range<u32>) -> Vec<u32> {
        users.filter(|user| self.source.peek_for(&ExtensionKey(*user)).is_some()).collect()
    }
}

// R31
#[tokio::test(start_paused = true)]
async fn an_expired_key_is_evicted_before_any_usable_one_even_if_it_was_used_last() {
    let world = world(3);
    world.warm(1, 1800).await;
    sleep(secs(5)).await;
    world.warm(2, 1800).await;
    world.warm(3, 40).await;
    sleep(secs(15)).await;
    world.touch(3);
    sleep(secs(30)).await;
    world.warm(4, 1800).await;
    assert_eq!(world.cached(1..5), [1, 2, 4]);
    assert_eq!(world.source.stats().keys, 3);
    // Key 3 is evicted, and its status with it.
    assert_eq!(world.source.status_for(&ExtensionKey(3)).last_error, None);
    assert_eq!(assert_reconciles(&world.source).evicted, 1);
}

// R31
#[tokio::test(start_paused = true)]
async fn among_usable_keys_the_least_recently_used_is_evicted_first() {
    let world = world(3);
    for user in [1, 2, 3] {
        world.warm(user, 1800).await;
        sleep(secs(2)).await;
    }
    for user in [2, 3, 1] {
        world.touch(user);
        sleep(secs(2)).await;
    }
    world.warm(4, 1800).await;
    assert_eq!(world.cached(1..5), [1, 3, 4]);
    sleep(secs(2)).await;
    world.touch(1);
    world.warm(5, 1800).await;
    assert_eq!(world.cached(1..6), [1, 4, 5]);
}

// R31: a request takes its token from the cache without a lookup, and with the readings of its thread.
#[tokio::test(start_paused = true)]
async fn a_key_that_only_requests_use_is_not_evicted_first() {
    let issuer = Issuer::for_users();
    issuer.set_lifetime(secs(1800));
    let world = World { source: TokenSource::builder(issuer.clone()).max_keys(3).build(), issuer };
    for user in [1, 2, 3] {
        world.warm(user, 1800).await;
        sleep(secs(2)).await;
    }
    let api = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = world.source.layer().allow_origin("https://api.example.com").unwrap().layer(api);
    let request = Request::get("https://api.example.com/").extension(1_u32).body(String::new()).unwrap();
    service.oneshot(request).await.unwrap();
    sleep(secs(2)).await;
    world.warm(4, 1800).await;
    assert_eq!(world.cached(1..5), [1, 3, 4]);
}

// R31, R42
#[tokio::test(start_paused = true)]
async fn a_key_that_protects_its_issuer_is_evicted_last() {
    let world = world(3);
    let (failing, rejected) = (ExtensionKey(1), ExtensionKey(2));
    world.issuer.script(Outcome::Fail(unavailable().with_retry_after(secs(60))));
    world.source.token_for(&failing).await.unwrap_err();
    world.warm(2, 1800).await;
    let token = world.source.peek_for(&rejected).unwrap();
    world.source.accept(&token);
    assert!(world.source.reject(&rejected, &token));
    sleep(secs(2)).await;
    for user in 3..8 {
        world.warm(user, 1800).await;
        sleep(secs(1)).await;
    }
    assert_eq!(world.source.stats().keys, 3);
    assert!(world.source.status_for(&failing).next_try.is_some(), "its backoff was removed");
    assert!(world.source.peek_for(&rejected).is_some(), "its budget was removed");
    let requests = world.issuer.requests_for(&failing);
    world.source.token_for(&failing).now_or_never().unwrap().unwrap_err();
    assert_eq!(world.issuer.requests_for(&failing), requests);
}

// R31
#[tokio::test(start_paused = true)]
async fn among_keys_used_at_the_same_time_the_expired_ones_are_evicted_first() {
    let world = world(640);
    world.issuer.set_lifetime(secs(40));
    join_all((0..5).map(ExtensionKey).map(|key| {
        let source = world.source.clone();
        async move { source.warm_up_for(&key).await.unwrap() }
    }))
    .await;
    sleep(secs(100)).await;
    world.issuer.set_lifetime(secs(1800));
    join_all((5..640).map(ExtensionKey).map(|key| {
        let source = world.source.clone();
        async move { source.warm_up_for(&key).await.unwrap() }
    }))
    .await;
    assert_eq!(world.source.stats().evicted, 0);
    // A sweep evicts a sixteenth at once: the five that have expired, and 36 of the others.
    world.warm(640, 1800).await;
    let stats = assert_reconciles(&world.source);
    assert_eq!((stats.evicted, stats.keys), (41, 600));
    assert_eq!(world.cached(5..641).len(), 600, "a usable key was evicted before an expired one");
}

// R31
#[tokio::test(start_paused = true)]
async fn keys_with_a_running_fetch_are_never_evicted_and_do_not_count() {
    let world = world(10);
    world.issuer.set_latency(secs(5));
    let callers: Vec<_> = (0..100)
        .map(|user| {
            let source = world.source.clone();
            tokio::spawn(async move { source.token_for(&ExtensionKey(user)).await.unwrap().expose_secret().to_owned() })
        })
        .collect();
    settle().await;
    assert_eq!((world.issuer.running(), world.source.stats().keys), (100, 100));
    // Other keys come and are evicted.
    world.issuer.set_latency(ms(1));
    for user in 100..200 {
        world.warm(user, 1800).await;
    }
    let stats = assert_reconciles(&world.source);
    assert_eq!((stats.keys, stats.fetches_in_flight), (110, 100));
    // A second call joins the running fetch.
    for user in 0..100 {
        assert!(world.source.token_for(&ExtensionKey(user)).now_or_never().is_none());
    }
    settle().await;
    assert_eq!((world.issuer.running(), world.issuer.requests()), (100, 200));
    for (user, secret) in join_all(callers).await.into_iter().enumerate() {
        assert!(secret.unwrap().starts_with(&format!("first.{user}.")));
    }
    settle().await;
    assert_eq!((world.source.stats().keys, world.issuer.dropped()), (10, 0));
    assert!((0..200).all(|user| world.issuer.requests_for(&ExtensionKey(user)) == 1));
    assert_reconciles(&world.source);
}

// R31, R1
#[tokio::test(start_paused = true)]
async fn a_key_that_was_evicted_and_comes_back_never_has_two_fetches_at_once() {
    for seed in 0..20 {
        let world = world(2);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut callers = Vec::new();
        for _ in 0..500 {
            world.issuer.set_latency(ms(rng.u64(1..50)));
            let (source, user) = (world.source.clone(), rng.u32(..6));
            callers.push(tokio::spawn(async move {
                let token = source.token_for(&ExtensionKey(user)).await.unwrap();
                assert!(token.expose_secret().starts_with(&format!("first.{user}.")), "the token of another user");
            }));
            sleep(ms(rng.u64(..10))).await;
        }
        join_all(callers).await.into_iter().for_each(Result::unwrap);
        assert_eq!(world.issuer.most_at_once(), 1);
        let stats = assert_reconciles(&world.source);
        assert!(stats.evicted > 10 && stats.keys <= 2, "{stats:?}");
    }
}

// R31
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_users_leave_no_more_keys_than_the_limit() {
    let world = world(1_000);
    world.issuer.set_latency(ms(0));
    let mut most = 0;
    for user in 0..100_000 {
        world.source.token_for(&ExtensionKey(user)).await.unwrap();
        let stats = world.source.stats();
        most = most.max(stats.keys - stats.fetches_in_flight);
    }
    assert!(most <= 1_000, "{most} keys");
    let stats = assert_reconciles(&world.source);
    assert!((900..=1_000).contains(&stats.keys), "{} keys", stats.keys);
    assert_eq!(stats.evicted, 100_000 - stats.keys);
}

// R31
#[test]
fn keys_whose_fetches_never_complete_are_bounded_too() {
    let source = TokenSource::builder(Issuer::for_users()).max_keys(100).build();
    // No runtime, so no fetch.
    for user in 0..1_000 {
        futures::executor::block_on(source.token_for(&ExtensionKey(user))).unwrap_err();
    }
    assert!(source.stats().keys <= 100, "{} keys without a runtime", source.stats().keys);
    // Fetches that are cancelled with their runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for user in 0..1_000 {
            source.token_for(&ExtensionKey(user)).now_or_never();
        }
    });
    assert!(source.stats().keys >= 1_000);
    drop(runtime);
    assert!(source.stats().keys <= 100, "{} keys after their runtime", source.stats().keys);
    // Fetches that become stale without a waiter.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for user in 0..1_000 {
            source.token_for(&ExtensionKey(user)).now_or_never();
        }
        source.rotate();
        assert!(source.stats().keys >= 1_000, "the cancelled fetches have not ended");
        settle().await;
    });
    assert!(source.stats().keys <= 100, "{} keys after a rotation", source.stats().keys);
}

/// A key whose hash is the same for every value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SameHash(u32);

impl std::hash::Hash for SameHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u32(7);
    }
}

// R31
#[tokio::test(start_paused = true)]
async fn keys_with_the_same_hash_have_tokens_of_their_own() {
    let issuer = Issuer::<ExtensionKey<SameHash>>::keyed();
    issuer.name_tokens(|request| format!("token-of-{}", request.key.0.0));
    let source = TokenSource::builder(issuer.clone()).max_keys(8).build();
    for _ in 0..2 {
        for user in 0..8 {
            let token = source.token_for(&ExtensionKey(SameHash(user))).await.unwrap();
            assert_eq!(token.expose_secret(), format!("token-of-{user}"));
        }
    }
    assert_eq!((issuer.requests(), source.stats().keys), (8, 8));
    // Eviction removes one of them, and no other one.
    source.token_for(&ExtensionKey(SameHash(8))).await.unwrap();
    assert_eq!((source.stats().keys, source.stats().evicted), (8, 1));
    for user in 0..9 {
        if let Some(token) = source.peek_for(&ExtensionKey(SameHash(user))) {
            assert_eq!(token.expose_secret(), format!("token-of-{user}"));
        }
    }
}
