//! Spans and log events, for `tracing`.
//!
//! What happens once per token is INFO or WARN. What happens once per request is DEBUG. So the number of INFO and WARN
//! lines does not depend on the number of callers.

use std::fmt::Debug;
use std::time::Duration;

use tracing::field::{self, DebugValue, Empty};
use tracing::{Level, Span, event, info_span};

use super::{Event, KeyField, StoreOutcome};
use crate::error::ErrorKind;

const TARGET: &str = "tower_bearer_auth";

pub(super) fn token_request(provider: &str, key: KeyField<'_>) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "token_request",
        provider,
        key = debug_of(key),
        outcome = Empty,
        generation = Empty,
    )
}

fn debug_of(key: KeyField<'_>) -> Option<DebugValue<&dyn Debug>> {
    key.0.map(field::debug)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

pub(super) fn emit(provider: &str, event: Event<'_>) {
    match event {
        Event::Minted { key, generation, expires_in, usable_for, took, .. } => event!(
            name: "token_minted",
            target: TARGET,
            Level::INFO,
            provider,
            key = debug_of(key),
            generation,
            expires_in_seconds = seconds(expires_in),
            usable_seconds = seconds(usable_for),
            took_seconds = seconds(took),
            "the issuer returned a new token"
        ),
        Event::Kept { key, generation, usable_for, took } => event!(
            name: "token_kept",
            target: TARGET,
            Level::INFO,
            provider,
            key = debug_of(key),
            generation,
            usable_seconds = seconds(usable_for),
            took_seconds = seconds(took),
            "the issuer returned no better token than the cached one"
        ),
        // `Display` alone: the sources of an error may contain a body or a secret. `cause` has those of this crate's HTTP
        // client, which do not.
        Event::Failed { key, error, cached, took } => event!(
            name: "token_request_failed",
            target: TARGET,
            Level::WARN,
            provider,
            key = debug_of(key),
            kind = error.kind().as_str(),
            transient = error.is_transient(),
            status = error.status().map(|status| status.as_u16()),
            code = error.code(),
            generation = cached.map(|token| token.generation),
            age_seconds = cached.map(|token| seconds(token.age)),
            usable_seconds = cached.map_or(0.0, |token| seconds(token.usable_for)),
            retry_seconds = error.retry_after().map(seconds),
            took_seconds = seconds(took),
            error = %error,
            cause = error.cause(),
            "a token request failed"
        ),
        Event::Cancelled { key, reason } => event!(
            name: "token_request_cancelled",
            target: TARGET,
            Level::WARN,
            provider,
            key = debug_of(key),
            reason,
            "a token request was cancelled with its runtime"
        ),
        Event::Discarded { key } => event!(
            name: "token_request_discarded",
            target: TARGET,
            Level::INFO,
            provider,
            key = debug_of(key),
            "a token request that a rotation discarded has ended"
        ),
        Event::TokenRejected { key, generation, age, expires_in, token, first, rejection, refresh } => {
            // A callsite has one fixed level.
            macro_rules! rejected {
                ($level:expr) => {
                    event!(
                        name: "token_rejected",
                        target: TARGET,
                        $level,
                        provider,
                        key = debug_of(key),
                        generation,
                        age_seconds = seconds(age),
                        expires_in_seconds = seconds(expires_in),
                        token,
                        rejection,
                        refresh,
                        "a server rejected the token"
                    )
                };
            }
            if first {
                rejected!(Level::WARN);
            } else {
                rejected!(Level::DEBUG);
            }
        }
        Event::RequestRejected { key, generation, outcome: "replayed", .. } => event!(
            name: "request_replayed",
            target: TARGET,
            Level::DEBUG,
            provider,
            key = debug_of(key),
            generation,
            "a rejected request was replayed, and the replay was not rejected"
        ),
        Event::RequestRejected { key, generation, outcome, error } => event!(
            name: "request_not_replayed",
            target: TARGET,
            Level::DEBUG,
            provider,
            key = debug_of(key),
            generation,
            reason = outcome,
            kind = error.map(ErrorKind::as_str),
            "the caller gets the response that rejected its token"
        ),
        Event::NotStamped { host } => event!(
            name: "request_not_stamped",
            target: TARGET,
            Level::DEBUG,
            provider,
            host,
            reason = "foreign_origin",
            "a request went to a foreign origin, without the token"
        ),
        Event::Evicted { keys } => event!(
            name: "keys_evicted",
            target: TARGET,
            Level::DEBUG,
            provider,
            keys,
            "keys were evicted, to keep the cache within its limit"
        ),
        Event::Rotated { keys } => event!(
            name: "credentials_rotated",
            target: TARGET,
            Level::INFO,
            provider,
            keys,
            "all tokens and failures were removed"
        ),
        Event::Invalidated { key } => event!(
            name: "token_invalidated",
            target: TARGET,
            Level::INFO,
            provider,
            key = debug_of(key),
            "a token was removed"
        ),
        Event::Store(StoreOutcome::Failed(error)) => event!(
            name: "store_failed",
            target: TARGET,
            Level::WARN,
            provider,
            error,
            "a call of the shared store failed"
        ),
        Event::Store(StoreOutcome::Unopened) => event!(
            name: "store_record_unopened",
            target: TARGET,
            Level::WARN,
            provider,
            "a record of the shared store did not open: it was sealed with another key, changed, or cut short"
        ),
        Event::Store(outcome) => event!(
            name: "store_used",
            target: TARGET,
            Level::DEBUG,
            provider,
            outcome = outcome.label(),
            "a token request used the shared store"
        ),
        // These happen once per caller. They are counted, and not logged.
        Event::Replay | Event::FailedFast { .. } | Event::Waited { .. } => {}
    }
}
