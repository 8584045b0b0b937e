//! Callers, and the runtimes that they and their flights live in. No runtime drives itself: the simulation does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{Error, FromExtension, Token, TokenSource};

use crate::issuer::Issuer;
use crate::oracle::Began;
use crate::time::Moment;

/// The first one lives as long as the simulation, the second one may end at any time.
pub(crate) struct Homes {
    runtimes: [Runtime; 2],
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl Homes {
    pub(crate) fn new() -> Self {
        Self { runtimes: [runtime(), runtime()] }
    }

    pub(crate) fn within<T>(&self, home: usize, act: impl FnOnce() -> T) -> T {
        let _inside = self.runtimes[home].enter();
        act()
    }

    /// The second runtime ends, with all that is in it, and another begins.
    pub(crate) fn end_second(&mut self) {
        self.runtimes[1] = runtime();
    }

    /// Lets everything that can go on go on.
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

/// One call for a token, polled only when it was woken: a wake-up that is forgotten is a caller that hangs.
pub(crate) struct Caller {
    pub(crate) who: u8,
    pub(crate) home: usize,
    pub(crate) began: Began,
    future: Pin<Box<dyn Future<Output = Result<Token, Error>>>>,
    woken: Arc<Woken>,
}

impl Caller {
    pub(crate) fn new(source: &TokenSource<Issuer>, who: u8, home: usize, began: Began) -> Self {
        let source = source.clone();
        let future = Box::pin(async move { source.token_for(&FromExtension(who)).await });
        Self { who, home, began, future, woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    /// Its runtime has ended, and the first one polls it from now on.
    pub(crate) fn moves(&mut self, now: Moment) {
        self.home = 0;
        self.began.moves(now);
        self.woken.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn poll(&mut self, homes: &Homes) -> Option<Result<Token, Error>> {
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        match homes.within(self.home, || self.future.as_mut().poll(&mut Context::from_waker(&waker))) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}
