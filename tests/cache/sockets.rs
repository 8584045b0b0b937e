//! The same over real sockets: the AccessPSP sandbox over TLS, in real time. The servers count.

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use http::{Request, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::token_endpoint::HttpClient;
use tower_bearer_auth::{AccessPsp, BearerAuth, Error, ErrorKind, TokenSource, replay};
use tower_bearer_auth_sandbox::{AccessPspSandbox, Fault};

use crate::common::{DAY, TestClock, secs, settle};
use crate::support::wait::eventually;
use crate::support::wait::within;

type Client = BearerAuth<HttpClient, AccessPsp, replay::Cloned>;

struct World {
    sandbox: AccessPspSandbox,
    clock: TestClock,
    source: TokenSource<AccessPsp>,
    client: Client,
}

impl World {
    async fn new() -> Self {
        let (sandbox, clock) = (AccessPspSandbox::start().await.unwrap(), TestClock::new());
        let http = || HttpClient::builder().roots_pem(sandbox.ca_pem()).build().unwrap();
        let provider = AccessPsp::builder()
            .client_id(sandbox.client_id())
            .client_secret(sandbox.client_secret())
            .environment("sandbox")
            .token_url(sandbox.token_url())
            .api_origin(sandbox.api_origin())
            .http_client(http())
            .build()
            .unwrap();
        let source = TokenSource::builder(provider).clock(clock.clone()).patience(secs(0)).build();
        let client = source.layer().bodies(replay::Cloned).layer(http());
        Self { sandbox, clock, source, client }
    }

    fn echo(&self) -> Request<Bytes> {
        Request::get(format!("{}/echo", self.sandbox.api_origin())).body(Bytes::new()).unwrap()
    }

    async fn send(&self) -> Result<StatusCode, tower_bearer_auth::BoxError> {
        self.client.clone().oneshot(self.echo()).await.map(|response| response.status())
    }
}

// R1
#[tokio::test]
async fn a_thousand_cold_callers_reach_the_issuer_once() {
    let world = World::new().await;
    world.sandbox.hold_issuer();
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let source = world.source.clone();
            tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
        })
        .collect();
    within("the issuer holds the token request", world.sandbox.wait_issuer_held(1)).await;
    eventually("all callers wait", || world.source.stats().waiting == 1_000).await;
    world.sandbox.release_issuer();
    for secret in join_all(callers).await {
        assert_eq!(secret.unwrap(), world.source.peek().unwrap().expose_secret());
    }
    assert_eq!(world.sandbox.token_request_count(), 1);
    assert_eq!((world.source.stats().fetches, world.source.stats().waits_served), (1, 1_000));
}

// R1, R3
#[tokio::test]
async fn a_thousand_cold_callers_share_one_503() {
    let world = World::new().await;
    world.sandbox.script(Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    world.sandbox.hold_issuer();
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let source = world.source.clone();
            tokio::spawn(async move { source.token().await.unwrap_err() })
        })
        .collect();
    eventually("all callers wait", || world.source.stats().waiting == 1_000).await;
    within("the issuer holds the token request", world.sandbox.wait_issuer_held(1)).await;
    world.sandbox.release_issuer();
    for error in join_all(callers).await {
        let error = error.unwrap();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(error.is_transient() && error.retry_after().is_some());
    }
    assert_eq!(world.sandbox.token_request_count(), 1);
    assert_eq!(world.source.stats().waits_failed, 1_000);
}

// R8, R11
#[tokio::test]
async fn callers_that_give_up_before_the_response_leave_one_fetch_that_completes() {
    let world = World::new().await;
    world.sandbox.hold_issuer();
    for _ in 0..50 {
        assert!(world.send().now_or_never().is_none());
    }
    within("the issuer holds the token request", world.sandbox.wait_issuer_held(1)).await;
    world.sandbox.release_issuer();
    assert_eq!(world.send().await.unwrap(), StatusCode::OK);
    assert_eq!(world.sandbox.token_request_count(), 1);
    assert_eq!(world.source.stats().waits_abandoned, 50);
}

// R38, R40
#[tokio::test]
async fn an_outage_in_the_refresh_window_fails_no_request_and_an_expired_token_is_not_sent() {
    let world = World::new().await;
    assert_eq!(world.send().await.unwrap(), StatusCode::OK);
    world.sandbox.script_always(Fault::status(StatusCode::BAD_GATEWAY));
    world.clock.mono_forward(secs(1700));
    for tries in 2..5 {
        assert_eq!(world.send().await.unwrap(), StatusCode::OK);
        within("the token requests", world.sandbox.wait_token_requests(tries)).await;
        eventually("the fetch has ended", || world.source.stats().fetches_in_flight == 0).await;
        world.clock.mono_forward(secs(20));
    }
    world.clock.mono_forward(secs(30));
    let before = world.sandbox.api_request_count();
    let error = world.send().await.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(world.sandbox.api_request_count(), before);
}

// R14: a connection in an idle runtime would never return a response.
#[test]
fn a_connection_of_an_idle_runtime_is_not_used_by_another_runtime() {
    let servers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = servers.block_on(World::new());
    let (idle, other) = (runtime(), runtime());
    let refreshed_in = |runtime: &Runtime| {
        world.source.rotate();
        runtime.block_on(async {
            timeout(secs(5), world.source.token()).await.expect("a connection of another runtime").unwrap();
            // The connection returns to its pool.
            settle().await;
        });
    };
    refreshed_in(&idle);
    refreshed_in(&other);
    assert_eq!(world.sandbox.issuer_connections(), 2);
    // In the same runtime it is used again.
    refreshed_in(&other);
    assert_eq!(world.sandbox.issuer_connections(), 2);
    refreshed_in(&idle);
    assert_eq!((world.sandbox.issuer_connections(), world.sandbox.token_request_count()), (3, 4));
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

// R14
#[test]
fn a_source_and_its_client_work_after_the_runtimes_that_used_them_have_ended() {
    let servers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = servers.block_on(World::new());
    let served_in = |runtime: Runtime, fetch_in_flight: bool| {
        runtime.block_on(async {
            let status = timeout(secs(30), world.send()).await.expect("hung").unwrap();
            assert_eq!(status, StatusCode::OK);
            if fetch_in_flight {
                world.sandbox.hold_issuer();
                world.clock.mono_forward(secs(1));
                world.source.invalidate();
                assert!(world.send().now_or_never().is_none());
                within("the issuer holds the token request", world.sandbox.wait_issuer_held(1)).await;
            }
        });
        drop(runtime);
        world.sandbox.release_issuer();
    };
    // Warm; then expired, with pooled connections of an ended runtime; then with a running fetch.
    served_in(runtime(), false);
    world.clock.mono_forward(DAY);
    served_in(runtime(), true);
    served_in(runtime(), true);
    served_in(runtime(), false);
    let stats = world.source.stats();
    assert_eq!((stats.fetches_cancelled, stats.waits_failed), (2, 0));
    assert_eq!(stats.fetches as usize, world.sandbox.token_request_count());
}
