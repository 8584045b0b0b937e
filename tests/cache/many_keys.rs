//! Many keys in one source: the cache stays within its limit, and no key delays another one.

use std::ops::Range;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::Instant;
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, TokenSource};

use crate::support::issuer::{Issuer, Outcome};

type User = ExtensionKey<u64>;

/// Users above this number have tokens of a minute.
const SHORT_LIVED: u64 = 1_000_000_000;

/// An issuer of the tokens `user-1`, `user-2` and so on. It holds the requests of some users and fails those of others.
fn issuer(held: Range<u64>, failing: Range<u64>) -> Issuer<User> {
    let issuer = Issuer::keyed().without_history();
    issuer.set_latency(Duration::ZERO);
    issuer.set_lifetime_if(|user: &User| user.0 > SHORT_LIVED, Duration::from_secs(60));
    issuer.name_tokens(|request| format!("user-{}", request.key.0));
    issuer.script_with(move |request| match request.key.0 {
        user if held.contains(&user) => Outcome::Hold,
        user if failing.contains(&user) => Outcome::Fail(Error::permanent("no such user")),
        _ => Outcome::Mint,
    });
    issuer
}

async fn call(source: &TokenSource<Issuer<User>>, user: u64) -> Result<(), Error> {
    let token = source.token_for(&ExtensionKey(user)).await?;
    assert_eq!(token.expose_secret(), format!("user-{user}"));
    Ok(())
}

async fn call_all(source: &TokenSource<Issuer<User>>, users: impl Iterator<Item = u64>) {
    for outcome in join_all(users.map(|user| call(source, user))).await {
        outcome.unwrap();
    }
}

// R31. In real time: nothing here waits for a timer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_users_leave_no_more_keys_than_the_limit() {
    const USERS: u64 = 1_000_000;
    const CAP: u64 = 10_000;
    const AT_ONCE: u64 = 100;
    const TASKS: u64 = 2;
    let issuer = issuer(0..0, 0..0);
    let source = TokenSource::builder(issuer.clone()).max_keys(CAP as usize).build();
    let tasks = (0..TASKS).map(|task| {
        let source = source.clone();
        tokio::spawn(async move {
            let mut most = 0;
            let share = USERS / TASKS;
            for wave in 0..share / AT_ONCE {
                let first = task * share + wave * AT_ONCE;
                call_all(&source, first..first + AT_ONCE).await;
                most = most.max(source.stats().keys);
            }
            most
        })
    });
    let most = join_all(tasks).await.into_iter().map(Result::unwrap).max().unwrap();
    // One token request for each user.
    assert_eq!(issuer.requests() as u64, USERS);
    let stats = source.stats();
    assert_eq!(stats.fetches_succeeded, USERS);
    assert!(most <= CAP + TASKS * AT_ONCE, "{most} keys");
    assert!(stats.keys <= CAP, "{} keys at rest", stats.keys);
    assert!(stats.keys + stats.evicted >= USERS, "{stats:?}");
    // The cache is nearly full: a sweep evicts a sixteenth at most.
    assert!(stats.keys >= CAP - CAP / 16, "{} keys at rest", stats.keys);
    // The most recent users stay in the cache.
    call_all(&source, USERS..USERS + AT_ONCE).await;
    call_all(&source, USERS..USERS + AT_ONCE).await;
    assert_eq!(issuer.requests() as u64, USERS + AT_ONCE);
}

