//! Shared helpers: a way to drop a future at each of its await points, and the sums of the statistics.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http::Request;
use tower_bearer_auth::{BearerAuthLayer, RequestKey, SourceStats, TokenProvider, TokenSource};

pub(crate) use crate::api::{Api, Trickle};
pub(crate) use crate::support::issuer::{Issuer, Outcome, User, unavailable};
pub(crate) use crate::support::time::{DAY, Stopwatch, TestClock, YEAR, ms, secs, settle};

pub(crate) const ORIGIN: &str = "https://api.example.com";

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

/// Asserts both sums of the statistics, and that the source and the issuer counted the same.
#[track_caller]
pub(crate) fn assert_reconciles<K: RequestKey>(source: &TokenSource<Issuer<K>>) -> SourceStats {
    let stats = source.stats();
    let waits = stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting;
    assert_eq!(stats.waits, waits, "{stats:?}");
    let fetches = stats.fetches_succeeded
        + stats.fetches_failed
        + stats.fetches_cancelled
        + stats.fetches_discarded
        + stats.fetches_in_flight;
    assert_eq!(stats.fetches, fetches, "{stats:?}");
    assert_eq!(stats.fetches, source.provider().requests() as u64, "{stats:?}");
    stats
}
