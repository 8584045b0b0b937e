//! Code of the user that calls the source: errors, spans, panic hooks, clocks, keys, subscribers and recorders.
//!
//! Each test would never end if that code ran under the lock of an entry. So each runs in a thread of its own, and fails if
//! the thread does not end.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use futures::FutureExt as _;
use tokio::runtime::{Builder, Runtime};
use tower_bearer_auth::{
    Clock, Error, ExtensionKey, FetchContext, IssuedToken, Now, SystemClock, TokenProvider, TokenSource,
};

use crate::common::{Issuer, Outcome, TestClock, User, secs, settle};
use crate::support::wait::GUARD;

/// Runs `scenario` in a thread. Fails if it does not end.
#[track_caller]
fn ends(what: &str, scenario: impl FnOnce() + Send + 'static) {
    let (ended, has_ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name(what.to_owned()).spawn(move || {
        scenario();
        let _ = ended.send(());
    });
    match has_ended.recv_timeout(GUARD) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a deadlock: {what}"),
        _ => thread.unwrap().join().unwrap(),
    }
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

thread_local!(static CALLING: Cell<bool> = const { Cell::new(false) });

/// Runs `call`, unless it runs already on this thread: code of the user that calls the source is called again by it.
fn once_at_a_time(call: impl FnOnce()) {
    if !CALLING.replace(true) {
        call();
        CALLING.set(false);
    }
}

/// Calls every method of `source` that takes the lock of the entry of `key`.
fn call_everything<P: TokenProvider>(source: &TokenSource<P>, key: &P::Key) {
    let _ = (source.peek_for(key), source.status_for(key), source.stats());
    if let Some(Ok(token)) = source.token_for(key).now_or_never() {
        source.accept(&token);
    }
}

/// The source of [`Error`]s. Its destructor calls the token source.
struct CallsWhenDropped {
    source: Arc<OnceLock<TokenSource<Issuer>>>,
    dropped: Arc<AtomicUsize>,
}

impl fmt::Debug for CallsWhenDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallsWhenDropped")
    }
}

impl fmt::Display for CallsWhenDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it calls the source when it is dropped")
    }
}

impl std::error::Error for CallsWhenDropped {}

impl Drop for CallsWhenDropped {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        once_at_a_time(|| call_everything(self.source.get().unwrap(), &()));
    }
}

/// What removes an error from the slot.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Success,
    OtherFailure,
    Rotation,
    Invalidation,
    Rejection,
}

/// A source with a failure in its slot, which only the slot holds. Then the failure is removed.
async fn remove_a_failure(removal: Removal, error: impl FnOnce(&Arc<OnceLock<TokenSource<Issuer>>>) -> Error) {
    let (issuer, clock) = (Issuer::new(), TestClock::new());
    let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).patience(secs(0)).build();
    let itself = Arc::new(OnceLock::new());
    itself.set(source.clone()).ok().unwrap();
    let token = if let Removal::Rejection = removal {
        let token = source.token().await.unwrap();
        source.accept(&token);
        clock.mono_forward(secs(1_000));
        Some(token)
    } else {
        None
    };
    issuer.script(Outcome::Fail(error(&itself)));
    // In the window, the call returns the old token and starts the fetch that fails.
    let _ = source.token().await;
    // An invalidation ends a backoff that is still running.
    if !matches!(removal, Removal::Invalidation) {
        tokio::time::sleep(secs(1)).await;
    }
    issuer.clear_script();
    match removal {
        Removal::Success => drop(source.token().await.unwrap()),
        Removal::OtherFailure => {
            issuer.script(Outcome::Fail(Error::transient("down")));
            source.token().await.unwrap_err();
        }
        Removal::Rotation => source.rotate(),
        Removal::Invalidation => source.invalidate(),
        Removal::Rejection => assert!(source.reject(&(), &token.unwrap())),
    }
    settle().await;
}

