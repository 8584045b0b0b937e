//! Counters and histograms, for the `metrics` facade.
//!
//! Labels are the environment and words out of short lists. A key is never one: there may be a million.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, SharedString, Unit, counter, describe_counter, describe_histogram, histogram};

use super::Event;
use crate::error::ErrorKind;

const TOKEN_REQUESTS: &str = "tower_bearer_auth_token_requests_total";
const TOKEN_REQUEST_DURATION: &str = "tower_bearer_auth_token_request_duration_seconds";
const TOKENS_REFUSED: &str = "tower_bearer_auth_tokens_refused_total";
const REFUSALS: &str = "tower_bearer_auth_refusals_total";
const REPLAYS: &str = "tower_bearer_auth_replays_total";
const REFUSED_REQUESTS: &str = "tower_bearer_auth_refused_requests_total";
const NOT_STAMPED: &str = "tower_bearer_auth_not_stamped_total";
const EVICTIONS: &str = "tower_bearer_auth_evictions_total";
const ROTATIONS: &str = "tower_bearer_auth_rotations_total";
const INVALIDATIONS: &str = "tower_bearer_auth_invalidations_total";
const TURNED_AWAY: &str = "tower_bearer_auth_turned_away_total";
const WAITS: &str = "tower_bearer_auth_waits_total";
const WAIT_DURATION: &str = "tower_bearer_auth_wait_duration_seconds";

const COUNTERS: &[(&str, &str)] = &[
    (TOKEN_REQUESTS, "Token requests that ended."),
    (TOKENS_REFUSED, "Tokens that a server refused, each counted at its first refusal."),
    (REFUSALS, "Answers that refused a token."),
    (REPLAYS, "Refused requests that were sent again."),
    (REFUSED_REQUESTS, "What refused requests came to."),
    (NOT_STAMPED, "Requests that went to a foreign origin, without the token."),
    (EVICTIONS, "Keys thrown out to keep the cache within its bound."),
    (ROTATIONS, "Calls of rotate."),
    (INVALIDATIONS, "Calls of invalidate that met a key."),
    (TURNED_AWAY, "Requests that failed at once, because the issuer is left alone after a failure."),
    (WAITS, "Waits for a token request that ended."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (TOKEN_REQUEST_DURATION, "How long token requests took that came to a token or to an error."),
    (WAIT_DURATION, "How long requests waited for a token request."),
];

/// Goes to the recorder that is installed when a source is built.
///
/// What is rare begins at 0: a counter whose first value is 1 has no increase that an alert could see.
pub(super) fn begin(environment: &Arc<str>) {
    for (name, text) in COUNTERS {
        describe_counter!(*name, Unit::Count, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *text);
    }
    let environment = SharedString::from_shared(Arc::clone(environment));
    for outcome in ["minted", "kept", "lost", "stale"] {
        token_requests(&environment, outcome, "none").increment(0);
    }
    for kind in ErrorKind::ALL {
        token_requests(&environment, "failed", kind.as_str()).increment(0);
    }
    for token in ["unaccepted", "accepted", "expired"] {
        counter!(TOKENS_REFUSED, "environment" => environment.clone(), "token" => token).increment(0);
    }
    for name in [ROTATIONS, INVALIDATIONS] {
        counter!(name, "environment" => environment.clone()).increment(0);
    }
}

pub(super) fn count(environment: &Arc<str>, event: Event<'_>) {
    let environment = SharedString::from_shared(Arc::clone(environment));
    match event {
        Event::Minted { took, .. } => flight(environment, "minted", "none", Some(took)),
        Event::Kept { took, .. } => flight(environment, "kept", "none", Some(took)),
        Event::Failed { error, took, .. } => flight(environment, "failed", error.kind().as_str(), Some(took)),
        Event::Lost { .. } => flight(environment, "lost", "none", None),
        Event::Stale { .. } => flight(environment, "stale", "none", None),
        Event::Refused { token, first, renewal, .. } => {
            if first {
                counter!(TOKENS_REFUSED, "environment" => environment.clone(), "token" => token).increment(1);
            }
            counter!(REFUSALS, "environment" => environment, "token" => token, "renewal" => renewal).increment(1);
        }
        Event::Resent => counter!(REPLAYS, "environment" => environment).increment(1),
        Event::Settled { outcome, error, .. } => {
            let error = error.map_or("none", ErrorKind::as_str);
            counter!(REFUSED_REQUESTS, "environment" => environment, "outcome" => outcome, "error" => error)
                .increment(1);
        }
        Event::NotStamped { .. } => counter!(NOT_STAMPED, "environment" => environment).increment(1),
        Event::Evicted { keys } => counter!(EVICTIONS, "environment" => environment).increment(keys as u64),
        Event::Rotated { .. } => counter!(ROTATIONS, "environment" => environment).increment(1),
        Event::Invalidated { .. } => counter!(INVALIDATIONS, "environment" => environment).increment(1),
        Event::FailedFast { error } => {
            counter!(TURNED_AWAY, "environment" => environment, "error" => error.as_str()).increment(1);
        }
        Event::Waited { outcome, took } => {
            counter!(WAITS, "environment" => environment.clone(), "outcome" => outcome).increment(1);
            histogram!(WAIT_DURATION, "environment" => environment, "outcome" => outcome).record(took.as_secs_f64());
        }
    }
}

fn flight(environment: SharedString, outcome: &'static str, error: &'static str, took: Option<Duration>) {
    token_requests(&environment, outcome, error).increment(1);
    if let Some(took) = took {
        histogram!(TOKEN_REQUEST_DURATION, "environment" => environment, "outcome" => outcome)
            .record(took.as_secs_f64());
    }
}

fn token_requests(environment: &SharedString, outcome: &'static str, error: &'static str) -> Counter {
    counter!(TOKEN_REQUESTS, "environment" => environment.clone(), "outcome" => outcome, "error" => error)
}
