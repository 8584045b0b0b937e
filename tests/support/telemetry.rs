//! What an operator would see: every span and event at TRACE, and every metric, of the thread that asks for it.

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

/// A span or an event, in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) span: bool,
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) name: String,
    /// The name of the span around it.
    pub(crate) inside: Option<String>,
    /// The names of the fields that it may have.
    pub(crate) declared: BTreeSet<String>,
    /// Those that it has.
    pub(crate) fields: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Level, name and fields but for the message, in one line.
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

/// A metric with its labels, and all that came under them.
#[derive(Clone, Debug)]
pub(crate) struct Metric {
    pub(crate) kind: Kind,
    pub(crate) unit: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) count: u64,
    pub(crate) values: Vec<f64>,
}

type Metrics = BTreeMap<(String, BTreeMap<String, String>), Metric>;

/// Keeps a second dispatcher, who wants everything, for as long as the process lives. Beside a single one tracing asks the
/// thread that comes by a callsite first, and a thread that nobody watches would switch it off for those that are watched.
pub(crate) fn hear_every_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::mem::forget(Dispatch::new(Registry::default())));
}

/// Sees as long as it lives, on the thread that made it.
pub(crate) struct Watch {
    seen: Lens,
    snapshotter: Snapshotter,
    metrics: Mutex<Metrics>,
    _metrics: metrics::LocalRecorderGuard<'static>,
    _tracing: subscriber::DefaultGuard,
}

impl Watch {
    pub(crate) fn start() -> Self {
        hear_every_thread();
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let seen = Lens::default();
        Self {
            snapshotter: recorder.snapshotter(),
            metrics: Mutex::default(),
            _metrics: metrics::set_default_local_recorder(recorder),
            _tracing: subscriber::set_default(Registry::default().with(seen.clone())),
            seen,
        }
    }

    /// Every span and event so far, whoever made it.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.0.lock().clone()
    }

    /// This crate's events so far.
    pub(crate) fn events(&self) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| !seen.span && seen.target == "tower_bearer_auth").collect()
    }

    /// This crate's spans so far.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.span && seen.target == "tower_bearer_auth").collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.events().iter().map(Seen::line).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Vec<Seen> {
        self.events().into_iter().filter(|event| event.name == name).collect()
    }

    /// Every metric so far.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = self.metrics.lock();
        // Looking takes away, so it is added up here.
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
                DebugValue::Gauge(value) => metric.values.push(value.into_inner()),
                DebugValue::Histogram(values) => metric.values.extend(values.iter().map(|value| value.into_inner())),
            }
        }
        metrics.clone()
    }

    /// What a counter of this crate has come to, over all label sets that have these labels.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let name = format!("tower_bearer_auth_{name}");
        self.picked(&name, labels).iter().map(|metric| metric.count).sum()
    }

    /// What a histogram of this crate was given, over all label sets that have these labels.
    pub(crate) fn values(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let name = format!("tower_bearer_auth_{name}");
        self.picked(&name, labels).into_iter().flat_map(|metric| metric.values).collect()
    }

    fn picked(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Metric> {
        let fits = |all: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| all.get(*label).is_some_and(|there| there == value))
        };
        self.metrics().into_iter().filter(|((n, all), _)| n == name && fits(all)).map(|(_, metric)| metric).collect()
    }

    /// All of it in one text: names, targets, fields, labels and values.
    pub(crate) fn text(&self) -> String {
        format!("{:?}\n{:?}", self.all(), self.metrics())
    }
}

#[derive(Clone, Default)]
struct Lens(Arc<Mutex<Vec<Seen>>>);

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

/// The place of a span in `Lens`.
struct Place(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lens {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let span = context.span(id).unwrap();
        let mut seen = self.0.lock();
        span.extensions_mut().insert(Place(seen.len()));
        seen.push(Seen {
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
        let place = extensions.get::<Place>().unwrap().0;
        values.record(&mut Fields(&mut self.0.lock()[place].fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.0.lock().push(Seen {
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