const REMOVALS: [Removal; 5] =
    [Removal::Success, Removal::OtherFailure, Removal::Rotation, Removal::Invalidation, Removal::Rejection];

// R79
#[test]
fn an_error_may_call_the_source_when_it_is_dropped() {
    for removal in REMOVALS {
        ends("the destructor of an error", move || {
            let dropped = Arc::new(AtomicUsize::new(0));
            paused().block_on(remove_a_failure(removal, |source| {
                let (source, dropped) = (Arc::clone(source), Arc::clone(&dropped));
                Error::transient("down").with_source(CallsWhenDropped { source, dropped })
            }));
            assert_eq!(dropped.load(Ordering::Relaxed), 1, "{removal:?} did not remove the error");
        });
    }
}

#[cfg(feature = "tracing")]
mod spans {
    use tracing::span::Id;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};
    use tracing_subscriber::{Layer, Registry};

    use super::*;

    /// Calls the source when a span closes.
    #[derive(Clone, Default)]
    struct CallsWhenClosed {
        source: Arc<OnceLock<TokenSource<Issuer>>>,
        closed: Arc<AtomicUsize>,
    }

    impl Layer<Registry> for CallsWhenClosed {
        fn on_close(&self, id: Id, cx: Context<'_, Registry>) {
            if cx.span(&id).is_some_and(|span| span.name() == "in_an_error") {
                self.closed.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(source) = self.source.get() {
                once_at_a_time(|| call_everything(source, &()));
            }
        }
    }

    /// An error with a span, as `tracing_error::SpanTrace` has one.
    #[derive(Debug)]
    struct InSpan {
        _span: tracing::Span,
    }

    impl fmt::Display for InSpan {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("in a span")
        }
    }

    impl std::error::Error for InSpan {}

    // R79
    #[test]
    fn a_subscriber_may_call_the_source_when_the_span_in_an_error_closes() {
        for removal in REMOVALS {
            ends("the span in an error", move || {
                let subscriber = CallsWhenClosed::default();
                let closed = Arc::clone(&subscriber.closed);
                let source_of_subscriber = Arc::clone(&subscriber.source);
                tracing::subscriber::with_default(Registry::default().with(subscriber), || {
                    paused().block_on(remove_a_failure(removal, |source| {
                        source_of_subscriber.set(source.get().unwrap().clone()).ok().unwrap();
                        let span = tracing::info_span!("in_an_error");
                        Error::transient("down").with_source(InSpan { _span: span })
                    }));
                });
                assert_eq!(closed.load(Ordering::Relaxed), 1, "{removal:?} did not close the span");
            });
        }
    }

    /// Panics at some event, and calls the source at every event.
    struct PanicsAt {
        event: &'static str,
        panicked: Arc<AtomicUsize>,
    }

    impl Layer<Registry> for PanicsAt {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
            struct Name(String);
            impl tracing::field::Visit for Name {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                    if field.name() == "message" {
                        self.0 = format!("{value:?}");
                    }
                }
            }
            let mut name = Name(event.metadata().name().to_owned());
            event.record(&mut name);
            if name.0.contains(self.event) || event.metadata().name().contains(self.event) {
                self.panicked.fetch_add(1, Ordering::Relaxed);
                std::panic::resume_unwind(Box::new("the subscriber's bug"));
            }
        }
    }

    // R80
    #[test]
    fn a_subscriber_that_panics_during_a_rotation_leaves_no_key_with_an_old_token() {
        ends("a subscriber that panics", || {
            paused().block_on(async {
                let (issuer, clock) = (Issuer::for_users(), TestClock::new());
                let source = TokenSource::builder(issuer.clone()).clock(clock.clone()).build();
                let keys: Vec<_> = (0..39).map(ExtensionKey).collect();
                for key in &keys {
                    source.token_for(key).await.unwrap();
                }
                clock.mono_forward(secs(1_100));
                // Each key has a running fetch, which the rotation cancels.
                for key in &keys {
                    source.token_for(key).await.unwrap();
                }
                settle().await;
                assert_eq!(issuer.running(), 39);
                let panicked = Arc::new(AtomicUsize::new(0));
                let subscriber = PanicsAt { event: "rotated", panicked: Arc::clone(&panicked) };
                tracing::subscriber::with_default(Registry::default().with(subscriber), || {
                    let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| source.rotate()));
                    assert!(rotated.is_err(), "the subscriber did not panic");
                });
                assert!(panicked.load(Ordering::Relaxed) >= 1);
                let old = keys.iter().filter(|key| source.peek_for(key).is_some()).count();
                assert_eq!(old, 0, "keys that still have an old token");
                issuer.set_credential("second");
                for key in &keys {
                    assert!(source.token_for(key).await.unwrap().expose_secret().starts_with("second."));
                }
            });
        });
    }
}

