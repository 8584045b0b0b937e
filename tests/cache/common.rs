//! Shared helpers: durations, a clock that follows tokio's, and a way to drop a future at each of its await points.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use http::Request;
use tower_bearer_auth::{BearerAuthLayer, Clock, Now, TokenProvider, TokenSource};

pub(crate) use crate::api::{Api, Trickle};
pub(crate) use crate::issuer::{Does, Issuer, User, assert_reconciles, unavailable};

pub(crate) const ORIGIN: &str = "https://api.example.com";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Tokio's time, which a test may stop.
#[expect(clippy::disallowed_methods, reason = "virtual time is tokio's")]
pub(crate) fn tokio_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Measures a duration in tokio's time.
pub(crate) struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(tokio_now())
    }

    pub(crate) fn read(&self) -> Duration {
        tokio_now().duration_since(self.0)
    }
}

/// Both clocks follow tokio's. Each can be shifted.
#[derive(Clone)]
pub(crate) struct TestClock {
    start: tokio::time::Instant,
    shifted: Arc<Mutex<Shifted>>,
}

struct Shifted {
    mono: Instant,
    wall: SystemTime,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        let start = tokio_now();
        // Far from the epoch, so that the clock can be set back by years.
        let shifted = Shifted { mono: start.into_std() + 20 * YEAR, wall: SystemTime::UNIX_EPOCH + 50 * YEAR };
        Self { start, shifted: Arc::new(Mutex::new(shifted)) }
    }

    pub(crate) fn mono_forward(&self, by: Duration) {
        self.shifted.lock().unwrap().mono += by;
    }

    pub(crate) fn mono_back(&self, by: Duration) {
        self.shifted.lock().unwrap().mono -= by;
    }

    pub(crate) fn wall_forward(&self, by: Duration) {
        self.shifted.lock().unwrap().wall += by;
    }

    pub(crate) fn wall_back(&self, by: Duration) {
        self.shifted.lock().unwrap().wall -= by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let passed = tokio_now().duration_since(self.start);
        let shifted = self.shifted.lock().unwrap();
        Now { mono: shifted.mono + passed, wall: shifted.wall + passed }
    }
}

/// Yields until every task has done what it can do now.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// Polls `future` when it is woken, at most `polls` times, and then drops it.
pub(crate) async fn poll_then_drop<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut done = 0;
    poll_fn(|cx| {
        if done == polls {
            return Poll::Ready(None);
        }
        done += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if done == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A future that is pending so many times, and wakes its task each time.
#[derive(Default)]
pub(crate) struct Steps(pub(crate) usize);

impl Future for Steps {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The layer over a source, for [`ORIGIN`].
pub(crate) fn layer<P: TokenProvider>(source: &TokenSource<P>) -> BearerAuthLayer<P> {
    source.layer().allow_origin(ORIGIN).unwrap()
}

pub(crate) fn get() -> Request<String> {
    Request::get(format!("{ORIGIN}/wallets")).body(String::new()).unwrap()
}
