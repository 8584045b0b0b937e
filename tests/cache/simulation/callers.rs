//! Callers, and the runtimes of callers and fetches. The simulation polls the runtimes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{Error, ExtensionKey, Token, TokenSource};

use super::issuer::Issuer;
use super::oracle::CallStart;
use super::rules::Wanted;
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

/// How far a request through the layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    WaitsForToken,
    Sent,
    /// It was rejected, and waits for a new token.
    WaitsForNewToken,
    Replayed,
}

/// A request through the layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) id: usize,
    pub(crate) progress: Progress,
    /// The index of the token that it was stamped with last.
    pub(crate) tok: Option<usize>,
}

/// The output of a caller.
#[derive(Debug)]
pub(crate) enum Output {
    Token(Result<Option<Token>, Error>),
    /// The status, or the error of a request that was not sent.
    Response(Result<u16, Error>),
}

type Work = Pin<Box<dyn Future<Output = Output>>>;

/// A call of the source, or a request through the layer. It is polled only when it was woken, so a missing wake-up shows as
/// a caller that hangs.
pub(crate) struct Caller {
    pub(crate) user: u8,
    pub(crate) runtime: usize,
    pub(crate) start: CallStart,
    pub(crate) sending: Option<Sending>,
    future: Work,
    woken: Arc<Woken>,
}

/// The call of the source for what the caller wants.
pub(crate) fn call(source: &TokenSource<Issuer>, user: u8, wanted: Wanted) -> Work {
    let (source, key) = (source.clone(), ExtensionKey(user));
    let time = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    match wanted {
        Wanted::Usable => source.token_for(&key).map(|result| Output::Token(result.map(Some))).boxed_local(),
        Wanted::Refreshed => source.refresh(&key).map(|result| Output::Token(result.map(Some))).boxed_local(),
        Wanted::ValidFor(ms) => {
            source.token_valid_for(&key, time(ms)).map(|result| Output::Token(result.map(Some))).boxed_local()
        }
        Wanted::WarmUp => async move { Output::Token(source.warm_up_for(&key).await.map(|()| None)) }.boxed_local(),
    }
}

impl Caller {
    pub(crate) fn new(user: u8, runtime: usize, start: CallStart, sending: Option<Sending>, future: Work) -> Self {
        Self { user, runtime, start, sending, future, woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    /// The runtime of the caller has ended. From now on the first one polls it.
    pub(crate) fn moves_to_first(&mut self, now: Moment) {
        self.runtime = 0;
        self.start.moves_to_first(now);
        self.woken.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    pub(crate) fn poll(&mut self, runtimes: &Runtimes) -> Option<Output> {
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        match runtimes.within(self.runtime, || self.future.as_mut().poll(&mut Context::from_waker(&waker))) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Whether it waits for a token of the source, and whether only a new one helps.
    pub(crate) fn waits(&self) -> Option<bool> {
        match self.sending.map(|sending| sending.progress) {
            None => Some(self.start.needs_new),
            Some(Progress::WaitsForToken) => Some(false),
            Some(Progress::WaitsForNewToken) => Some(true),
            Some(Progress::Sent | Progress::Replayed) => None,
        }
    }
}