// R79: a timer panics in a runtime without timers, and the source checks that once for each runtime.
#[test]
fn a_panic_hook_may_call_the_source() {
    const THREAD: &str = "the panic hook";
    static SOURCE: OnceLock<TokenSource<Issuer>> = OnceLock::new();
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(THREAD) {
            return others(info);
        }
        CALLS.fetch_add(1, Ordering::Relaxed);
        once_at_a_time(|| {
            let source = SOURCE.get().unwrap();
            let _ = (source.peek(), source.status(), source.stats());
            source.invalidate();
        });
    }));
    ends(THREAD, || {
        let source = SOURCE.get_or_init(|| TokenSource::new(Issuer::new()));
        let token = paused().block_on(source.token()).unwrap();
        source.accept(&token);
        let without_timers = || Builder::new_current_thread().build().unwrap();
        assert!(!without_timers().block_on(async { source.reject(&(), &token) }));
        without_timers().block_on(source.token()).unwrap_err();
        assert!(CALLS.load(Ordering::Relaxed) >= 2);
    });
}

/// A clock that calls the source whenever it is read.
struct Calling(Arc<OnceLock<TokenSource<Issuer>>>);

impl Clock for Calling {
    fn now(&self) -> Now {
        if let Some(source) = self.0.get() {
            once_at_a_time(|| call_everything(source, &()));
        }
        SystemClock.now()
    }
}

// R79
#[test]
fn a_clock_may_call_the_source() {
    ends("the clock", || {
        paused().block_on(async {
            let itself = Arc::new(OnceLock::new());
            let issuer = Issuer::new();
            let source = TokenSource::builder(issuer.clone()).clock(Calling(Arc::clone(&itself))).build();
            itself.set(source.clone()).ok().unwrap();
            for _ in 0..2 {
                let token = source.token().await.unwrap();
                let _ = (source.peek(), source.status(), source.stats());
                source.accept(&token);
                assert!(source.reject(&(), &token));
                source.token().await.unwrap();
                source.invalidate();
                source.token().await.unwrap();
                issuer.script(Outcome::Fail(Error::permanent("wrong secret")));
                source.rotate();
                source.token().await.unwrap_err();
                // A rotation within a second of the last one ends no backoff.
                tokio::time::sleep(secs(1)).await;
                source.rotate();
            }
        });
    });
}

/// A key that calls the source when it is cloned, dropped and formatted.
struct Meddler(u32);

static MEDDLED: OnceLock<TokenSource<OfMeddlers>> = OnceLock::new();
/// How often keys may still call the source. Without a limit they would do so for ever, because each call makes new keys.
static MEDDLED_LEFT: AtomicUsize = AtomicUsize::new(0);
static MEDDLED_CALLS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];

struct OfMeddlers;

impl TokenProvider for OfMeddlers {
    type Key = ExtensionKey<Meddler>;

    async fn fetch(&self, key: &Self::Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        Ok(IssuedToken::bearer(format!("of.{}", key.0.0))?.expires_in(secs(1_800)))
    }
}

