//! Waiting for a token.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::panicking;

use tokio::time::Sleep;

use super::TokenSource;
use super::dispatch::{Grant, Joined, Lookup};
use super::entry::Entry;
use super::flight::{Arrival, Outcome};
use super::slot::is_usable;
use crate::error::{Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::telemetry::Since;

/// A runtime that drops what it is given takes every flight with it; after so many there is no use in another.
const MOST_LOST: u8 = 3;

/// The future of a token.
///
/// Dropping it harms nobody: the flight that it waits for goes on.
#[must_use]
pub(crate) struct TokenWait<P: TokenProvider> {
    source: TokenSource<P>,
    state: State<P::Key>,
}

enum State<K> {
    Start(K),
    Waiting(Wait<K>),
    Done,
}

struct Wait<K> {
    entry: Arc<Entry<K>>,
    arrival: Arrival,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether this wait began the flight, in its own runtime.
    own: bool,
    lost: u8,
    since: Since,
}

impl<P: TokenProvider> TokenWait<P> {
    pub(super) fn start(source: TokenSource<P>, key: P::Key) -> Self {
        Self { source, state: State::Start(key) }
    }

    /// Counted as a wait from here on.
    pub(super) fn waiting(source: TokenSource<P>, joined: Joined<P::Key>) -> Self {
        let Joined { entry, arrival, own } = joined;
        source.inner.stats.record(|stats| {
            stats.waits += 1;
            stats.waiting += 1;
        });
        let since = Since::new(|| source.inner.clock.now().mono);
        Self { source, state: State::Waiting(Wait { entry, arrival, timer: None, own, lost: 0, since }) }
    }

    fn finish(&mut self, result: Result<Grant<P::Key>, Error>) -> Poll<Result<Grant<P::Key>, Error>> {
        let state = std::mem::replace(&mut self.state, State::Done);
        self.source.inner.stats.record(|stats| {
            stats.waiting -= 1;
            *(if result.is_ok() { &mut stats.waits_served } else { &mut stats.waits_failed }) += 1;
        });
        if let State::Waiting(wait) = state {
            self.source.inner.tell_wait(if result.is_ok() { "served" } else { "failed" }, &wait.since);
        }
        Poll::Ready(result)
    }
}

// Nothing in it is pinned in place.
impl<P: TokenProvider> Unpin for TokenWait<P> {}

impl<P: TokenProvider> Future for TokenWait<P> {
    type Output = Result<Grant<P::Key>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let State::Start(key) = &this.state {
            match this.source.enter_first(key) {
                Lookup::Granted(grant) => {
                    this.state = State::Done;
                    return Poll::Ready(Ok(grant));
                }
                Lookup::Failed(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Err(error));
                }
                Lookup::Wait(joined) => {
                    *this = Self::waiting(this.source.clone(), joined);
                }
            }
        }
        loop {
            let State::Waiting(wait) = &mut this.state else {
                return Poll::Pending;
            };
            match Pin::new(&mut wait.arrival).poll(cx) {
                Poll::Ready(Ok(Outcome::Landed(Ok(token)))) => {
                    let now = this.source.inner.clock.now();
                    let good = if this.source.inner.is_withdrawn(&token) {
                        false
                    } else if token.is_late() {
                        !now.reached(&token.deadlines().nominal)
                    } else {
                        is_usable(&token, now) && wait.entry.is_current(&token)
                    };
                    if good {
                        let entry = Arc::clone(&wait.entry);
                        return this.finish(Ok(Grant { entry, token }));
                    }
                }
                Poll::Ready(Ok(Outcome::Landed(Err(error)))) => return this.finish(Err(error)),
                Poll::Ready(Ok(Outcome::Moved)) => {}
                Poll::Ready(Err(_)) => wait.lost += u8::from(wait.own),
                Poll::Pending => {
                    if !this.source.inner.waited_too_long(&mut wait.timer, cx) {
                        return Poll::Pending;
                    }
                    return this.finish(Err(Error::new(ErrorKind::Timeout, "no token arrived in time")
                        .with_hint("the token request goes on; a later call may find its token")));
                }
            }
            if wait.lost >= MOST_LOST {
                return this.finish(Err(Error::new(ErrorKind::NoRuntime, "the tokio runtime is shutting down")
                    .with_hint("send the request from a runtime that goes on")));
            }
            match this.source.enter_again(Arc::clone(&wait.entry)) {
                Lookup::Granted(grant) => return this.finish(Ok(grant)),
                Lookup::Failed(error) => return this.finish(Err(error)),
                Lookup::Wait(Joined { entry, arrival, own }) => {
                    wait.entry = entry;
                    wait.arrival = arrival;
                    wait.own = own;
                }
            }
        }
    }
}

impl<P: TokenProvider> Drop for TokenWait<P> {
    fn drop(&mut self) {
        if let State::Waiting(wait) = &self.state {
            self.source.inner.stats.record(|stats| {
                stats.waiting -= 1;
                stats.waits_abandoned += 1;
            });
            // A panic of a subscriber's, while another unwinds, would end the process.
            if !panicking() {
                self.source.inner.tell_wait("abandoned", &wait.since);
            }
        }
    }
}
