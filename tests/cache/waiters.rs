//! Waiters: their runtime ends, their fetch is cancelled, or their key is evicted while they wait.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{ExtensionKey, TokenSource};

use crate::support::issuer::{Issuer, Outcome};

type User = ExtensionKey<u8>;

/// An issuer that responds when the test calls `respond`.
fn issuer() -> Issuer<User> {
    let issuer = Issuer::keyed();
    issuer.set_latency(Duration::ZERO);
    issuer.set_lifetime(None);
    issuer.script_always(Outcome::Hold);
    issuer
}

fn requested_keys(issuer: &Issuer<User>) -> Vec<u8> {
    issuer.requested_keys().iter().map(|user| user.0).collect()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn poll_tasks(runtime: &Runtime) {
    runtime.block_on(async {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    });
}

/// Polls within `runtime`.
macro_rules! poll {
    ($runtime:expr, $future:expr) => {{
        let _inside = $runtime.enter();
        $future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }};
}

// R9, R14
#[test]
fn a_caller_in_another_runtime_gets_a_token_although_the_runtime_of_the_fetch_ends() {
    let (issuer, first, second) = (issuer(), runtime(), runtime());
    let source = TokenSource::new(issuer.clone());
    let mut here = pin!(source.token_for(&ExtensionKey(1)));
    let mut there = pin!(source.token_for(&ExtensionKey(1)));
    assert!(poll!(first, here).is_pending());
    assert!(poll!(second, there).is_pending());
    poll_tasks(&first);
    assert_eq!(requested_keys(&issuer), [1]);
    drop(first);
    assert!(poll!(second, there).is_pending(), "it starts a new fetch");
    poll_tasks(&second);
    assert_eq!(requested_keys(&issuer), [1, 1]);
    issuer.respond(1, Outcome::Return("second"));
    poll_tasks(&second);
    let Poll::Ready(Ok(token)) = poll!(second, there) else { panic!("no token") };
    assert_eq!(token.expose_secret(), "second");
    let stats = source.stats();
    assert_eq!((stats.fetches_cancelled, stats.fetches_succeeded, stats.fetches_in_flight), (1, 1, 0));
}

// R9, R14
#[test]
fn a_caller_whose_runtime_ends_continues_to_wait_in_another_one() {
    for fetch_is_cancelled in [true, false] {
        let (issuer, first, second) = (issuer(), runtime(), runtime());
        let source = TokenSource::new(issuer.clone());
        let mut starts = pin!(source.token_for(&ExtensionKey(1)));
        if !fetch_is_cancelled {
            assert!(poll!(second, starts).is_pending());
        }
        let mut moved = pin!(source.token_for(&ExtensionKey(1)));
        assert!(poll!(first, moved).is_pending());
        poll_tasks(&first);
        drop(first);
        // The timer of the caller belonged to the runtime that has ended.
        assert!(poll!(second, moved).is_pending());
        poll_tasks(&second);
        assert!(poll!(second, moved).is_pending());
        issuer.respond(usize::from(fetch_is_cancelled), Outcome::Return("token"));
        poll_tasks(&second);
        assert!(poll!(second, moved).is_ready(), "the fetch was cancelled: {fetch_is_cancelled}");
    }
}

// R6, R31
#[test]
fn a_caller_whose_key_was_evicted_and_came_back_joins_the_new_fetch() {
    let (issuer, runtime) = (issuer(), runtime());
    let source = TokenSource::builder(issuer.clone()).max_keys(1).build();
    let (one, two) = (ExtensionKey(1), ExtensionKey(2));
    let mut early = pin!(source.token_for(&one));
    assert!(poll!(runtime, early).is_pending());
    poll_tasks(&runtime);
    // The fetch is cancelled. Before the caller is polled, its key is evicted and comes back.
    source.rotate();
    let mut other = pin!(source.token_for(&two));
    assert!(poll!(runtime, other).is_pending());
    poll_tasks(&runtime);
    issuer.respond(1, Outcome::Return("other"));
    poll_tasks(&runtime);
    assert!(poll!(runtime, other).is_ready());
    assert_eq!((source.stats().evicted, source.stats().keys), (1, 1));
    let mut late = pin!(source.token_for(&one));
    assert!(poll!(runtime, late).is_pending());
    assert!(poll!(runtime, early).is_pending());
    poll_tasks(&runtime);
    assert_eq!(requested_keys(&issuer), [1, 2, 1], "one fetch for the key that came back");
    issuer.respond(2, Outcome::Return("token"));
    poll_tasks(&runtime);
    for caller in [poll!(runtime, early), poll!(runtime, late)] {
        let Poll::Ready(Ok(token)) = caller else { panic!("no token") };
        assert_eq!(token.expose_secret(), "token");
    }
}

// R50
#[test]
fn after_a_rotation_a_waiter_gets_the_new_token_and_the_old_one_is_dropped() {
    let (issuer, runtime) = (issuer(), runtime());
    let source = TokenSource::new(issuer.clone());
    let mut before = pin!(source.token_for(&ExtensionKey(1)));
    assert!(poll!(runtime, before).is_pending());
    poll_tasks(&runtime);
    // The issuer has sent the old token already.
    issuer.respond(0, Outcome::Return("old"));
    source.rotate();
    let mut after = pin!(source.token_for(&ExtensionKey(1)));
    assert!(poll!(runtime, after).is_pending());
    poll_tasks(&runtime);
    assert!(source.peek_for(&ExtensionKey(1)).is_none(), "the old token was kept");
    assert!(poll!(runtime, before).is_pending());
    poll_tasks(&runtime);
    assert_eq!(requested_keys(&issuer), [1, 1]);
    issuer.respond(1, Outcome::Return("new"));
    poll_tasks(&runtime);
    for caller in [poll!(runtime, before), poll!(runtime, after)] {
        let Poll::Ready(Ok(token)) = caller else { panic!("no token") };
        assert_eq!(token.expose_secret(), "new");
    }
    let stats = source.stats();
    assert_eq!((stats.fetches_discarded, stats.fetches_succeeded, stats.fetches), (1, 1, 2));
}
