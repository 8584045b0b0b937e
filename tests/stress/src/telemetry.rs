//! A subscriber and a recorder that panic at random.

use std::any::Any;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata as Metric, Recorder,
    SharedString, Unit,
};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::violation;

/// The payload of the panics that are intended.
#[derive(Clone, Copy)]
pub(crate) struct Intended;

/// One call in so many panics. 0 is never.
static ONE_IN: AtomicU32 = AtomicU32::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);
static SPANS: AtomicU64 = AtomicU64::new(1);

pub(crate) fn install() {
    panic::set_hook(Box::new(|info| {
        if !is_intended(info.payload()) {
            violation(&format!("a panic: {info}\n{}", std::backtrace::Backtrace::force_capture()));
        }
    }));
    tracing::subscriber::set_global_default(Panicking).expect("the first subscriber");
    metrics::set_global_recorder(Panicking).expect("the first recorder");
}

pub(crate) fn is_intended(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Intended>()
}

pub(crate) fn panic_once_in(calls: u32) {
    ONE_IN.store(calls, Ordering::Relaxed);
}

/// How many panics there were since the last call.
pub(crate) fn take_panics() -> u64 {
    PANICS.swap(0, Ordering::Relaxed)
}

/// Panics at random. A second panic during an unwinding would abort the process, so a careful subscriber does not panic
/// then.
pub(crate) fn may_panic() {
    let one_in = ONE_IN.load(Ordering::Relaxed);
    if one_in > 0 && !thread::panicking() && fastrand::u32(..one_in) == 0 {
        PANICS.fetch_add(1, Ordering::Relaxed);
        panic::panic_any(Intended);
    }
}

#[derive(Clone, Copy)]
struct Panicking;

impl Subscriber for Panicking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_bearer_auth")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        may_panic();
        Id::from_u64(SPANS.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        may_panic();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {
        may_panic();
    }

    fn event(&self, _: &Event<'_>) {
        may_panic();
    }

    fn enter(&self, _: &Id) {
        may_panic();
    }

    fn exit(&self, _: &Id) {
        may_panic();
    }

    fn try_close(&self, _: Id) -> bool {
        may_panic();
        true
    }
}

impl CounterFn for Panicking {
    fn increment(&self, _: u64) {
        may_panic();
    }

    fn absolute(&self, _: u64) {
        may_panic();
    }
}

impl GaugeFn for Panicking {
    fn increment(&self, _: f64) {
        may_panic();
    }

    fn decrement(&self, _: f64) {
        may_panic();
    }

    fn set(&self, _: f64) {
        may_panic();
    }
}

impl HistogramFn for Panicking {
    fn record(&self, _: f64) {
        may_panic();
    }
}

impl Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metric<'_>) -> Counter {
        Counter::from_arc(Arc::new(*self))
    }

    fn register_gauge(&self, _: &Key, _: &Metric<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(*self))
    }

    fn register_histogram(&self, _: &Key, _: &Metric<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(*self))
    }
}
