//! Log lines, for `tracing`.
//!
//! What happens once per token is INFO or WARN, what happens once per request is DEBUG: however many callers there are, a
//! storm writes a line per token.

use std::time::Duration;

use tracing::field::{self, DebugValue, Empty};
use tracing::{Level, Span, event, info_span};

use super::{Event, Whose};
use crate::error::ErrorKind;

const TARGET: &str = "tower_bearer_auth";

pub(super) fn token_request(environment: &str, whose: Whose<'_>) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "token_request",
        environment,
        key = shown(whose),
        outcome = Empty,
        generation = Empty,
    )
}

fn shown(whose: Whose<'_>) -> Option<DebugValue<&dyn std::fmt::Debug>> {
    whose.0.map(field::debug)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

pub(super) fn emit(environment: &str, event: Event<'_>) {
    match event {
        Event::Minted { whose, generation, expires_in, usable_for, took } => event!(
            name: "token_minted",
            target: TARGET,
            Level::INFO,
            environment,
            key = shown(whose),
            generation,
            expires_in_seconds = seconds(expires_in),
            usable_seconds = seconds(usable_for),
            took_seconds = seconds(took),
            "the issuer handed out a token"
        ),
        Event::Kept { whose, generation, usable_for, took } => event!(
            name: "token_kept",
            target: TARGET,
            Level::INFO,
            environment,
            key = shown(whose),
            generation,
            usable_seconds = seconds(usable_for),
            took_seconds = seconds(took),
            "the issuer had nothing better than the token that is there"
        ),
        // `Display`, and not the error's sources: a body or a secret may be in those.
        Event::Failed { whose, error, in_hand, took } => event!(
            name: "token_request_failed",
            target: TARGET,
            Level::WARN,
            environment,
            key = shown(whose),
            kind = error.kind().as_str(),
            transient = error.is_transient(),
            status = error.status().map(|status| status.as_u16()),
            code = error.code(),
            generation = in_hand.map(|token| token.generation),
            age_seconds = in_hand.map(|token| seconds(token.age)),
            usable_seconds = in_hand.map_or(0.0, |token| seconds(token.usable_for)),
            retry_seconds = error.retry_after().map(seconds),
            took_seconds = seconds(took),
            error = %error,
            "a token request failed"
        ),
        Event::Lost { whose, reason } => event!(
            name: "token_request_lost",
            target: TARGET,
            Level::WARN,
            environment,
            key = shown(whose),
            reason,
            "a token request ended with its runtime"
        ),
        Event::Stale { whose } => event!(
            name: "token_request_stale",
            target: TARGET,
            Level::INFO,
            environment,
            key = shown(whose),
            "a token request in the air became stale"
        ),
        Event::Refused { whose, generation, age, token, first, explicit, renewal } => {
            // One callsite has one level.
            macro_rules! refused {
                ($level:expr) => {
                    event!(
                        name: "token_refused",
                        target: TARGET,
                        $level,
                        environment,
                        key = shown(whose),
                        generation,
                        age_seconds = seconds(age),
                        token,
                        refusal = if explicit { "explicit" } else { "bare" },
                        renewal,
                        "a server refused the token"
                    )
                };
            }
            if first {
                refused!(Level::WARN);
            } else {
                refused!(Level::DEBUG);
            }
        }
        Event::Settled { whose, generation, outcome: "healed", .. } => event!(
            name: "request_healed",
            target: TARGET,
            Level::DEBUG,
            environment,
            key = shown(whose),
            generation,
            "a refused request was sent again, and its new token was taken"
        ),
        Event::Settled { whose, generation, outcome, error } => event!(
            name: "request_not_healed",
            target: TARGET,
            Level::DEBUG,
            environment,
            key = shown(whose),
            generation,
            reason = outcome,
            kind = error.map(ErrorKind::as_str),
            "the caller gets the refused answer"
        ),
        Event::NotStamped { host } => event!(
            name: "request_not_stamped",
            target: TARGET,
            Level::DEBUG,
            environment,
            host,
            reason = "foreign_origin",
            "a request went to a foreign origin, without the token"
        ),
        Event::Evicted { keys } => event!(
            name: "keys_evicted",
            target: TARGET,
            Level::DEBUG,
            environment,
            keys,
            "keys were thrown out, to keep the cache within its bound"
        ),
        Event::Rotated { keys } => event!(
            name: "credentials_rotated",
            target: TARGET,
            Level::INFO,
            environment,
            keys,
            "all tokens and failures were forgotten"
        ),
        Event::Invalidated { whose } => event!(
            name: "token_invalidated",
            target: TARGET,
            Level::INFO,
            environment,
            key = shown(whose),
            "a token was forgotten"
        ),
        // One per caller: they are counted, not told.
        Event::Resent | Event::FailedFast { .. } | Event::Waited { .. } => {}
    }
}
