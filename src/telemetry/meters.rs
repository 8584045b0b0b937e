//! Counters, histograms and a gauge, for the `metrics` facade.
//!
//! A label is the provider's label or a word from a short list. A key is never a label, because there may be a million
//! keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::{
    Counter, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::Event;
use crate::error::ErrorKind;

const TOKEN_REQUESTS: &str = "tower_bearer_auth_token_requests_total";
const TOKEN_REQUEST_DURATION: &str = "tower_bearer_auth_token_request_duration_seconds";
const TOKEN_EXPIRES: &str = "tower_bearer_auth_token_expires_timestamp_seconds";
const TOKENS_REJECTED: &str = "tower_bearer_auth_tokens_rejected_total";
const REJECTIONS: &str = "tower_bearer_auth_rejections_total";
const REPLAYS: &str = "tower_bearer_auth_replays_total";
const REJECTED_REQUESTS: &str = "tower_bearer_auth_rejected_requests_total";
const NOT_STAMPED: &str = "tower_bearer_auth_not_stamped_total";
const EVICTIONS: &str = "tower_bearer_auth_evictions_total";
const ROTATIONS: &str = "tower_bearer_auth_rotations_total";
const INVALIDATIONS: &str = "tower_bearer_auth_invalidations_total";
const FAILED_FAST: &str = "tower_bearer_auth_failed_fast_total";
const STORE: &str = "tower_bearer_auth_store_total";
const WAITS: &str = "tower_bearer_auth_waits_total";
const WAIT_DURATION: &str = "tower_bearer_auth_wait_duration_seconds";

const COUNTERS: &[(&str, &str)] = &[
    (TOKEN_REQUESTS, "Token requests that ended."),
    (TOKENS_REJECTED, "Tokens that a server rejected, each counted at its first rejection."),
    (REJECTIONS, "Responses that rejected a token."),
    (REPLAYS, "Rejected requests that were replayed."),
    (REJECTED_REQUESTS, "Rejected requests, by outcome."),
    (NOT_STAMPED, "Requests to a foreign origin, sent without the token."),
    (EVICTIONS, "Keys evicted to keep the cache within its limit."),
    (ROTATIONS, "Calls of rotate."),
    (INVALIDATIONS, "Calls of invalidate for a key in the cache."),
    (FAILED_FAST, "Requests that failed at once, during a backoff."),
    (STORE, "Uses of the shared store, by outcome."),
    (WAITS, "Waits for a token request that ended."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (TOKEN_REQUEST_DURATION, "Duration of token requests that returned a token or an error."),
    (WAIT_DURATION, "How long requests waited for a token request."),
];

const GAUGES: &[(&str, &str)] = &[(TOKEN_EXPIRES, "Unix time at which the newest token expires.")];

/// Describes the metrics to the recorder that is installed when a source is built.
///
/// Rare counters start at 0. If the first value of a counter is 1, an alert on its increase misses that step. The gauge has
/// no value before the first token: 0 would be a token that expired long ago.
pub(super) fn register(provider: &Arc<str>) {
    for (name, text) in COUNTERS {
        describe_counter!(*name, Unit::Count, *text);
    }
    for (name, text) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *text);
    }
    for (name, text) in GAUGES {
        describe_gauge!(*name, Unit::Seconds, *text);
    }
    let provider = SharedString::from_shared(Arc::clone(provider));
    for outcome in ["minted", "kept", "cancelled", "discarded"] {
        token_requests(&provider, outcome, "none").increment(0);
    }
    for kind in ErrorKind::ALL {
        token_requests(&provider, "failed", kind.as_str()).increment(0);
    }
    for token in ["unaccepted", "accepted", "expired"] {
        counter!(TOKENS_REJECTED, "provider" => provider.clone(), "token" => token).increment(0);
    }
    for name in [ROTATIONS, INVALIDATIONS] {
        counter!(name, "provider" => provider.clone()).increment(0);
    }
}

pub(super) fn count(provider: &Arc<str>, event: Event<'_>) {
    let provider = SharedString::from_shared(Arc::clone(provider));
    match event {
        Event::Minted { expires_at, took, .. } => {
            gauge!(TOKEN_EXPIRES, "provider" => provider.clone()).set(unix_time(expires_at));
            token_request(provider, "minted", "none", Some(took));
        }
        Event::Kept { took, .. } => token_request(provider, "kept", "none", Some(took)),
        Event::Failed { error, took, .. } => token_request(provider, "failed", error.kind().as_str(), Some(took)),
        Event::Cancelled { .. } => token_request(provider, "cancelled", "none", None),
        Event::Discarded { .. } => token_request(provider, "discarded", "none", None),
        Event::TokenRejected { token, first, refresh, .. } => {
            if first {
                counter!(TOKENS_REJECTED, "provider" => provider.clone(), "token" => token).increment(1);
            }
            counter!(REJECTIONS, "provider" => provider, "token" => token, "refresh" => refresh).increment(1);
        }
        Event::Replay => counter!(REPLAYS, "provider" => provider).increment(1),
        Event::RequestRejected { outcome, error, .. } => {
            let error = error.map_or("none", ErrorKind::as_str);
            counter!(REJECTED_REQUESTS, "provider" => provider, "outcome" => outcome, "error" => error).increment(1);
        }
        Event::NotStamped { .. } => counter!(NOT_STAMPED, "provider" => provider).increment(1),
        Event::Evicted { keys } => counter!(EVICTIONS, "provider" => provider).increment(keys as u64),
        Event::Rotated { .. } => counter!(ROTATIONS, "provider" => provider).increment(1),
        Event::Invalidated { .. } => counter!(INVALIDATIONS, "provider" => provider).increment(1),
        Event::FailedFast { error } => {
            counter!(FAILED_FAST, "provider" => provider, "error" => error.as_str()).increment(1);
        }
        Event::Store(outcome) => {
            counter!(STORE, "provider" => provider, "outcome" => outcome.label()).increment(1);
        }
        Event::Waited { outcome, took } => {
            counter!(WAITS, "provider" => provider.clone(), "outcome" => outcome).increment(1);
            histogram!(WAIT_DURATION, "provider" => provider, "outcome" => outcome).record(took.as_secs_f64());
        }
    }
}

fn token_request(provider: SharedString, outcome: &'static str, error: &'static str, took: Option<Duration>) {
    token_requests(&provider, outcome, error).increment(1);
    if let Some(took) = took {
        histogram!(TOKEN_REQUEST_DURATION, "provider" => provider, "outcome" => outcome).record(took.as_secs_f64());
    }
}

fn token_requests(provider: &SharedString, outcome: &'static str, error: &'static str) -> Counter {
    counter!(TOKEN_REQUESTS, "provider" => provider.clone(), "outcome" => outcome, "error" => error)
}

/// In seconds. 0 for a time before 1970.
fn unix_time(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
