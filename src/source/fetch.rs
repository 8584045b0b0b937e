//! The task that runs one fetch. No caller can stop or delay it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::panicking;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::runtime;
use tokio::sync::oneshot;

use super::cache::Cache;
use super::entry::Entry;
use super::fetch_handle::{FetchHandle, FetchOutcome, Running};
use super::slot::Progress;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::provider::{FetchContext, TokenProvider};
use crate::rt;
use crate::telemetry::{Event, KeyField, Span};
use crate::token::IssuedToken;

/// The task's side of a fetch. If it is dropped before the fetch completes, the fetch is cancelled.
pub(super) struct Fetch<P: TokenProvider> {
    id: u64,
    provider: Arc<P>,
    key: Arc<P::Key>,
    context: FetchContext,
    started: Now,
    entry_address: usize,
    // Weak, so that a fetch does not keep a cache alive that nothing else uses.
    cache: Weak<Cache<P>>,
    entry: Weak<Entry<P::Key>>,
    cancelled: oneshot::Receiver<()>,
}

impl<P: TokenProvider> Fetch<P> {
    /// Prepares a fetch and the handle for its slot. The caller starts it after it has released the slot's lock. `waiters` are
    /// the callers that already wait for this fetch.
    pub(super) fn new(
        cache: &Arc<Cache<P>>,
        entry: &Arc<Entry<P::Key>>,
        id: u64,
        context: FetchContext,
        waiters: Option<FetchHandle>,
        now: Now,
    ) -> (Self, FetchHandle) {
        let rotation = cache.rotations.at_start_of_fetch();
        let (handle, cancelled) = match waiters {
            Some(waiters) => waiters.for_fetch(rotation),
            None => FetchHandle::new(rotation),
        };
        let fetch = Self {
            id,
            provider: Arc::clone(&cache.provider),
            key: Arc::clone(&entry.key),
            context,
            started: now,
            entry_address: Arc::as_ptr(entry).addr(),
            cache: Arc::downgrade(cache),
            entry: Arc::downgrade(entry),
            cancelled,
        };
        (fetch, handle)
    }

    pub(super) fn start(self, runtime: &runtime::Handle) {
        runtime.spawn(self.run());
    }

    async fn run(self) {
        let Some(span) = self.cache.upgrade().map(|cache| cache.telemetry.token_request(KeyField::new(&*self.key)))
        else {
            return;
        };
        span.clone().around(self.run_in(span)).await;
    }

    async fn run_in(mut self, span: Span) {
        let Some((clock, timeout, policy)) =
            self.cache.upgrade().map(|cache| (cache.clock.clone(), cache.fetch_timeout, cache.policy.clone()))
        else {
            return;
        };
        self.started = clock.now();
        let running = Running { entry_address: self.entry_address, id: self.id };
        let (provider, key) = (Arc::clone(&self.provider), Arc::clone(&self.key));
        let (cx, observer) = (std::mem::take(&mut self.context), self.cache.clone());
        let fetch = async move {
            let mut timer = rt::timer(timeout)?;
            let cx = cx.in_task(policy, clock, timer.deadline(), observer);
            let fetch = running.scope(async move { provider.fetch(&key, &cx).await });
            rt::within(timer.as_mut(), fetch).await.unwrap_or_else(|| Err(timed_out()))
        };
        // This also catches a panic in the destructor of the future that the timeout drops.
        let fetch = AssertUnwindSafe(fetch).catch_unwind().map(|caught| caught.unwrap_or_else(|_| Err(panicked())));
        let result = match select(&mut self.cancelled, pin!(fetch)).await {
            Either::Left(_) => return,
            Either::Right((result, _)) => result,
        };
        self.complete(result, &span);
    }

    fn complete(self, result: Result<IssuedToken, Error>, span: &Span) {
        let started = self.started;
        let (Some(cache), Some(entry)) = (self.cache.upgrade(), self.entry.upgrade()) else {
            return;
        };
        let now = cache.clock.now();
        let mut slot = entry.lock();
        // A cancelled fetch has no handle. Its result is dropped, and `drop` reports its end.
        let in_flight = slot.in_flight().filter(|fetch| fetch.id == self.id);
        let rotation = in_flight.and_then(|fetch| match fetch.progress() {
            Progress::Running => fetch.handle.as_ref().map(FetchHandle::rotation),
            // The callers that it serves began to wait before the last rotation.
            Progress::Outdated => Some(cache.rotation()),
            Progress::Discarded => None,
        });
        let Some(rotation) = rotation else {
            return;
        };
        let Some(fetch) = slot.take_fetch(self.id) else {
            return;
        };
        let result = result.and_then(|issued| {
            let minted = issued.minted_at(started, now);
            issued.with_lifetime_since(minted, now)
        });
        let result = result.map(|issued| issued.for_source(cache.id, rotation));
        let generation = cache.next_generation();
        let result = slot.complete(&fetch, result, &cache.policy, started, now, generation);
        let cached = slot.usable(now).cloned();
        entry.publish(&slot, now);
        let took = now.mono.saturating_duration_since(started.mono);
        if result.is_ok() {
            cache.fetch_took.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        cache.fetch_ends(&entry, |stats| {
            *(if result.is_ok() { &mut stats.fetches_succeeded } else { &mut stats.fetches_failed }) += 1;
        });
        drop(slot);
        if let Some(handle) = fetch.handle {
            handle.finish(FetchOutcome::Completed(result.clone()));
        }
        cache.sweep(now);
        cache.report_fetch(&self.key, &result, generation, cached.as_ref(), took, now, span);
    }
}

impl<P: TokenProvider> Drop for Fetch<P> {
    fn drop(&mut self) {
        let (Some(cache), Some(entry)) = (self.cache.upgrade(), self.entry.upgrade()) else {
            return;
        };
        // If a panic of the clock ended the fetch, a second panic would abort the process.
        let now = catch_unwind(AssertUnwindSafe(|| cache.clock.now())).unwrap_or(self.started);
        let mut slot = entry.lock();
        let Some(fetch) = slot.take_fetch(self.id) else {
            return;
        };
        let by_rotation = fetch.handle.is_none();
        if !by_rotation {
            slot.cancel(now);
            entry.publish(&slot, now);
        }
        cache.fetch_ends(&entry, |stats| {
            *(if by_rotation { &mut stats.fetches_discarded } else { &mut stats.fetches_cancelled }) += 1;
        });
        drop(slot);
        drop(fetch);
        cache.sweep(now);
        // If a panic of a subscriber cancels the fetch, a second panic would abort the process.
        if panicking() {
            return;
        }
        let key = KeyField::new(&*self.key);
        cache.telemetry.emit(match by_rotation {
            true => Event::Discarded { key },
            false => Event::Cancelled { key, reason: "runtime_ended" },
        });
    }
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Timeout, "the token provider did not return in time")
        .with_hint("if it shares a concurrency limit with the requests that wait for it, give it a client of its own")
}

fn panicked() -> Error {
    // The message of the panic may contain anything, so it is not part of the error.
    Error::new(ErrorKind::Panicked, "the token provider panicked").with_hint("the panic hook has its message")
}
