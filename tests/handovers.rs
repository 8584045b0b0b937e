//! A caller whose runtime, flight or place in the cache goes away under it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tower_bearer_auth::{Error, FetchContext, FromExtension, IssuedToken, TokenProvider, TokenSource};

struct Asked {
    who: u8,
    answer: Option<oneshot::Sender<&'static str>>,
}

/// Answers when the test says so: which key asked, and how to answer.
#[derive(Clone, Default)]
struct Issuer {
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Issuer {
    fn asked_for(&self) -> Vec<u8> {
        self.asked.lock().iter().map(|asked| asked.who).collect()
    }

    fn answers(&self, request: usize, secret: &'static str) {
        self.asked.lock()[request].answer.take().unwrap().send(secret).unwrap();
    }
}

impl TokenProvider for Issuer {
    type Key = FromExtension<u8>;

    async fn fetch(&self, who: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        let (answer, answered) = oneshot::channel();
        self.asked.lock().push(Asked { who: who.0, answer: Some(answer) });
        IssuedToken::bearer(answered.await.map_err(Error::transient)?)
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn drive(runtime: &Runtime) {
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
fn a_caller_in_another_runtime_gets_a_token_although_the_flights_runtime_ends() {
    let (issuer, first, second) = (Issuer::default(), runtime(), runtime());
    let source = TokenSource::new(issuer.clone());
    let mut here = pin!(source.token_for(&FromExtension(1)));
    let mut there = pin!(source.token_for(&FromExtension(1)));
    assert!(poll!(first, here).is_pending());
    assert!(poll!(second, there).is_pending());
    drive(&first);
    assert_eq!(issuer.asked_for(), [1]);
    drop(first);
    assert!(poll!(second, there).is_pending(), "it starts a flight of its own");
    drive(&second);
    assert_eq!(issuer.asked_for(), [1, 1]);
    issuer.answers(1, "second");
    drive(&second);
    let Poll::Ready(Ok(token)) = poll!(second, there) else { panic!("no token") };
    assert_eq!(token.expose_secret(), "second");
    let stats = source.stats();
    assert_eq!((stats.fetches_cancelled, stats.fetches_succeeded, stats.fetches_in_flight), (1, 1, 0));
}

// R9, R14
#[test]
fn a_caller_that_outlives_its_runtime_waits_on_in_the_next_one() {
    for flight_is_lost in [true, false] {
        let (issuer, first, second) = (Issuer::default(), runtime(), runtime());
        let source = TokenSource::new(issuer.clone());
        let mut starts = pin!(source.token_for(&FromExtension(1)));
        if !flight_is_lost {
            assert!(poll!(second, starts).is_pending());
        }
        let mut moves = pin!(source.token_for(&FromExtension(1)));
        assert!(poll!(first, moves).is_pending());
        drive(&first);
        drop(first);
        // Its timer belonged to the runtime that has ended.
        assert!(poll!(second, moves).is_pending());
        drive(&second);
        assert!(poll!(second, moves).is_pending());
        issuer.answers(usize::from(flight_is_lost), "token");
        drive(&second);
        assert!(poll!(second, moves).is_ready(), "the flight was lost: {flight_is_lost}");
    }
}

// R6, R31
#[test]
fn a_caller_whose_key_was_thrown_out_meanwhile_joins_the_flight_of_its_successor() {
    let (issuer, runtime) = (Issuer::default(), runtime());
    let source = TokenSource::builder(issuer.clone()).max_keys(1).build();
    let (one, two) = (FromExtension(1), FromExtension(2));
    let mut early = pin!(source.token_for(&one));
    assert!(poll!(runtime, early).is_pending());
    drive(&runtime);
    // Its flight becomes stale, and before it looks again its key is thrown out and comes back.
    source.invalidate_for(&one);
    let mut other = pin!(source.token_for(&two));
    assert!(poll!(runtime, other).is_pending());
    drive(&runtime);
    issuer.answers(1, "other");
    drive(&runtime);
    assert!(poll!(runtime, other).is_ready());
    assert_eq!((source.stats().evicted, source.stats().keys), (1, 1));
    let mut late = pin!(source.token_for(&one));
    assert!(poll!(runtime, late).is_pending());
    assert!(poll!(runtime, early).is_pending());
    drive(&runtime);
    assert_eq!(issuer.asked_for(), [1, 2, 1], "one flight for the one key");
    issuer.answers(2, "token");
    drive(&runtime);
    for caller in [poll!(runtime, early), poll!(runtime, late)] {
        let Poll::Ready(Ok(token)) = caller else { panic!("no token") };
        assert_eq!(token.expose_secret(), "token");
    }
}

// R50
#[test]
fn a_rotation_moves_who_waits_and_the_old_answer_comes_too_late() {
    let (issuer, runtime) = (Issuer::default(), runtime());
    let source = TokenSource::new(issuer.clone());
    let mut before = pin!(source.token_for(&FromExtension(1)));
    assert!(poll!(runtime, before).is_pending());
    drive(&runtime);
    // The old answer is on its way already.
    issuer.answers(0, "old");
    source.rotate();
    let mut after = pin!(source.token_for(&FromExtension(1)));
    assert!(poll!(runtime, after).is_pending());
    drive(&runtime);
    assert!(source.peek_for(&FromExtension(1)).is_none(), "the old token was kept");
    assert!(poll!(runtime, before).is_pending());
    drive(&runtime);
    assert_eq!(issuer.asked_for(), [1, 1]);
    issuer.answers(1, "new");
    drive(&runtime);
    for caller in [poll!(runtime, before), poll!(runtime, after)] {
        let Poll::Ready(Ok(token)) = caller else { panic!("no token") };
        assert_eq!(token.expose_secret(), "new");
    }
    let stats = source.stats();
    assert_eq!((stats.fetches_stale, stats.fetches_succeeded, stats.fetches), (1, 1, 2));
}