// R10, R30
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the virtual clock shows that no call waited")]
async fn one_user_s_stalled_or_failing_fetch_delays_and_fails_no_other() {
    let issuer = issuer(7..8, 8..9);
    let source = TokenSource::new(issuer.clone());
    let stalled = tokio::spawn({
        let source = source.clone();
        async move { call(&source, 7).await }
    });
    issuer.wait_held(1).await;
    assert!(!call(&source, 8).await.unwrap_err().is_transient());
    let began = Instant::now();
    call_all(&source, 100..1100).await;
    // No time has passed for 1 000 users beside one that hangs and one that fails.
    assert_eq!(began, Instant::now());
    assert_eq!(issuer.requests(), 1002);
    assert_eq!(call(&source, 8).await.unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(issuer.requests(), 1002, "the backoff is that of one user");
    issuer.release();
    stalled.await.unwrap().unwrap();
}

// R31
#[tokio::test(start_paused = true)]
async fn a_key_with_a_running_fetch_is_never_evicted() {
    let issuer = issuer(0..50, 0..0);
    let source = TokenSource::builder(issuer.clone()).max_keys(10).build();
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { call_all(&source, 0..50).await }
    });
    issuer.wait_held(50).await;
    for wave in 0..100 {
        call_all(&source, 1000 + wave * 10..1010 + wave * 10).await;
        assert!(source.stats().keys <= 10 + 50 + 10, "{} keys", source.stats().keys);
    }
    assert_eq!(source.stats().fetches_in_flight, 50);
    issuer.release();
    waiting.await.unwrap();
    // One token request for each of them: none was evicted while its fetch ran.
    assert_eq!(issuer.requests(), 50 + 1000);
    assert!(source.stats().keys <= 10, "{} keys", source.stats().keys);
}

// R31
#[tokio::test(start_paused = true)]
async fn expired_keys_are_evicted_first_and_then_the_least_recently_used() {
    let issuer = issuer(0..0, 0..0);
    let source = TokenSource::builder(issuer.clone()).max_keys(40).build();
    let cached = |user: u64| source.peek_for(&ExtensionKey(user)).is_some();
    call_all(&source, 0..20).await;
    call_all(&source, SHORT_LIVED + 1..SHORT_LIVED + 21).await;
    tokio::time::advance(Duration::from_secs(120)).await;
    // New users take the places of the twenty whose tokens have expired.
    for user in 100..118 {
        call(&source, user).await.unwrap();
    }
    assert!((0..20).all(cached), "a usable key was evicted");
    // The long-lived keys are used again, except 0 to 9.
    tokio::time::advance(Duration::from_secs(5)).await;
    call_all(&source, (10..20).chain(100..118)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    for user in 200..208 {
        call(&source, user).await.unwrap();
    }
    assert!((10..20).chain(100..118).chain(200..208).all(cached), "a recently used key was evicted");
    assert!(!(0..10).all(cached));
    assert!(source.stats().keys <= 40);
}

// R31: the memory of an idle user.
#[test]
fn an_idle_user_costs_no_more_than_a_kibibyte() {
    const USERS: u64 = 20_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source = TokenSource::builder(issuer(0..0, 0..0)).max_keys(USERS as usize).build();
    // The first users pay for what the runtime and the counters allocate once.
    runtime.block_on(call_all(&source, USERS..USERS + 100));
    let measured = allocation_counter::measure(|| {
        for wave in 0..USERS / 100 - 1 {
            runtime.block_on(call_all(&source, wave * 100..wave * 100 + 100));
        }
    });
    let users = source.stats().keys - 100;
    assert_eq!(users, USERS - 100);
    let token = "Bearer user-10000".len() as i64;
    let each = measured.bytes_current / users as i64 - token;
    println!("{each} bytes for an idle user beside the token");
    assert!(each <= 1024, "{each} bytes");
}

// R31: the cost of a hit, in allocations.
#[test]
fn a_hit_allocates_nothing_among_ten_users_or_a_hundred_thousand() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for users in [10, 100_000] {
        let source = TokenSource::builder(issuer(0..0, 0..0)).max_keys(users as usize).build();
        for wave in 0..users / 10 {
            runtime.block_on(call_all(&source, wave * 10..wave * 10 + 10));
        }
        let keys: Vec<_> = (0..10).map(|nth| ExtensionKey(nth * users / 10)).collect();
        let measured = allocation_counter::measure(|| {
            for key in &keys {
                let token = source.token_for(key).now_or_never();
                assert!(token.is_some_and(|token| token.is_ok()));
            }
        });
        assert_eq!(measured.count_total, 0, "{users} users");
        assert_eq!(source.stats().evicted, 0);
    }
}
