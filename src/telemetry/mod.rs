//! What an operator sees of a source: spans and events (`tracing`), counters and histograms (`metrics`).
//!
//! Whatever happens is said once, as an [`Event`], where it happens; which log lines and which metrics it becomes is decided
//! here. Without the features nothing of it is left. `docs/observability.md` is the page of this room, and a test holds
//! the two together.
//!
//! Nothing is said under a lock, and nothing on the cached path: hits are in [`SourceStats`](crate::SourceStats) alone, whose counters
//! are sharded, while one behind the facade would be written by every request on every core.

#[cfg(feature = "tracing")]
mod events;
#[cfg(feature = "metrics")]
mod meters;

use std::fmt::Debug;
use std::future::Future;
#[cfg(any(feature = "tracing", feature = "metrics"))]
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// Something that happened to a source.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(dead_code, reason = "each feature reads its own part")
)]
pub(crate) enum Event<'a> {
    /// A token request brought a new token.
    Minted {
        whose: Whose<'a>,
        generation: u64,
        expires_in: Duration,
        usable_for: Duration,
        took: Duration,
    },
    /// A token request brought nothing better than the token that is there.
    Kept {
        whose: Whose<'a>,
        generation: u64,
        usable_for: Duration,
        took: Duration,
    },
    Failed {
        whose: Whose<'a>,
        error: &'a Error,
        in_hand: Option<InHand>,
        took: Duration,
    },
    /// A token request ended without an outcome.
    Lost {
        whose: Whose<'a>,
        reason: &'static str,
    },
    /// `rotate` or `invalidate` took a token request out of the air.
    Stale {
        whose: Whose<'a>,
    },
    /// A server refused a token.
    Refused {
        whose: Whose<'a>,
        generation: u64,
        age: Duration,
        token: &'static str,
        /// Whether nobody refused this token before.
        first: bool,
        explicit: bool,
        renewal: &'static str,
    },
    /// A refused request was sent again.
    Resent,
    /// What a refused request came to.
    Settled {
        whose: Whose<'a>,
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
        whose: Whose<'a>,
    },
    /// A request failed at once, because the issuer is left alone.
    FailedFast {
        error: ErrorKind,
    },
    Waited {
        outcome: &'static str,
        took: Duration,
    },
}

/// The token that is there when a token request fails.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only log lines say it"))]
pub(crate) struct InHand {
    pub(crate) generation: u64,
    pub(crate) age: Duration,
    pub(crate) usable_for: Duration,
}

/// A key, as its `Debug` shows it; nothing where there is only one.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "a key is in no label"))]
pub(crate) struct Whose<'a>(Option<&'a dyn Debug>);

impl<'a> Whose<'a> {
    pub(crate) fn key<K: Debug>(key: &'a K) -> Self {
        Self((size_of::<K>() != 0).then_some(key as &dyn Debug))
    }
}

/// Where a source reports what happens.
pub(crate) struct Telemetry {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    environment: Arc<str>,
}

impl Telemetry {
    pub(crate) fn new(environment: &str) -> Self {
        let telemetry = Self {
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            environment: environment.into(),
        };
        #[cfg(feature = "metrics")]
        meters::begin(&telemetry.environment);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = environment;
        telemetry
    }

    /// Not to be called with a lock held: a subscriber may take its time, or ask the source something.
    pub(crate) fn emit(&self, event: Event<'_>) {
        #[cfg(feature = "tracing")]
        events::emit(&self.environment, event);
        #[cfg(feature = "metrics")]
        meters::count(&self.environment, event);
        #[cfg(not(any(feature = "tracing", feature = "metrics")))]
        let _ = event;
    }

    /// The span of one token request. Its parent is nobody: it serves all who wait, and none of them in particular.
    pub(crate) fn token_request(&self, whose: Whose<'_>) -> Span {
        #[cfg(not(feature = "tracing"))]
        let _ = whose;
        Span {
            #[cfg(feature = "tracing")]
            span: events::token_request(&self.environment, whose),
        }
    }
}

/// The span of one token request, while it is in the air.
#[derive(Clone)]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Span {
    pub(crate) fn around<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        let task = tracing::Instrument::instrument(task, self.span);
        task
    }

    pub(crate) fn landed(&self, outcome: &'static str, generation: Option<u64>) {
        #[cfg(feature = "tracing")]
        self.span.record("outcome", outcome).record("generation", generation);
        #[cfg(not(feature = "tracing"))]
        let _ = (outcome, generation);
    }
}

/// Since when somebody waits. Asks for the time only where somebody wants to know.
pub(crate) struct Since {
    #[cfg(feature = "metrics")]
    at: Instant,
}

impl Since {
    pub(crate) fn new(now: impl FnOnce() -> Instant) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = now;
        Self {
            #[cfg(feature = "metrics")]
            at: now(),
        }
    }

    pub(crate) fn until(&self, now: impl FnOnce() -> Instant) -> Duration {
        #[cfg(feature = "metrics")]
        let passed = now().saturating_duration_since(self.at);
        #[cfg(not(feature = "metrics"))]
        let passed = {
            let _ = now;
            Duration::ZERO
        };
        passed
    }
}
