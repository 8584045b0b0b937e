//! An issuer of users' tokens, in this process, with an environment's name.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use tower_bearer_auth::{
    Error, FetchContext, FromExtension, IssuedToken, TokenProvider, TokenSource, TokenSourceBuilder,
};

use crate::virtual_time::Paused;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct User(pub(crate) &'static str);

pub(crate) type Key = FromExtension<User>;

pub(crate) const ANN: Key = FromExtension(User("ann"));
pub(crate) const BOB: Key = FromExtension(User("bob"));

pub(crate) const ENVIRONMENT: &str = "staging";

/// How long a token request takes.
pub(crate) const LATENCY: Duration = Duration::from_secs(2);

type Answer = Box<dyn FnOnce() -> Result<IssuedToken, Error> + Send>;

/// Answers with tokens for half an hour, or with what stands in its queue. It counts at its own end.
#[derive(Clone, Default)]
pub(crate) struct Issuer {
    asked: Arc<AtomicUsize>,
    queue: Arc<Mutex<VecDeque<Answer>>>,
}

impl Issuer {
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn next(&self, answer: impl FnOnce() -> Result<IssuedToken, Error> + Send + 'static) {
        self.queue.lock().push_back(Box::new(answer));
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
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        tracing::debug!(target: "provider", number, "asks");
        let answer = self.queue.lock().pop_front();
        sleep(LATENCY).await;
        answer.map_or_else(|| crate::issuer::token(number), |answer| answer())
    }

    fn label(&self) -> &str {
        ENVIRONMENT
    }
}
