//! Captures the telemetry of one thread: every span and event at TRACE, and every metric.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Once};

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Subscriber, subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// A span or an event.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) span: bool,
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) name: String,
    /// The name of the parent span.
    pub(crate) inside: Option<String>,
    /// The names of the declared fields.
    pub(crate) declared: BTreeSet<String>,
    /// The fields that have a value.
    pub(crate) fields: BTreeMap<String, String>,
}

impl Captured {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The level, the name and the fields in one line, without the message.
    pub(crate) fn line(&self) -> String {
        let fields = self.fields.iter().filter(|(name, _)| *name != "message");
        let fields: String = fields.map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{} {}{fields}", self.level, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The sum and the values of a metric with one set of labels.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    pub(crate) kind: Kind,
    pub(crate) unit: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) count: u64,
    pub(crate) values: Vec<f64>,
}

type Metrics = BTreeMap<(String, BTreeMap<String, String>), Metric>;

/// Adds a dispatcher that enables every call site, for the rest of the process. With a single dispatcher, tracing caches the
/// interest of the thread that reaches a call site first. A thread without a capture would disable the call site for all
/// threads.
pub(crate) fn enable_every_call_site() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::mem::forget(Dispatch::new(Registry::default())));
}

/// Captures the telemetry of the thread that created it, until it is dropped.
pub(crate) struct Capture {
    seen: CaptureLayer,
    snapshotter: Snapshotter,
    metrics: Mutex<Metrics>,
    _metrics: metrics::LocalRecorderGuard<'static>,
    _tracing: subscriber::DefaultGuard,
}

impl Capture {
    pub(crate) fn start() -> Self {
        enable_every_call_site();
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let seen = CaptureLayer::default();
        Self {
            snapshotter: recorder.snapshotter(),
            metrics: Mutex::default(),
            _metrics: metrics::set_default_local_recorder(recorder),
            _tracing: subscriber::set_default(Registry::default().with(seen.clone())),
            seen,
        }
    }

    /// Every span and event so far, of every crate.
    pub(crate) fn all(&self) -> Vec<Captured> {
        self.seen.0.lock().clone()
    }

    /// This crate's events so far.
    pub(crate) fn events(&self) -> Vec<Captured> {
        self.all().into_iter().filter(|seen| !seen.span && seen.target == "tower_bearer_auth").collect()
    }

    /// This crate's spans so far.
    pub(crate) fn spans(&self) -> Vec<Captured> {
        self.all().into_iter().filter(|seen| seen.span && seen.target == "tower_bearer_auth").collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.events().iter().map(Captured::line).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Vec<Captured> {
        self.events().into_iter().filter(|event| event.name == name).collect()
    }

    /// Every metric so far.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = self.metrics.lock();
        // A snapshot resets counters and gauges to 0, so their sums and last values are kept here.
        for (key, unit, text, value) in self.snapshotter.snapshot().into_vec() {
            let labels = key.key().labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
            let kind = match key.kind() {
                MetricKind::Counter => Kind::Counter,
                MetricKind::Gauge => Kind::Gauge,
                MetricKind::Histogram => Kind::Histogram,
            };
            let metric = metrics.entry((key.key().name().to_owned(), labels)).or_insert_with(|| Metric {
                kind,
                unit: unit.map(|unit| unit.as_str().to_owned()),
                text: text.map(|text| text.to_string()),
                count: 0,
                values: Vec::new(),
            });
            match value {
                DebugValue::Counter(count) => metric.count += count,
                // 0: not set since the last snapshot.
                DebugValue::Gauge(value) if value == 0.0 => {}
                DebugValue::Gauge(value) => metric.values = vec![value.into_inner()],
                DebugValue::Histogram(values) => metric.values.extend(values.iter().map(|value| value.into_inner())),
            }
        }
        metrics.clone()
    }

    /// The sum of a counter of this crate, over all label sets that contain these labels.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let name = format!("tower_bearer_auth_{name}");
        self.matching(&name, labels).iter().map(|metric| metric.count).sum()
    }

    /// The values of a histogram or of a gauge of this crate, over all label sets that contain these labels.
    pub(crate) fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let name = format!("tower_bearer_auth_{name}");
        self.matching(&name, labels).into_iter().flat_map(|metric| metric.values).collect()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Metric> {
        let fits = |all: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| all.get(*label).is_some_and(|there| there == value))
        };
        self.metrics().into_iter().filter(|((n, all), _)| n == name && fits(all)).map(|(_, metric)| metric).collect()
    }

    /// Everything in one text: names, targets, fields, labels and values.
    pub(crate) fn text(&self) -> String {
        format!("{:?}\n{:?}", self.all(), self.metrics())
    }
}

#[derive(Clone, Default)]
struct CaptureLayer(Arc<Mutex<Vec<Captured>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.to_string());
    }
}

fn declared(metadata: &tracing::Metadata<'_>) -> BTreeSet<String> {
    metadata.fields().iter().map(|field| field.name().to_owned()).collect()
}

/// The index of a span in `CaptureLayer`.
struct Index(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for CaptureLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let span = context.span(id).unwrap();
        let mut seen = self.0.lock();
        span.extensions_mut().insert(Index(seen.len()));
        seen.push(Captured {
            span: true,
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            name: metadata.name().to_owned(),
            inside: span.parent().map(|parent| parent.name().to_owned()),
            declared: declared(metadata),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let extensions = span.extensions();
        let index = extensions.get::<Index>().unwrap().0;
        values.record(&mut Fields(&mut self.0.lock()[index].fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.0.lock().push(Captured {
            span: false,
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            name: metadata.name().to_owned(),
            inside: context.event_span(event).map(|span| span.name().to_owned()),
            declared: declared(metadata),
            fields,
        });
    }
}
