//! A future that is dropped at any await point affects no other caller.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{BearerAuth, IssuedToken, TokenSource, from_fn};

use crate::common::{Api, Issuer, Steps, TestClock, assert_reconciles, get, layer, ms, poll_then_drop, secs, settle};

/// How often the API is pending: before it is ready, before it responds, before the body ends.
const STEPS: usize = 3;

/// Which caller is dropped: the one that starts the fetch, or one that joins it.
#[derive(Clone, Copy, Debug)]
enum Role {
    Leader,
    Follower,
}

type Client = BearerAuth<Api, Issuer>;

struct World {
    issuer: Issuer,
    clock: TestClock,
    api: Api,
    source: TokenSource<Issuer>,
    client: Client,
}

impl World {
    fn new() -> Self {
        let (issuer, clock, api) = (Issuer::new(), TestClock::new(), Api::new(STEPS));
        let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
        let client = layer(&source).layer(api.clone());
        Self { issuer, clock, api, source, client }
    }

    async fn warm() -> Self {
        let world = Self::new();
        send(world.client.clone()).await;
        world
    }
}

async fn send(client: Client) {
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
}

/// Drops `victim` at each of its await points, each time in a new world, among eight bystanders. Returns the number of
/// points.
async fn drop_everywhere<V: Future<Output = ()> + Send + 'static>(
    role: Role,
    world: impl AsyncFn() -> World,
    victim: impl Fn(&World) -> V,
    bystander: impl Fn(&World) -> JoinHandle<()>,
    token_requests: usize,
) -> usize {
    for polls in 0.. {
        let world = world().await;
        // Tasks run in the order in which they were spawned, from one await point to the next.
        let ahead = if let Role::Follower = role { 4 } else { 0 };
        let mut others: Vec<_> = (0..ahead).map(|_| bystander(&world)).collect();
        let victim = tokio::spawn(poll_then_drop(polls, victim(&world)));
        others.extend((ahead..8).map(|_| bystander(&world)));
        let finished = victim.await.unwrap();
        for other in join_all(others.into_iter().map(|other| timeout(secs(30), other))).await {
            other.expect("a bystander hung").expect("a bystander failed");
        }
        assert_eq!(world.issuer.requests(), token_requests, "dropped after {polls} polls");
        assert_eq!(world.issuer.dropped(), 0, "dropped after {polls} polls");
        let stats = assert_reconciles(&world.source);
        assert_eq!((stats.waiting, stats.waits_failed), (0, 0), "dropped after {polls} polls");
        if finished.is_some() {
            return polls;
        }
    }
    unreachable!("the loop ends when the victim finishes")
}

#[track_caller]
fn assert_covered(what: &str, role: Role, covered: usize, counted_by_hand: usize) {
    println!("{what}, {role:?}: dropped at {covered} await points, {counted_by_hand} counted by hand");
    assert!(covered >= counted_by_hand, "{what}, {role:?}: {covered} of {counted_by_hand}");
}

// R8
#[tokio::test(start_paused = true)]
async fn a_cold_caller_of_the_source_dropped_at_any_await_point_affects_no_other() {
    for role in [Role::Leader, Role::Follower] {
        let request = |world: &World| {
            let source = world.source.clone();
            async move { drop(source.token().await.unwrap()) }
        };
        let covered =
            drop_everywhere(role, async || World::new(), request, |world| tokio::spawn(request(world)), 1).await;
        // Not polled, and waiting for the fetch.
        assert_covered("cold, source", role, covered, 2);
    }
}

// R8
#[tokio::test(start_paused = true)]
async fn a_cold_request_dropped_at_any_await_point_affects_no_other() {
    for role in [Role::Leader, Role::Follower] {
        let request = |world: &World| send(world.client.clone());
        let covered =
            drop_everywhere(role, async || World::new(), request, |world| tokio::spawn(request(world)), 1).await;
        // Not polled, not ready, waiting for the fetch, waiting for the response.
        assert_covered("cold, layer", role, covered, 1 + STEPS + 1 + STEPS);
    }
}

