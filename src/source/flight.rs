//! One token request, in a task of its own that no caller can stop or starve.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::panicking;

use futures_util::FutureExt as _;
use futures_util::future::{Either, Shared, select};
use tokio::runtime;
use tokio::sync::oneshot;

use super::Inner;
use super::entry::Entry;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::provider::{FetchContext, TokenProvider};
use crate::rt;
use crate::telemetry::{Event, Span, Whose};
use crate::token::{IssuedToken, Token};

/// What all who wait for a flight poll. An error means that the flight was lost with its runtime.
pub(super) type Arrival = Shared<oneshot::Receiver<Outcome>>;

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Landed(Result<Token, Error>),
    /// The flight became stale: ask again.
    Moved,
}

/// A flight as its slot holds it. Dropping it ends the task.
pub(super) struct Handle {
    outcome: oneshot::Sender<Outcome>,
    arrival: Arrival,
    /// Under which credentials it asks: how often they had been rotated.
    rotation: AtomicU64,
    _alive: oneshot::Sender<()>,
}

impl Handle {
    pub(super) fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    /// Its provider rotates while it fetches, and so asks under what is current now.
    pub(super) fn follow(&self, rotation: u64) {
        self.rotation.store(rotation, Ordering::Relaxed);
    }

    pub(super) fn finish(self, outcome: Outcome) {
        // With nobody waiting there is nobody to tell.
        let _ = self.outcome.send(outcome);
    }
}

tokio::task_local! {
    /// The entry that the current task fetches a token for, by its address.
    static FETCHING: usize;
}

/// Whether this task is the flight that fetches for `entry`: it must not wait for itself.
pub(super) fn is_fetching<K>(entry: &Arc<Entry<K>>) -> bool {
    FETCHING.try_with(|fetching| *fetching == Arc::as_ptr(entry) as usize).unwrap_or(false)
}

/// The task's side of a flight. Wherever it is dropped without having landed, its outcome is lost.
pub(super) struct Flight<P: TokenProvider> {
    id: u64,
    provider: Arc<P>,
    key: P::Key,
    context: FetchContext,
    address: usize,
    // Weak: a flight must not keep alive what nobody else uses.
    source: Weak<Inner<P>>,
    entry: Weak<Entry<P::Key>>,
    ended: oneshot::Receiver<()>,
}

/// A flight that is booked but not yet started, so that it starts outside of the slot's lock.
pub(super) fn prepare<P: TokenProvider>(
    source: &Arc<Inner<P>>,
    entry: &Arc<Entry<P::Key>>,
    id: u64,
    context: FetchContext,
) -> (Handle, Flight<P>) {
    let (outcome, arrival) = oneshot::channel();
    let (alive, ended) = oneshot::channel();
    let flight = Flight {
        id,
        provider: Arc::clone(&source.provider),
        key: P::Key::clone(&entry.key),
        context,
        address: Arc::as_ptr(entry) as usize,
        source: Arc::downgrade(source),
        entry: Arc::downgrade(entry),
        ended,
    };
    let rotation = AtomicU64::new(source.rotation());
    (Handle { outcome, arrival: arrival.shared(), rotation, _alive: alive }, flight)
}

impl<P: TokenProvider> Flight<P> {
    pub(super) fn start(self, runtime: &runtime::Handle) {
        runtime.spawn(self.run());
    }

    async fn run(self) {
        let Some(span) = self.source.upgrade().map(|source| source.telemetry.token_request(Whose::key(&self.key)))
        else {
            return;
        };
        span.clone().around(self.fly(span)).await;
    }

    async fn fly(mut self, span: Span) {
        let Some((clock, timeout)) = self.source.upgrade().map(|s| (s.clock.clone(), s.fetch_timeout)) else {
            return;
        };
        let began = clock.now();
        let (provider, key) = (Arc::clone(&self.provider), self.key.clone());
        let cx = std::mem::take(&mut self.context);
        let fetch = within(timeout, FETCHING.scope(self.address, async move { provider.fetch(&key, &cx).await }));
        // Around the deadline too: what is dropped there may panic.
        let fetch = AssertUnwindSafe(fetch).catch_unwind().map(|caught| caught.unwrap_or_else(|_| Err(panicked())));
        let result = match select(&mut self.ended, pin!(fetch)).await {
            Either::Left(_) => return,
            Either::Right((result, _)) => result,
        };
        self.land(began, result, &span);
    }

    fn land(self, began: Now, result: Result<IssuedToken, Error>, span: &Span) {
        let (Some(source), Some(entry)) = (self.source.upgrade(), self.entry.upgrade()) else {
            return;
        };
        let now = source.clock.now();
        let mut slot = entry.lock();
        let Some(handle) = slot.end_flight(self.id) else {
            return;
        };
        let rotation = handle.rotation.load(Ordering::Relaxed);
        let result = result.map(|issued| issued.for_source(source.id, rotation));
        let generation = source.next_generation();
        let landed = slot.land(result, &source.policy, began, now, generation);
        let in_hand = slot.usable(now).cloned();
        entry.publish(&slot);
        source.stats.record(|stats| {
            stats.fetches_in_flight -= 1;
            *(if landed.is_ok() { &mut stats.fetches_succeeded } else { &mut stats.fetches_failed }) += 1;
        });
        drop(slot);
        handle.finish(Outcome::Landed(landed.clone()));
        source.sweep(now);
        let took = now.mono.saturating_duration_since(began.mono);
        source.tell_landing(&self.key, &landed, generation, in_hand.as_ref(), took, now, span);
    }
}

impl<P: TokenProvider> Drop for Flight<P> {
    fn drop(&mut self) {
        let (Some(source), Some(entry)) = (self.source.upgrade(), self.entry.upgrade()) else {
            return;
        };
        let now = source.clock.now();
        let mut slot = entry.lock();
        let lost = slot.end_flight(self.id);
        if lost.is_some() {
            slot.lose(now);
            drop(slot);
            source.stats.record(|stats| {
                stats.fetches_in_flight -= 1;
                stats.fetches_cancelled += 1;
            });
            source.sweep(now);
            // Where a subscriber's panic is what ends the flight, its next one would end the process.
            if panicking() {
                return;
            }
            source.telemetry.emit(Event::Lost { whose: Whose::key(&self.key), reason: "runtime_ended" });
        }
    }
}

async fn within(
    limit: std::time::Duration,
    fetch: impl Future<Output = Result<IssuedToken, Error>>,
) -> Result<IssuedToken, Error> {
    let deadline = rt::timer(limit)?;
    match select(pin!(fetch), deadline).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(Error::new(ErrorKind::Timeout, "the token provider did not answer in time").with_hint(
            "if it shares a concurrency limit with the requests that wait for it, give it a client of its own",
        )),
    }
}

fn panicked() -> Error {
    // The panic's own message may hold anything.
    Error::new(ErrorKind::Panicked, "the token provider panicked").with_hint("the panic hook has its message")
}
