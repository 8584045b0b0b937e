//! Calls of the store: their limit in time, and what follows a failure.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::record::Sealer;
use super::store::{Claim, Outcome, StoreError, TokenStore};
use crate::provider::{FetchContext, StoreEvent};
use crate::rt;

/// How long one call of the store may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failure, no fetch uses the store for this long.
const CLOSED_FOR: Duration = Duration::from_secs(5);
/// A monotonic clock that reads earlier by more than this was set back.
const SET_BACK: Duration = Duration::from_secs(60);
/// How many notes a process remembers.
const MAX_NOTES: usize = 1024;
/// How much longer a note may last than a store says that rounds to whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

/// What a fetch does if the store fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// It calls the issuer, as without a store. For 5 seconds, no other fetch of this [`Shared`](super::Shared) uses the store.
    #[default]
    FetchAlone,
    /// It fails with a transient error. This is for issuers that revoke the older token when they issue a new one.
    Fail,
}

/// The store, and what all fetches of one `Shared` know about it.
pub(super) struct Client<S> {
    store: S,
    pub(super) sealer: Sealer,
    pub(super) on_failure: OnStoreFailure,
    /// Until when fetches do not use the store.
    closed_until: Mutex<Option<Instant>>,
    /// The versions of the latest notes, and when each of them ends.
    notes: Mutex<VecDeque<([u8; 16], Instant)>>,
}

impl<S: TokenStore> Client<S> {
    pub(super) fn new(store: S, sealer: Sealer, on_failure: OnStoreFailure) -> Self {
        Self { store, sealer, on_failure, closed_until: Mutex::new(None), notes: Mutex::default() }
    }

    /// Whether a fetch may use the store. After a failure, one fetch tries it first.
    pub(super) fn admits(&self, cx: &FetchContext) -> bool {
        if self.on_failure == OnStoreFailure::Fail {
            return true;
        }
        let now = cx.now().mono;
        let mut closed_until = self.closed_until.lock();
        let Some(until) = *closed_until else { return true };
        let set_back = until.saturating_duration_since(now) > CLOSED_FOR + SET_BACK;
        if now < until && !set_back {
            return false;
        }
        // Until this fetch has a response, the others go on without the store.
        *closed_until = now.checked_add(CLOSED_FOR);
        true
    }

    /// Without a `cx`, for a task that goes on after its fetch: a failure is not recorded, because it says nothing new.
    pub(super) async fn claim(
        &self,
        cx: Option<&FetchContext>,
        name: &str,
        owner: &[u8; 16],
        ttl: Duration,
        seen: Option<[u8; 16]>,
    ) -> Result<Claim, StoreError> {
        let result = limited(async { self.store.claim(name, owner, ttl, seen).await }).await;
        if let Some(cx) = cx {
            self.record(cx, &result);
        }
        result
    }

    /// As [`claim`](Self::claim).
    pub(super) async fn publish(
        &self,
        cx: Option<&FetchContext>,
        name: &str,
        owner: &[u8; 16],
        outcome: Outcome<'_>,
    ) -> Result<bool, StoreError> {
        let result = limited(async { self.store.publish(name, owner, outcome).await }).await;
        if let Some(cx) = cx {
            self.record(cx, &result);
        }
        result
    }

    /// How long the note with this version still lasts. The first reading decides when it ends: a writer to the store may put
    /// it back later, with another `left`. `None`: it has ended.
    pub(super) fn left_of_note(&self, version: [u8; 16], left: Duration, now: Instant) -> Option<Duration> {
        let mut notes = self.notes.lock();
        if let Some((_, ends)) = notes.iter().find(|(known, _)| *known == version) {
            return ends.checked_duration_since(now).map(|rest| rest.min(left));
        }
        if notes.len() == MAX_NOTES {
            notes.pop_front();
        }
        notes.push_back((version, now.checked_add(left + ROUNDING)?));
        Some(left)
    }

    /// Records whether the store responded.
    fn record<T>(&self, cx: &FetchContext, result: &Result<T, StoreError>) {
        match result {
            Ok(_) => *self.closed_until.lock() = None,
            Err(error) => self.failed(cx, error),
        }
    }

    /// The store is of no use for a while.
    pub(super) fn failed(&self, cx: &FetchContext, error: &StoreError) {
        *self.closed_until.lock() = cx.now().mono.checked_add(CLOSED_FOR);
        cx.report(StoreEvent::Failed(error.message()));
    }
}

/// One call. A panic of the store is a failure, too.
async fn limited<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let no_timers = |_| StoreError::new("the runtime has no timers");
    let mut timer = rt::timer(CALL_TIMEOUT).map_err(no_timers)?;
    // This also catches a panic in the destructor of a future that the timeout drops.
    let call = AssertUnwindSafe(rt::within(timer.as_mut(), call)).catch_unwind().await;
    match call {
        Ok(Some(result)) => result,
        Ok(None) => Err(StoreError::new("the store did not respond within 500 ms")),
        Err(_) => Err(StoreError::new("the store panicked")),
    }
}

#[cfg(test)]
mod tests;
