//! Missing, ended, idle and timerless runtimes; dropped handles; a fetch that inherits nothing from its first caller.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::executor::block_on;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use tower_bearer_auth::{
    Error, ErrorKind, ExtensionKey, FetchContext, IssuedToken, TokenProvider, TokenSource, from_fn,
};
use tracing::Instrument as _;

use crate::common::{
    Api, DAY, Issuer, Outcome, Stopwatch, TestClock, User, assert_reconciles, get, layer, ms, secs, settle,
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

// R14
#[test]
fn source_and_layer_are_built_used_and_dropped_outside_of_a_runtime() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let client = layer(&source).layer(Api::new(0));
    assert!(source.peek().is_none());
    assert!(!source.status().is_ready());
    source.invalidate();
    source.rotate();
    drop(client.clone());
    runtime().block_on(async { client.oneshot(get()).await.unwrap() });
    assert_eq!(issuer.requests(), 1);
    assert_reconciles(&source);
}

// R14
#[test]
fn without_a_runtime_a_due_fetch_is_an_error_with_a_hint_and_a_cached_token_is_used() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    issuer.set_latency(ms(1));
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
    let client = layer(&source).layer(Api::new(1));
    for _ in 0..3 {
        let error = block_on(source.token()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRuntime);
        let hint = error.hint().unwrap();
        assert!(hint.contains("runtime") && !hint.contains("enable_time"), "{error}");
        let error = block_on(client.clone().oneshot(get())).map(drop).unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::NoRuntime);
    }
    // It causes no backoff: only the runtime was missing.
    runtime().block_on(source.token()).unwrap();
    assert_eq!(block_on(source.token()).unwrap().generation(), 1);
    assert_eq!(block_on(client.clone().oneshot(get())).unwrap().status(), 200);
    // The same in the window: the refresh waits for a runtime.
    clock.mono_forward(secs(1100));
    assert_eq!(block_on(client.oneshot(get())).unwrap().status(), 200);
    assert_eq!(issuer.requests(), 1);
    assert_reconciles(&source);
}

// R14
#[test]
fn a_request_made_outside_of_the_runtime_that_polls_it_is_served() {
    let issuer = Issuer::new();
    issuer.set_latency(ms(1));
    let source = TokenSource::new(issuer.clone());
    let mut client = layer(&source).layer(Api::new(0));
    let response = tower::Service::call(&mut client, get());
    assert_eq!(runtime().block_on(response).unwrap().status(), 200);
    assert_eq!(issuer.requests(), 1);
}

// R14
#[test]
fn a_request_made_outside_of_a_runtime_during_a_backoff_fails_fast_once() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Fail(Error::permanent("wrong secret")));
    let source = TokenSource::new(issuer.clone());
    let mut client = layer(&source).layer(Api::new(0));
    let runtime = runtime();
    runtime.block_on(source.token()).unwrap_err();
    let response = tower::Service::call(&mut client, get());
    let error = runtime.block_on(response).map(drop).unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Other);
    assert_eq!(source.stats().failed_fast, 1);
    assert_reconciles(&source);
}

// R14
#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_leaves_no_task_even_with_a_running_fetch() {
    let issuer = Issuer::new();
    issuer.script_always(Outcome::Hang);
    let source = TokenSource::new(issuer.clone());
    let client = layer(&source).layer(Api::new(0));
    assert!(source.token().now_or_never().is_none());
    settle().await;
    assert_eq!((issuer.running(), tasks()), (1, 1));
    drop(source);
    settle().await;
    assert_eq!((issuer.running(), tasks()), (1, 1), "the service is a handle too");
    drop(client);
    settle().await;
    assert_eq!((issuer.running(), issuer.dropped(), tasks()), (0, 1, 0));
}

// R14
#[tokio::test(start_paused = true)]
async fn a_waiter_gets_its_token_after_its_handle_was_dropped() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { source.token().await.unwrap() }
    });
    settle().await;
    drop(source);
    waiting.await.unwrap();
    settle().await;
    assert_eq!((issuer.requests(), issuer.dropped(), tasks()), (1, 0, 0));
}

// R14
#[tokio::test(start_paused = true)]
async fn a_provider_is_dropped_with_its_last_handle() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let source = TokenSource::new(from_fn(move || {
        let held = Arc::clone(&held);
        async move {
            sleep(secs(1)).await;
            drop(held);
            IssuedToken::bearer("opaque-token")
        }
    }));
    assert!(source.token().now_or_never().is_none());
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(source);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

