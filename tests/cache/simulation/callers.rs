//! Callers, and the runtimes of callers and fetches. The simulation polls the runtimes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{Error, ExtensionKey, Token, TokenSource};

use super::issuer::Issuer;
use super::oracle::CallStart;
use super::time::Moment;

/// The first runtime lives as long as the simulation. The second one may end at any time.
pub(crate) struct Runtimes {
    runtimes: [Runtime; 2],
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl Runtimes {
    pub(crate) fn new() -> Self {
        Self { runtimes: [runtime(), runtime()] }
    }

    pub(crate) fn within<T>(&self, runtime: usize, act: impl FnOnce() -> T) -> T {
        let _inside = self.runtimes[runtime].enter();
        act()
    }

    /// The second runtime ends with all its tasks, and a new one replaces it.
    pub(crate) fn end_second(&mut self) {
        self.runtimes[1] = runtime();
    }

    /// Polls every task that can continue.
    pub(crate) fn drive(&self) {
        for runtime in &self.runtimes {
            runtime.block_on(async {
                for _ in 0..2 {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    pub(crate) fn pass(&self, ms: i64) {
        for runtime in &self.runtimes {
            runtime.block_on(tokio::time::advance(Duration::from_millis(ms.unsigned_abs())));
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One call of `token_for`. It is polled only when it was woken, so a missing wake-up shows as a caller that hangs.
pub(crate) struct Caller {
    pub(crate) user: u8,
    pub(crate) runtime: usize,
    pub(crate) start: CallStart,
    future: Pin<Box<dyn Future<Output = Result<Token, Error>>>>,
    woken: Arc<Woken>,
}

impl Caller {
    pub(crate) fn new(source: &TokenSource<Issuer>, user: u8, runtime: usize, start: CallStart) -> Self {
        let source = source.clone();
        let future = Box::pin(async move { source.token_for(&ExtensionKey(user)).await });
        Self { user, runtime, start, future, woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    /// The runtime of the caller has ended. From now on the first one polls it.
    pub(crate) fn moves_to_first(&mut self, now: Moment) {
        self.runtime = 0;
        self.start.moves_to_first(now);
        self.woken.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn poll(&mut self, runtimes: &Runtimes) -> Option<Result<Token, Error>> {
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        match runtimes.within(self.runtime, || self.future.as_mut().poll(&mut Context::from_waker(&waker))) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}