// R8
#[tokio::test(start_paused = true)]
async fn a_request_in_the_refresh_window_dropped_at_any_await_point_affects_no_other() {
    for role in [Role::Leader, Role::Follower] {
        let in_window = async || {
            let world = World::warm().await;
            world.clock.mono_forward(secs(1100));
            world.clock.wall_forward(secs(1100));
            world
        };
        let request = |world: &World| send(world.client.clone());
        let covered = drop_everywhere(
            role,
            in_window,
            request,
            |world| {
                let (client, source) = (world.client.clone(), world.source.clone());
                tokio::spawn(async move {
                    send(client.clone()).await;
                    sleep(ms(300)).await;
                    send(client).await;
                    assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
                })
            },
            2,
        )
        .await;
        // Not polled, not ready, waiting for the response. The token is cached.
        assert_covered("in the window, layer", role, covered, 1 + STEPS + STEPS);
    }
}

// R8
#[tokio::test(start_paused = true)]
async fn a_replayed_request_dropped_at_any_await_point_affects_no_other() {
    for role in [Role::Leader, Role::Follower] {
        let revoked = async || {
            let world = World::warm().await;
            world.api.revoke("first.1");
            world
        };
        let request = |world: &World| send(world.client.clone());
        let covered = drop_everywhere(role, revoked, request, |world| tokio::spawn(request(world)), 2).await;
        // Not polled, not ready, waiting for the rejection, for the fetch, for the end of the rejection's body, for readiness,
        // and for the response.
        assert_covered("replay, layer", role, covered, 1 + STEPS + STEPS + 1 + STEPS + STEPS + STEPS);
    }
}

// R8, R9
#[test]
fn a_runtime_that_ends_at_any_await_point_of_its_fetch_fails_no_waiter() {
    const AWAITS: usize = 6;
    let mut covered = 0;
    for stands_at in 0..=AWAITS {
        let (first, second) = (runtime(), runtime());
        let begun = Arc::new(AtomicUsize::new(0));
        let fetches = Arc::clone(&begun);
        let source = TokenSource::new(from_fn(move || {
            let never_ends = fetches.fetch_add(1, Ordering::Relaxed) == 0 && stands_at > 0;
            async move {
                Steps(stands_at.saturating_sub(1)).await;
                if never_ends {
                    std::future::pending::<()>().await;
                }
                IssuedToken::bearer("opaque-token")
            }
        }));
        first.block_on(async {
            assert!(source.token().now_or_never().is_none());
            if stands_at > 0 {
                settle().await;
            }
        });
        assert_eq!(begun.load(Ordering::Relaxed), usize::from(stands_at > 0));
        let waiter = source.clone();
        second.block_on(async move {
            let waiting = tokio::spawn(async move { waiter.token().await });
            settle().await;
            tokio::task::spawn_blocking(move || drop(first)).await.unwrap();
            timeout(secs(30), waiting).await.expect("the waiter hung").unwrap().unwrap();
        });
        let stats = source.stats();
        assert_eq!((stats.fetches_cancelled, stats.fetches_succeeded, stats.waits_failed), (1, 1, 0));
        assert_eq!((stats.waits_served, stats.waits_abandoned, stats.waiting), (1, 1, 0));
        covered += 1;
    }
    println!("a runtime ended at {covered} await points of its fetch, {} counted by hand", AWAITS + 1);
    assert!(covered > AWAITS);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// R8
#[tokio::test(start_paused = true)]
async fn callers_that_are_dropped_count_as_abandoned_waits() {
    let world = World::new();
    let leaver = tokio::spawn(send(world.client.clone()));
    let stayer = tokio::spawn(send(world.client.clone()));
    settle().await;
    assert_eq!(assert_reconciles(&world.source).waiting, 2);
    leaver.abort();
    settle().await;
    let stats = assert_reconciles(&world.source);
    assert_eq!((stats.waiting, stats.waits_abandoned), (1, 1));
    stayer.await.unwrap();
    let stats = assert_reconciles(&world.source);
    assert_eq!((stats.waiting, stats.waits_served), (0, 1));
}
