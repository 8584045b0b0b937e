//! Spans and events (`tracing`), counters, histograms and a gauge (`metrics`).
//!
//! Code that observes a change emits one [`Event`]. This module decides which log events and which metrics that
//! becomes. If both features are off, it does nothing. `docs/observability.md` describes its output, and a test
//! compares the two.
//!
//! Do not emit while a lock is held, and emit nothing on the cached path. Hits are counted in
//! [`SourceStats`](crate::SourceStats) alone, in sharded counters. With a counter of the `metrics` facade, every
//! request on every core would write to one memory location.

#[cfg(feature = "tracing")]
mod events;
#[cfg(feature = "metrics")]
mod meters;

use std::fmt::Debug;
use std::future::Future;
#[cfg(feature = "tracing")]
use std::pin::Pin;
#[cfg(any(feature = "tracing", feature = "metrics"))]
use std::sync::Arc;
#[cfg(feature = "tracing")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, ErrorKind};

/// Something that happened to a source.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(dead_code, reason = "each feature reads other fields")
)]
pub(crate) enum Event<'a> {
    /// A fetch returned a new token.
    Minted {
        key: KeyField<'a>,
        generation: u64,
        expires_in: Duration,
        expires_at: SystemTime,
        usable_for: Duration,
        took: Duration,
    },
    /// An early refresh returned no better token than the cached one.
    Kept {
        key: KeyField<'a>,
        generation: u64,
        usable_for: Duration,
        took: Duration,
    },
    /// A fetch failed.
    Failed {
        key: KeyField<'a>,
        error: &'a Error,
        cached: Option<CachedToken>,
        took: Duration,
    },
    /// A fetch was cancelled with its runtime.
    Cancelled {
        key: KeyField<'a>,
        reason: &'static str,
    },
    /// A fetch that `rotate` discarded has ended.
    Discarded {
        key: KeyField<'a>,
    },
    /// A server rejected a token.
    TokenRejected {
        key: KeyField<'a>,
        generation: u64,
        age: Duration,
        /// Zero if the token has expired.
        expires_in: Duration,
        token: &'static str,
        /// Whether this is the first rejection of this token.
        first: bool,
        rejection: &'static str,
        refresh: &'static str,
    },
    /// A rejected request is replayed.
    Replay,
    /// How the handling of a rejected request ended.
    RequestRejected {
        key: KeyField<'a>,
        generation: u64,
        outcome: &'static str,
        error: Option<ErrorKind>,
    },
    /// A request went to a foreign origin, without the token.
    NotStamped {
        host: &'a str,
    },
    Evicted {
        keys: usize,
    },
    Rotated {
        keys: usize,
    },
    Invalidated {
        key: KeyField<'a>,
    },
    /// A request failed at once, during a backoff.
    FailedFast {
        error: ErrorKind,
    },
    Waited {
        outcome: &'static str,
        took: Duration,
    },
    /// A fetch used a shared store.
    Store(StoreOutcome<'a>),
}

/// What happened at a shared store. `provider::StoreEvent` has the meanings.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only a log event has the text of a failure"))]
pub(crate) enum StoreOutcome<'a> {
    Hit,
    Miss,
    Leased,
    Waited,
    Noted,
    Failed(&'a str),
    Unopened,
}

impl StoreOutcome<'_> {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Leased => "leased",
            Self::Waited => "waited",
            Self::Noted => "noted",
            Self::Failed(_) => "failed",
            Self::Unopened => "unopened",
        }
    }
}

/// The usable token in the cache while a fetch fails.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only log events have these fields"))]
pub(crate) struct CachedToken {
    pub(crate) generation: u64,
    pub(crate) age: Duration,
    pub(crate) usable_for: Duration,
}

/// The field `key`: the `Debug` form of a key. Empty for a key type with only one value.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "no metric has a key"))]
pub(crate) struct KeyField<'a>(Option<&'a dyn Debug>);

impl<'a> KeyField<'a> {
    pub(crate) fn new<K: Debug>(key: &'a K) -> Self {
        Self((size_of::<K>() != 0).then_some(key as &dyn Debug))
    }
}

/// Emits the events of one source.
pub(crate) struct Telemetry {
    /// The provider's label.
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    provider: Arc<str>,
}

impl Telemetry {
    pub(crate) fn new(provider: &str) -> Self {
        let telemetry = Self {
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            provider: provider.into(),
        };
        #[cfg(feature = "metrics")]
        meters::register(&telemetry.provider);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = provider;
        telemetry
    }

    /// Do not call this while a lock is held: a subscriber may be slow, or may call the source.
    pub(crate) fn emit(&self, event: Event<'_>) {
        #[cfg(feature = "tracing")]
        events::emit(&self.provider, event);
        #[cfg(feature = "metrics")]
        meters::count(&self.provider, event);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = event;
    }

    /// The span of one fetch. It has no parent, because the fetch serves all its waiters.
    pub(crate) fn token_request(&self, key: KeyField<'_>) -> Span {
        #[cfg(not(feature = "tracing"))]
        let _ = key;
        Span {
            #[cfg(feature = "tracing")]
            span: events::token_request(&self.provider, key),
        }
    }
}

/// The span of one fetch.
#[derive(Clone)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Span {
    pub(crate) fn around<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let task = InSpan { span: self.span, task: Some(task) };
        task
    }

    pub(crate) fn record(&self, outcome: &'static str, generation: Option<u64>) {
        #[cfg(feature = "tracing")]
        self.span.record("outcome", outcome).record("generation", generation);
        #[cfg(not(feature = "tracing"))]
        let _ = (outcome, generation);
    }
}

#[cfg(feature = "tracing")]
pin_project_lite::pin_project! {
    /// Enters a span to poll and to drop a task.
    ///
    /// `tracing::Instrument` does so too. But if the subscriber panics when the span is entered for the drop, that type never
    /// drops the task, although its memory is freed. Timers that the task holds are then used after they were freed.
    struct InSpan<F> {
        span: tracing::Span,
        #[pin]
        task: Option<F>,
    }

    impl<F> PinnedDrop for InSpan<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.span.in_scope(|| this.task.set(None));
        }
    }
}

#[cfg(feature = "tracing")]
impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // The task is there until the drop.
        let Some(task) = this.task.as_pin_mut() else {
            return Poll::Pending;
        };
        this.span.in_scope(|| task.poll(cx))
    }
}

/// Measures a wait. It reads the clock only if metrics are on.
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Instant,
}

impl Stopwatch {
    pub(crate) fn start(now: impl FnOnce() -> Instant) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = now;
        Self {
            #[cfg(feature = "metrics")]
            started: now(),
        }
    }

    pub(crate) fn read(&self, now: impl FnOnce() -> Instant) -> Duration {
        #[cfg(feature = "metrics")]
        let passed = now().saturating_duration_since(self.started);
        #[cfg(not(feature = "metrics"))]
        let passed = {
            let _ = now;
            Duration::ZERO
        };
        passed
    }
}