// R14
#[test]
fn a_source_whose_runtime_has_ended_serves_the_next_one() {
    for in_flight in [false, true] {
        for used_before in [false, true] {
            let (issuer, clock) = (Issuer::new(), TestClock::new());
            let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
            let first = runtime();
            first.block_on(async {
                if used_before {
                    issuer.set_latency(ms(1));
                    source.token().await.unwrap();
                    clock.mono_forward(DAY);
                }
                if in_flight {
                    issuer.set_latency(secs(3600));
                    assert!(source.token().now_or_never().is_none());
                    settle().await;
                    assert_eq!(issuer.running(), 1);
                }
            });
            drop(first);
            issuer.set_latency(ms(1));
            let token = runtime().block_on(async { timeout(secs(30), source.token()).await.expect("hung").unwrap() });
            assert_eq!(token.generation(), 1 + u64::from(used_before));
            let stats = assert_reconciles(&source);
            assert_eq!(stats.fetches_cancelled, u64::from(in_flight));
            assert_eq!(issuer.dropped(), usize::from(in_flight));
        }
    }
}

// R14
#[test]
fn waiters_of_a_fetch_whose_runtime_ends_start_one_new_fetch_in_their_own() {
    let issuer = Issuer::new();
    issuer.set_latency(secs(3600));
    let source = TokenSource::new(issuer.clone());
    let first = runtime();
    first.block_on(async {
        assert!(source.token().now_or_never().is_none());
        settle().await;
    });
    issuer.set_latency(ms(5));
    runtime().block_on(async {
        let waiters: Vec<_> = (0..20)
            .map(|_| {
                let source = source.clone();
                tokio::spawn(async move { source.token().await.unwrap().expose_secret().to_owned() })
            })
            .collect();
        settle().await;
        tokio::task::spawn_blocking(move || drop(first)).await.unwrap();
        for waiter in waiters {
            assert_eq!(timeout(secs(30), waiter).await.expect("hung").unwrap(), "first.2");
        }
    });
    let stats = assert_reconciles(&source);
    assert_eq!((stats.fetches, stats.fetches_cancelled, stats.waits_failed), (2, 1, 0));
}

// R14
#[test]
fn a_fetch_in_an_idle_runtime_does_not_block_another_runtime_forever() {
    let issuer = Issuer::new();
    issuer.script(Outcome::Hang);
    let source = TokenSource::new(issuer.clone());
    let idle = runtime();
    idle.block_on(async {
        assert!(source.token().now_or_never().is_none());
        settle().await;
    });
    let driven = paused();
    driven.block_on(async {
        let watch = Stopwatch::start();
        let error = source.token().await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
        assert!(watch.read() <= ms(15_050), "{:?}", watch.read());
        let watch = Stopwatch::start();
        assert_eq!(source.token().await.unwrap().expose_secret(), "first.2");
        assert!(watch.read() <= ms(250), "{:?}", watch.read());
        let stats = assert_reconciles(&source);
        assert_eq!((stats.fetches_cancelled, stats.fetches_succeeded), (1, 1));
    });
    // The old fetch changes nothing when it continues.
    idle.block_on(async { settle().await });
    assert_eq!(issuer.dropped(), 1);
    let stats = assert_reconciles(&source);
    assert_eq!((stats.fetches_cancelled, stats.fetches_in_flight), (1, 0));
    assert_eq!(source.peek().unwrap().expose_secret(), "first.2");
}

// R14, R42: the runtime of one caller is not a failure of the issuer.
#[test]
fn a_runtime_without_timers_gets_an_error_and_other_runtimes_do_not() {
    let issuer = Issuer::new();
    let source = TokenSource::new(issuer.clone());
    let timeless = Builder::new_current_thread().build().unwrap();
    let error = timeless.block_on(source.token()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRuntime);
    assert!(error.hint().unwrap().contains("enable_time"), "{error}");
    assert_eq!(issuer.requests(), 0, "no fetch starts that could not time out");
    paused().block_on(async { source.token().await.unwrap() });
    assert_eq!(timeless.block_on(source.token()).unwrap().expose_secret(), "first.1");
    let client = layer(&source).layer(Api::new(2));
    assert_eq!(timeless.block_on(client.oneshot(get())).unwrap().status(), 200);
}

// R46
#[tokio::test(start_paused = true)]
async fn a_day_without_requests_costs_no_token_request_and_no_task() {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock).build();
    let client = layer(&source).layer(Api::new(0));
    sleep(DAY).await;
    assert_eq!((issuer.requests(), tasks()), (0, 0));
    client.clone().oneshot(get()).await.unwrap();
    for _ in 0..24 {
        sleep(secs(3600)).await;
        assert_eq!((issuer.requests(), tasks()), (1, 0));
    }
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(issuer.requests(), 2);
    assert_reconciles(&source);
}

