//! An in-process issuer of tokens for users, with a label.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use tower_bearer_auth::{
    Error, FetchContext, FromExtension, IssuedToken, TokenProvider, TokenSource, TokenSourceBuilder,
};

use crate::support::virtual_time::Paused;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User(pub(crate) &'static str);

pub(crate) type Key = FromExtension<User>;

pub(crate) const ANN: Key = FromExtension(User("ann"));
pub(crate) const BOB: Key = FromExtension(User("bob"));

pub(crate) const PROVIDER: &str = "staging";

/// How long a token request takes.
pub(crate) const LATENCY: Duration = Duration::from_secs(2);

type Outcome = Box<dyn FnOnce() -> Result<IssuedToken, Error> + Send>;

/// Returns tokens for half an hour, or the results in its queue. It counts the token requests it gets.
#[derive(Clone, Default)]
pub(crate) struct Issuer {
    requests: Arc<AtomicUsize>,
    queue: Arc<Mutex<VecDeque<Outcome>>>,
}

impl Issuer {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn next(&self, outcome: impl FnOnce() -> Result<IssuedToken, Error> + Send + 'static) {
        self.queue.lock().push_back(Box::new(outcome));
    }

    pub(crate) fn recover(&self) {
        self.queue.lock().clear();
    }

    pub(crate) fn builder(&self) -> TokenSourceBuilder<Self> {
        TokenSource::builder(self.clone()).clock(Paused::start())
    }
}

impl TokenProvider for Issuer {
    type Key = Key;

    async fn fetch(&self, _: &Key, _: &FetchContext) -> Result<IssuedToken, Error> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        tracing::debug!(target: "provider", number, "token request");
        let outcome = self.queue.lock().pop_front();
        sleep(LATENCY).await;
        outcome.map_or_else(|| crate::support::issuer::token(number), |outcome| outcome())
    }

    fn label(&self) -> &str {
        PROVIDER
    }
}
