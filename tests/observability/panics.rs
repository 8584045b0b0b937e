//! Subscribers that panic.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::runtime::Builder;
use tower_bearer_auth::{IssuedToken, TokenSource, from_fn};
use tracing::span;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Panics once it is armed, when a span is entered.
struct PanicsOnEnter {
    armed: Arc<AtomicBool>,
}

impl Layer<Registry> for PanicsOnEnter {
    fn on_enter(&self, _: &span::Id, _: Context<'_, Registry>) {
        if self.armed.swap(false, Ordering::SeqCst) {
            resume_unwind(Box::new("the subscriber's bug"));
        }
    }
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// R9: a fetch whose task is freed without a drop stays in flight, and its timers are used after they were freed.
#[test]
fn a_subscriber_that_panics_while_a_fetch_is_dropped_does_not_keep_its_future() {
    let (armed, dropped, called) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let provider = {
        let (dropped, called) = (Arc::clone(&dropped), Arc::clone(&called));
        from_fn(move || {
            let (future, number) = (Dropped(Arc::clone(&dropped)), called.fetch_add(1, Ordering::SeqCst));
            async move {
                let _future = future;
                if number == 0 {
                    pending::<()>().await;
                }
                IssuedToken::bearer("token")
            }
        })
    };
    let source = TokenSource::new(provider);
    let subscriber = Registry::default().with(PanicsOnEnter { armed: Arc::clone(&armed) });
    tracing::subscriber::with_default(subscriber, || {
        let first = Builder::new_current_thread().enable_time().build().unwrap();
        first.block_on(async {
            let caller = tokio::spawn(source.token());
            while called.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            caller.abort();
        });
        armed.store(true, Ordering::SeqCst);
        drop(first);
        assert!(!armed.load(Ordering::SeqCst), "the subscriber did not panic");
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "the provider's future was not dropped");
        let stats = source.stats();
        assert_eq!((stats.fetches_in_flight, stats.fetches_cancelled), (0, 1));
        // The next caller starts a fetch at once.
        let second = Builder::new_current_thread().enable_time().build().unwrap();
        assert_eq!(second.block_on(source.token()).unwrap().expose_secret(), "token");
        assert_eq!(called.load(Ordering::SeqCst), 2);
    });
}