impl Meddler {
    fn calls(&self, by: usize) {
        MEDDLED_CALLS[by].fetch_add(1, Ordering::Relaxed);
        let allowed = |left: usize| left.checked_sub(1);
        if let (Some(source), Ok(_)) =
            (MEDDLED.get(), MEDDLED_LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, allowed))
        {
            // Its own key, and one that needs a new entry.
            once_at_a_time(|| {
                call_everything(source, &ExtensionKey(Self(self.0)));
                call_everything(source, &ExtensionKey(Self(self.0 + 1_000)));
            });
        }
    }
}

impl Clone for Meddler {
    fn clone(&self) -> Self {
        self.calls(0);
        Self(self.0)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.calls(1);
    }
}

impl fmt::Debug for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.calls(2);
        write!(f, "{}", self.0)
    }
}

impl PartialEq for Meddler {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Meddler {}

impl Hash for Meddler {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

// R79
#[test]
fn a_key_may_call_the_source_when_it_is_cloned_dropped_or_formatted() {
    ends("a key", || {
        #[cfg(feature = "tracing")]
        let _formats = tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_writer(std::io::sink).with_max_level(tracing::Level::TRACE).finish(),
        );
        paused().block_on(async {
            let source = MEDDLED.get_or_init(|| TokenSource::builder(OfMeddlers).max_keys(4).build());
            for user in 0..100 {
                MEDDLED_LEFT.store(30, Ordering::Relaxed);
                let key = ExtensionKey(Meddler(user));
                let token = source.token_for(&key).await.unwrap();
                source.accept(&token);
                if user % 10 == 0 {
                    assert!(source.reject(&key, &token));
                    source.invalidate_for(&key);
                    source.rotate();
                }
            }
            assert!(source.stats().evicted > 0);
            let [cloned, dropped, formatted] = MEDDLED_CALLS.each_ref().map(|calls| calls.load(Ordering::Relaxed));
            assert!(cloned > 100 && dropped > 100, "{cloned} clones, {dropped} drops");
            assert!(formatted >= 20 || cfg!(not(feature = "tracing")), "{formatted} times formatted");
        });
    });
}

#[cfg(feature = "metrics")]
mod recorders {
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// Calls the source for every metric.
    struct CallsForEveryMetric(Arc<OnceLock<TokenSource<Issuer<User>>>>, AtomicUsize);

    impl CallsForEveryMetric {
        fn calls(&self) {
            if let Some(source) = self.0.get() {
                self.1.fetch_add(1, Ordering::Relaxed);
                once_at_a_time(|| (0..3).for_each(|user| call_everything(source, &ExtensionKey(user))));
            }
        }
    }

    impl Recorder for CallsForEveryMetric {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            self.calls();
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            self.calls();
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            self.calls();
            Histogram::noop()
        }
    }

    // R79
    #[test]
    fn a_recorder_may_call_the_source() {
        ends("the recorder", || {
            let itself = Arc::new(OnceLock::new());
            let recorder = CallsForEveryMetric(Arc::clone(&itself), AtomicUsize::new(0));
            metrics::with_local_recorder(&recorder, || {
                paused().block_on(async {
                    let issuer = Issuer::for_users();
                    let source = TokenSource::builder(issuer.clone()).max_keys(1).build();
                    itself.set(source.clone()).ok().unwrap();
                    for user in 0..5 {
                        let key = ExtensionKey(user);
                        let token = source.token_for(&key).await.unwrap();
                        assert!(source.reject(&key, &token));
                        source.invalidate_for(&key);
                        issuer.script(Outcome::Fail(Error::transient("down")));
                        let _ = source.token_for(&key).await;
                        source.rotate();
                        issuer.clear_script();
                    }
                });
            });
            assert!(recorder.1.load(Ordering::Relaxed) > 20);
        });
    }
}
