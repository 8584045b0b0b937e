//! The results of a lookup.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Entry;
use super::fetch_handle::OutcomeReceiver;
use crate::error::Error;
use crate::token::Token;

/// A token that may be stamped, and the entry of its key.
pub(crate) struct Grant<K> {
    pub(super) entry: Arc<Entry<K>>,
    pub(super) token: Token,
}

/// The result of a lookup. `W` is what a caller without a token waits with.
pub(crate) enum Lookup<K, W> {
    /// There is a token.
    Granted(Grant<K>),
    /// A fetch is running, or may start soon.
    Wait(W),
    /// No fetch may start during a backoff, or none can start here.
    Failed(Error),
}

/// The budget for refreshes after rejections is empty, or a refresh is not due yet. The token stays.
pub(crate) struct BudgetExhausted;

/// What a caller waits for.
pub(super) struct Awaited<K> {
    pub(super) entry: Arc<Entry<K>>,
    pub(super) outcome: OutcomeReceiver,
    /// Look the token up again after this time, even without an outcome.
    pub(super) look_again: Option<Duration>,
    /// Whether the caller started the fetch, in its own runtime.
    pub(super) started_here: bool,
    /// Whether the caller cannot use the current token, so that only the outcome of the fetch helps.
    pub(super) needs_new: bool,
}

impl<K> Awaited<K> {
    pub(super) fn new(entry: &Arc<Entry<K>>, outcome: OutcomeReceiver) -> Self {
        Self { entry: Arc::clone(entry), outcome, look_again: None, started_here: false, needs_new: false }
    }
}

impl<K> Grant<K> {
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn key(&self) -> &K {
        &self.entry.key
    }

    pub(crate) fn shared_key(&self) -> Arc<K> {
        Arc::clone(&self.entry.key)
    }
}

impl<K> Clone for Grant<K> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), token: self.token.clone() }
    }
}

impl<K, W> Lookup<K, W> {
    /// Converts what a caller waits with.
    pub(super) fn map_wait<V>(self, convert: impl FnOnce(W) -> V) -> Lookup<K, V> {
        match self {
            Self::Granted(grant) => Lookup::Granted(grant),
            Self::Wait(wait) => Lookup::Wait(convert(wait)),
            Self::Failed(error) => Lookup::Failed(error),
        }
    }
}
