//! Statistics and telemetry of a source.

use std::time::Duration;

use super::cache::Cache;
use super::grant::{Awaited, Lookup};
use crate::clock::Now;
use crate::error::Error;
use crate::message::Rejection;
use crate::provider::{FetchObserver, StoreEvent, TokenProvider};
use crate::telemetry::{CachedToken, Event, KeyField, Span, Stopwatch, StoreOutcome};
use crate::token::Token;

impl<P: TokenProvider> Cache<P> {
    /// Reports the result of a fetch. `generation` is the number of the token if it is a new one; `cached` is the
    /// usable token in the cache now.
    #[expect(clippy::too_many_arguments, reason = "one event has as many fields, and there is one caller")]
    pub(super) fn report_fetch(
        &self,
        key: &P::Key,
        result: &Result<Token, Error>,
        generation: u64,
        cached: Option<&Token>,
        took: Duration,
        now: Now,
        span: &Span,
    ) {
        let key = KeyField::new(key);
        let usable_for = |token: &Token| now.until(&token.deadlines().usable_until);
        let (outcome, returned, event) = match result {
            Ok(token) if token.generation() == generation => {
                let (expires_in, expires_at) = (expires_in(token, now), token.expires_at());
                let usable_for = usable_for(token);
                (
                    "minted",
                    Some(generation),
                    Event::Minted { key, generation, expires_in, expires_at, usable_for, took },
                )
            }
            Ok(token) => {
                let (generation, usable_for) = (token.generation(), usable_for(token));
                ("kept", Some(generation), Event::Kept { key, generation, usable_for, took })
            }
            Err(error) => {
                let cached = cached.map(|token| CachedToken {
                    generation: token.generation(),
                    age: age(token, now),
                    usable_for: usable_for(token),
                });
                ("failed", None, Event::Failed { key, error, cached, took })
            }
        };
        span.record(outcome, returned);
        self.telemetry.emit(event);
    }

    pub(super) fn report_wait(&self, outcome: &'static str, since: &Stopwatch) {
        self.telemetry.emit(Event::Waited { outcome, took: since.read(|| self.clock.now().mono) });
    }

    /// Counts and reports a rejection. `accepted` is whether a server had accepted the token before.
    pub(super) fn report_rejection(
        &self,
        key: &P::Key,
        token: &Token,
        rejection: Rejection,
        accepted: bool,
        refresh: Refresh,
        now: Now,
    ) {
        let word = match accepted {
            false => "unaccepted",
            true if now.reached(&token.deadlines().expires_at) => "expired",
            true => "accepted",
        };
        let first = token.mark_rejection_reported();
        self.stats.record(|stats| {
            stats.rejections += 1;
            stats.tokens_rejected_early += u64::from(first && word == "accepted");
            stats.rejections_of_unaccepted += u64::from(!accepted);
            stats.budget_exhausted += u64::from(refresh == Refresh::BudgetExhausted);
        });
        self.telemetry.emit(Event::TokenRejected {
            key: KeyField::new(key),
            generation: token.generation(),
            age: age(token, now),
            expires_in: expires_in(token, now),
            token: word,
            first,
            rejection: if rejection == Rejection::InvalidToken { "invalid_token" } else { "unspecified" },
            refresh: refresh.label(),
        });
    }
}

impl<P: TokenProvider> FetchObserver for Cache<P> {
    fn store(&self, event: StoreEvent<'_>) {
        self.stats.record(|stats| {
            *(match event {
                StoreEvent::Hit => &mut stats.store_hits,
                StoreEvent::Miss => &mut stats.store_misses,
                StoreEvent::Leased => &mut stats.store_leases,
                StoreEvent::Waited => &mut stats.store_waits,
                StoreEvent::Noted => &mut stats.store_notes,
                StoreEvent::Failed(_) => &mut stats.store_failures,
                StoreEvent::Unopened => &mut stats.store_unopened,
            }) += 1;
        });
        self.telemetry.emit(Event::Store(match event {
            StoreEvent::Hit => StoreOutcome::Hit,
            StoreEvent::Miss => StoreOutcome::Miss,
            StoreEvent::Leased => StoreOutcome::Leased,
            StoreEvent::Waited => StoreOutcome::Waited,
            StoreEvent::Noted => StoreOutcome::Noted,
            StoreEvent::Failed(error) => StoreOutcome::Failed(error),
            StoreEvent::Unopened => StoreOutcome::Unopened,
        }));
    }
}

/// What a rejection causes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// There is another token already.
    Ready,
    /// A fetch is running, or may start soon.
    InFlight,
    /// The budget for refreshes is empty, or a refresh after a rejection is not due yet.
    BudgetExhausted,
    /// No fetch may start during a backoff, or none can start here.
    Failed,
    /// Nothing: the rejected request was a replay, or the token is not current.
    None,
}

impl Refresh {
    pub(super) fn of<K>(lookup: &Lookup<K, Awaited<K>>) -> Self {
        match lookup {
            Lookup::Granted(_) => Self::Ready,
            Lookup::Wait(_) => Self::InFlight,
            Lookup::Failed(_) => Self::Failed,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InFlight => "in_flight",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }
}

fn expires_in(token: &Token, now: Now) -> Duration {
    now.until(&token.deadlines().expires_at)
}

fn age(token: &Token, now: Now) -> Duration {
    now.mono.saturating_duration_since(token.deadlines().fetched_at.mono)
}