struct Blocking {
    entered: mpsc::Sender<()>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl TokenProvider for Blocking {
    type Key = User;

    async fn fetch(&self, key: &User, _: &FetchContext) -> Result<IssuedToken, Error> {
        if key.0 == 1 {
            self.entered.send(()).unwrap();
            self.release.lock().unwrap().recv().unwrap();
        }
        IssuedToken::bearer(format!("user.{}", key.0))
    }
}

// R47. No lock is held across an await point: parking_lot's guards are not Send, and these tests spawn every future. This test
// shows that no lock is held while a provider runs.
#[test]
fn a_provider_that_blocks_its_thread_blocks_no_other_request() {
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let source = TokenSource::new(Blocking { entered, release: Mutex::new(released) });
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (blocked, other) = (ExtensionKey(1), ExtensionKey(2));
    runtime.block_on(async {
        source.warm_up_for(&other).await.unwrap();
        let waiting = source.clone();
        let waiter = tokio::spawn(async move { waiting.token_for(&ExtensionKey(1)).await });
        has_entered.recv().unwrap();
        for _ in 0..100 {
            assert!(source.token_for(&blocked).now_or_never().is_none());
            assert!(source.token_for(&other).now_or_never().is_some());
            assert!(source.token_for(&ExtensionKey(3)).await.is_ok());
            assert!(source.peek_for(&blocked).is_none());
            assert!(!source.status_for(&blocked).is_ready());
            assert_eq!(source.stats().fetches_in_flight, 1);
        }
        release.send(()).unwrap();
        assert_eq!(waiter.await.unwrap().unwrap().expose_secret(), "user.1");
    });
}

tokio::task_local!(static CALLER: &'static str);

// R12: neither a task-local nor a span. A fetch has a span of its own.
#[tokio::test(start_paused = true)]
async fn a_fetch_inherits_nothing_from_the_request_that_starts_it() {
    // A second, permanent dispatcher. With a single one, tracing may cache the interest of a thread that has no subscriber.
    std::mem::forget(tracing::Dispatch::new(tracing_subscriber::registry()));
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let witness = Arc::clone(&seen);
    let clock = TestClock::new();
    let provider = from_fn(move || {
        let look = || {
            let span = tracing::Span::current().metadata().map(tracing::Metadata::name);
            (CALLER.try_with(|caller| *caller).ok(), span)
        };
        let (witness, before) = (Arc::clone(&witness), look());
        async move {
            sleep(ms(200)).await;
            witness.lock().unwrap().extend([before, look()]);
            let number = witness.lock().unwrap().len();
            Ok(IssuedToken::bearer(format!("token.{number}"))?.expires_in(secs(1800)))
        }
    });
    let source = TokenSource::builder(provider).clock(clock.clone()).build();
    let api = Api::new(1);
    let client = layer(&source).layer(api.clone());
    let request = |patience| {
        let span = tracing::info_span!("caller");
        assert!(!span.is_none(), "the subscriber receives spans");
        let call = client.clone().oneshot(get());
        CALLER.scope("first", timeout(patience, call)).instrument(span)
    };
    // Without a token, by a caller with a short timeout.
    request(ms(50)).await.map(drop).unwrap_err();
    sleep(ms(200)).await;
    // In the refresh window.
    clock.mono_forward(secs(1100));
    request(secs(1)).await.unwrap().unwrap();
    sleep(ms(201)).await;
    // After a rejection. Until a minute after the refresh, the old token would be used instead.
    assert_eq!(request(secs(1)).await.unwrap().unwrap().status(), 200);
    clock.mono_forward(secs(60));
    api.revoke("token.4");
    assert_eq!(request(secs(1)).await.unwrap().unwrap().status(), 200);
    assert_eq!(*seen.lock().unwrap(), vec![(None, Some("token_request")); 6]);
}

// R12: the future of a token borrows nothing, so a task may hold it for any provider.
#[tokio::test(start_paused = true)]
async fn a_task_may_wait_for_a_token_of_any_provider() {
    let source = TokenSource::new(from_fn(|| async { IssuedToken::bearer("opaque-token") }));
    let spawned: Vec<_> = (0..2)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await.map(|token| token.generation()) })
        })
        .collect();
    let waiting = source.token();
    drop(source);
    for task in spawned {
        assert_eq!(task.await.unwrap().unwrap(), 1);
    }
    assert_eq!(waiting.await.unwrap().generation(), 1);
}
