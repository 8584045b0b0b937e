//! The handle of a running fetch, and the outcome that its waiters receive.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::token::Token;

#[derive(Clone, Debug)]
pub(super) enum FetchOutcome {
    Completed(Result<Token, Error>),
    /// There is no result. Look the token up again.
    LookAgain,
}

/// The outcome of a fetch, for one waiter.
#[derive(Clone)]
pub(super) struct OutcomeReceiver(Shared<oneshot::Receiver<FetchOutcome>>);

impl OutcomeReceiver {
    /// Waits for the outcome. `None` means that the fetch was cancelled.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<FetchOutcome>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

/// The handle of a fetch, which its slot holds. Dropping it cancels the fetch.
pub(super) struct FetchHandle {
    sender: oneshot::Sender<FetchOutcome>,
    receiver: OutcomeReceiver,
    /// How often the credentials had been rotated when the provider read them.
    rotation: AtomicU64,
    _alive: oneshot::Sender<()>,
}

impl FetchHandle {
    /// A handle, and a receiver for the task of the fetch. It completes when the handle is dropped.
    pub(super) fn new(rotation: u64) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let (alive, cancelled) = oneshot::channel();
        let (receiver, rotation) = (OutcomeReceiver(receiver.shared()), AtomicU64::new(rotation));
        (Self { sender, receiver, rotation, _alive: alive }, cancelled)
    }

    /// A handle without a fetch. It only wakes its receivers.
    pub(super) fn without_fetch() -> Self {
        Self::new(0).0
    }

    /// Makes this the handle of a fetch, so that its receivers get the outcome. Returns what `new` returns.
    pub(super) fn for_fetch(self, rotation: u64) -> (Self, oneshot::Receiver<()>) {
        let (alive, cancelled) = oneshot::channel();
        (Self { rotation: AtomicU64::new(rotation), _alive: alive, ..self }, cancelled)
    }

    /// Whether `receiver` gets the outcome of this fetch.
    pub(super) fn has(&self, receiver: &OutcomeReceiver) -> bool {
        self.receiver.0.ptr_eq(&receiver.0)
    }

    pub(super) fn receiver(&self) -> OutcomeReceiver {
        self.receiver.clone()
    }

    pub(super) fn rotation(&self) -> u64 {
        self.rotation.load(Ordering::Relaxed)
    }

    /// The provider rotated the credentials in its own fetch, so the fetch uses the new ones.
    pub(super) fn set_rotation(&self, rotation: u64) {
        self.rotation.store(rotation, Ordering::Relaxed);
    }

    pub(super) fn finish(self, outcome: FetchOutcome) {
        // Without waiters, nothing receives the outcome.
        let _ = self.sender.send(outcome);
    }
}

/// The fetch that a task runs. An entry has one address as long as one of its fetches exists.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) entry_address: usize,
    pub(super) id: u64,
}

tokio::task_local! {
    static RUNNING: Running;
}

/// The id of the fetch for `entry` that the current task runs. That fetch may be stale: compare the id with the slot's.
pub(super) fn running_fetch<E>(entry: &Arc<E>) -> Option<u64> {
    let running = RUNNING.try_with(|running| *running).ok()?;
    (running.entry_address == Arc::as_ptr(entry).addr()).then_some(running.id)
}

/// Whether the current task is a fetch for `entry`. It must not wait for itself.
pub(super) fn is_fetching<E>(entry: &Arc<E>) -> bool {
    running_fetch(entry).is_some()
}

impl Running {
    /// Runs `fetch` as this fetch.
    pub(super) fn scope<F: Future>(self, fetch: F) -> impl Future<Output = F::Output> {
        RUNNING.scope(self, fetch)
    }
}
