//! When a token is refreshed, and how long the backoff after a failure is. All functions are pure.
//!
//! `draw` is a random number in `[0, 1]`. All arithmetic is checked or saturating, because lifetimes come from outside.

use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::token::Deadlines;

const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_LIFETIME: Duration = Duration::from_secs(1);
/// A token with a shorter lifetime has neither a window nor a margin.
const MIN_LIFETIME_WITH_WINDOW: Duration = Duration::from_secs(2);
const MAX_WINDOW: Duration = Duration::from_secs(20 * 60);
const MAX_MARGIN: Duration = Duration::from_secs(30);
/// The share of the window from which its start is drawn.
const WINDOW_JITTER: f64 = 0.1;
/// How much the durations of one fetch by the two clocks may differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);
const MIN_BACKOFF_WITH_TOKEN: Duration = Duration::from_secs(1);
const MIN_BACKOFF_WITHOUT_TOKEN: Duration = Duration::from_millis(100);
/// The shortest backoff after the first permanent failure. The longest one is twice as long.
const PERMANENT_BACKOFF: Duration = Duration::from_millis(2500);
/// The shortest backoff after many permanent failures.
const MAX_PERMANENT_BACKOFF: Duration = Duration::from_secs(30);
const MAX_RETRY_AFTER_WITH_TOKEN: Duration = Duration::from_secs(300);
const MAX_RETRY_AFTER_WITHOUT_TOKEN: Duration = Duration::from_secs(60);
const RETRY_AFTER_JITTER: f64 = 0.1;
const SHARED_JITTER: f64 = 0.1;

const MIN_EARLY_BACKOFF: Duration = Duration::from_secs(10);

/// A rejected token is set aside for this many times as long as the last successful fetch took, within the limits below.
const SET_ASIDE_FACTOR: u32 = 3;
const MIN_SET_ASIDE: Duration = Duration::from_secs(1);
const MAX_SET_ASIDE: Duration = Duration::from_secs(5);

const FIRST_THROTTLE_INTERVAL: Duration = Duration::from_secs(10);
const MAX_THROTTLE_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// At most one fetch in this time starts before the interval of a throttle is over.
pub(crate) const THROTTLE_EARLY_INTERVAL: Duration = Duration::from_secs(80);
/// A throttle ends after this time without a rejection.
pub(crate) const THROTTLE_END: Duration = Duration::from_secs(10 * 60);
/// A row of rejections this long, and three times as long as any earlier one, shows that the token was revoked.
const REVOKED_ROW: u32 = 10;
const REVOKED_FACTOR: u32 = 3;
/// So does a token that has been confirmed dead for this long.
const REVOKED_AFTER: Duration = Duration::from_secs(5);

/// The token that an early refresh replaced is kept for at least this long.
pub(crate) const KEEP_REPLACED: Duration = Duration::from_secs(60);
const FIRST_REPLACEMENT_DELAY: Duration = Duration::from_secs(1);
const MAX_REPLACEMENT_DELAY: Duration = Duration::from_secs(30);

/// At most one fetch on demand starts in this time.
pub(crate) const ON_DEMAND_INTERVAL: Duration = Duration::from_secs(10);
/// `invalidate` starts at most one fetch, and ends at most one backoff, in this time. `rotate` discards at most one fetch.
pub(crate) const INVALIDATION_INTERVAL: Duration = Duration::from_secs(1);
/// If a fetch begins later than this after the end of the last backoff, its failure begins a new run of failures.
pub(crate) const RUN_OF_FAILURES_GAP: Duration = Duration::from_secs(2);
/// How long callers wait for a transient failure to pass, by default.
pub(crate) const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

const BUDGET: u32 = 6;
const BUDGET_REFILL: Duration = Duration::from_secs(10);

/// A monotonic clock that reads earlier by more than this was set back. A smaller difference occurs between threads.
const SET_BACK: Duration = Duration::from_secs(60);

/// When a token is refreshed before it expires.
///
/// A token with lifetime L is usable until L - margin, where margin = min(30 s, L/4). The refresh window is the last
/// min(L/2, 20 min) of L. In the window, a request is stamped with the cached token and also starts a refresh. The
/// start of the window is drawn once per token from the first tenth of the window, so that the refreshes of services
/// that started together spread out.
///
/// | lifetime | window | margin | issuer outage without a failed request |
/// |---|---|---|---|
/// | 10 s | 5 s | 2.5 s | about 1 s |
/// | 30 min | 15 min | 30 s | 13 min |
/// | 40 min and more | 20 min | 30 s | 17.5 min |
///
/// The last column is 0.9 of the window, less the margin, less one backoff. [How long an issuer may be
/// down](crate::guide::outage) has the measured values. See also [Choosing a refresh policy](crate::guide::refresh).
#[derive(Clone, Debug, Default)]
#[doc(alias = "refresh")]
pub struct RefreshPolicy {
    window: Window,
    margin: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Window {
    #[default]
    Default,
    Configured(Duration),
    AtExpiry,
}

impl RefreshPolicy {
    /// The default policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the refresh window `window` long, but at most L/2. It may be longer than the 20 minutes of the default policy:
    /// with 12 hours, a token of 24 hours is refreshed after the first half of its lifetime.
    ///
    /// A window below 35 seconds is useless for a long-lived token: the margin and one backoff take all of it.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = Window::Configured(window);
        self
    }

    /// Makes the margin `margin` long, but at most L/2. A token is used until `margin` before its expiry.
    ///
    /// The default is min(30 s, L/4). Set a longer one if clocks differ by more, or if requests take longer to arrive.
    /// A token with a lifetime below 2 s has no margin.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Refreshes a token only when it is no longer usable. For issuers that bill each token.
    ///
    /// Once per lifetime, requests then wait for the issuer. If the issuer is down at that time, they fail.
    #[must_use]
    pub fn at_expiry(mut self) -> Self {
        self.window = Window::AtExpiry;
        self
    }

    /// The deadlines of a token that was requested at `started` and arrived at `arrived`.
    pub(crate) fn deadlines(&self, issued: Option<Duration>, started: Now, arrived: Now, draw: f64) -> Deadlines {
        let lifetime = lifetime(issued);
        let fetched_at = corrected(started, arrived);
        let has_window = lifetime >= MIN_LIFETIME_WITH_WINDOW;
        let margin = self.margin_of(lifetime);
        let window = match self.window {
            Window::Default => Some(MAX_WINDOW),
            Window::Configured(window) => Some(window),
            Window::AtExpiry => None,
        };
        let usable_until = fetched_at.after(lifetime - margin);
        let refresh_at = window.filter(|_| has_window).map_or(usable_until, |window| {
            let window = window.min(lifetime / 2);
            let start =
                fetched_at.after((lifetime - window).saturating_add(window.mul_f64(WINDOW_JITTER * unit(draw))));
            start.earlier(usable_until)
        });
        Deadlines { fetched_at, refresh_at, usable_until, expires_at: fetched_at.after(lifetime) }
    }

    /// How long before its expiry a token with this lifetime stops being used.
    pub(crate) fn margin_of(&self, lifetime: Duration) -> Duration {
        if lifetime < MIN_LIFETIME_WITH_WINDOW {
            return Duration::ZERO;
        }
        self.margin.map_or_else(|| MAX_MARGIN.min(lifetime / 4), |margin| margin.min(lifetime / 2))
    }
}

/// The lifetime of a token whose issuer states `issued`.
pub(crate) fn lifetime(issued: Option<Duration>) -> Duration {
    // Some issuers return 0 for a token without an expiry time.
    issued.filter(|lifetime| !lifetime.is_zero()).unwrap_or(DEFAULT_LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME)
}

/// `started`, with a correction if a clock was set during the fetch. Without it, a new token could have expired
/// already.
///
/// If the wall clock jumped, its reading is computed from the arrival. If the monotonic clock went back, the arrival
/// counts.
fn corrected(started: Now, arrived: Now) -> Now {
    let started = Now { mono: started.mono.min(arrived.mono), ..started };
    let mono = arrived.mono.saturating_duration_since(started.mono);
    let difference = match arrived.wall.duration_since(started.wall) {
        Ok(wall) => wall.abs_diff(mono),
        Err(back) => back.duration().saturating_add(mono),
    };
    if difference <= CLOCK_TOLERANCE {
        return started;
    }
    Now { mono: started.mono, wall: arrived.wall.checked_sub(mono).unwrap_or(arrived.wall) }
}

/// What a key has while no fetch may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// No usable token.
    Nothing,
    /// A usable token.
    Usable,
    /// A usable token that is confirmed dead.
    Dead,
}

/// How long no fetch starts after a failure, by what the key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) with_token: Duration,
    pub(crate) with_dead_token: Duration,
    pub(crate) without_token: Duration,
}

impl Backoff {
    /// The backoff after a transient failure. `failures` is the number of transient failures in a row before it.
    ///
    /// It is at most half of the time that the token is still usable. The minimum keeps that from becoming an endless
    /// series. Beside a usable token the minimum is random too, so that a fleet does not come back in step.
    pub(crate) fn transient(failures: u32, usable_for: Option<Duration>, draw: f64) -> Self {
        let drawn = drawn_step(failures, draw);
        let cut = usable_for.map_or(drawn, |left| drawn.min(left / 2));
        let without_token = cut.max(MIN_BACKOFF_WITHOUT_TOKEN);
        let with_token = cut.max(MIN_BACKOFF_WITH_TOKEN.mul_f64(1.0 + unit(draw)));
        Self { with_token, with_dead_token: without_token, without_token }
    }

    /// The backoff after a permanent failure. `failures` is the number of permanent failures in a row before it. It is
    /// random, so that a fleet with a wrong secret does not call in step.
    pub(crate) fn permanent(failures: u32, draw: f64) -> Self {
        let step = doubled(PERMANENT_BACKOFF, failures, MAX_PERMANENT_BACKOFF);
        let drawn = step.mul_f64(1.0 + unit(draw));
        Self { with_token: drawn, with_dead_token: drawn, without_token: drawn }
    }

    /// The backoff after a failure that processes with a shared store have in common: `left`, and up to a tenth of it, so that
    /// they do not come back in step.
    pub(crate) fn shared(left: Duration, draw: f64) -> Self {
        let drawn = left.mul_f64(1.0 + SHARED_JITTER * unit(draw)).max(MIN_BACKOFF_WITHOUT_TOKEN);
        Self { with_token: drawn, with_dead_token: drawn, without_token: drawn }
    }

    /// Raises the backoff to the issuer's `Retry-After`, up to a limit. To that, the greater of two random times is added:
    /// up to a tenth of it, and the random time of a transient backoff after `failures` failures in a row. The sum may be
    /// longer than the limit. Otherwise all clients with the same long `Retry-After` would come back at the same moment.
    ///
    /// Beside a dead token only the tenth is added, so that the token is replaced soon.
    pub(crate) fn at_least(self, retry_after: Duration, failures: u32, draw: f64) -> Self {
        let raise = |backoff: Duration, held: Held, other: Duration| {
            let requested = retry_after_limit(retry_after, held);
            let added = requested.mul_f64(RETRY_AFTER_JITTER * unit(draw)).max(other);
            backoff.max(requested.saturating_add(added))
        };
        let drawn = drawn_step(failures, draw);
        Self {
            with_token: raise(self.with_token, Held::Usable, drawn),
            with_dead_token: raise(self.with_dead_token, Held::Dead, Duration::ZERO),
            without_token: raise(self.without_token, Held::Nothing, drawn),
        }
    }

    pub(crate) fn length(&self, held: Held) -> Duration {
        match held {
            Held::Nothing => self.without_token,
            Held::Usable => self.with_token,
            Held::Dead => self.with_dead_token,
        }
    }
}

/// How long a `Retry-After` delays fetches.
pub(crate) fn retry_after_limit(retry_after: Duration, held: Held) -> Duration {
    retry_after.min(match held {
        Held::Usable => MAX_RETRY_AFTER_WITH_TOKEN,
        Held::Nothing | Held::Dead => MAX_RETRY_AFTER_WITHOUT_TOKEN,
    })
}

/// How long a rejected token is set aside while a fetch runs. `took` is how long the last successful fetch took.
pub(crate) fn set_aside(took: Duration) -> Duration {
    took.saturating_mul(SET_ASIDE_FACTOR).clamp(MIN_SET_ASIDE, MAX_SET_ASIDE)
}

/// The shortest time between two fetches while new tokens do not end the rejections. `fetches` is how many fetches started at
/// such an interval.
pub(crate) fn throttle_interval(fetches: u32) -> Duration {
    doubled(FIRST_THROTTLE_INTERVAL, fetches, MAX_THROTTLE_INTERVAL)
}

/// Whether a row of rejections shows that a token was revoked, although new tokens have not ended other rejections.
/// `longest` is the longest earlier row, and `dead_for` is how long the token has been confirmed dead.
pub(crate) fn is_revoked(in_a_row: u32, longest: u32, dead_for: Option<Duration>) -> bool {
    let long = in_a_row >= REVOKED_ROW && in_a_row >= longest.saturating_mul(REVOKED_FACTOR);
    long || dead_for.is_some_and(|time| time >= REVOKED_AFTER)
}

/// The time from a rejection of a new token to its next try. `rejections` is how many there were.
pub(crate) fn replacement_delay(rejections: u32) -> Duration {
    doubled(FIRST_REPLACEMENT_DELAY, rejections.saturating_sub(1), MAX_REPLACEMENT_DELAY)
}

/// `first`, doubled `times` times, and at most `max`.
fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    2_u32.checked_pow(times).map_or(max, |factor| first.saturating_mul(factor)).min(max)
}

/// A random time of at most 0.5 s after the first transient failure, 1 s after the second, and so on, up to 30 s.
fn drawn_step(failures: u32, draw: f64) -> Duration {
    doubled(FIRST_BACKOFF, failures, MAX_BACKOFF).mul_f64(unit(draw))
}

/// The backoff after an early refresh that returned no better token.
pub(crate) fn early_backoff(usable_for: Duration) -> Duration {
    (usable_for / 2).max(MIN_EARLY_BACKOFF)
}

/// Whether a token that is usable for `usable_for` is too short-lived to replace one that is usable for `current_for`.
pub(crate) fn too_short(usable_for: Duration, current_for: Duration) -> bool {
    usable_for < MIN_EARLY_BACKOFF && current_for > usable_for
}

/// Whether `length` has passed since `since`. A clock that was set back ends every backoff.
pub(crate) fn passed(since: Instant, length: Duration, now: Instant) -> bool {
    remaining(since, length, now).is_zero()
}

/// The rest of `length`, counted from `since`.
pub(crate) fn remaining(since: Instant, length: Duration, now: Instant) -> Duration {
    if was_set_back(since, now) {
        return Duration::ZERO;
    }
    length.saturating_sub(now.saturating_duration_since(since))
}

#[inline]
pub(crate) fn was_set_back(since: Instant, now: Instant) -> bool {
    // This runs for every request, and a comparison is faster than a subtraction.
    since > now && since.saturating_duration_since(now) > SET_BACK
}

/// The budget of one key for refreshes after rejections: 6, and one more every 10 s.
///
/// It is enough for five revocations in a minute. A server that rejects every token cannot cause more refreshes than
/// that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    counted_at: Instant,
    /// How many refreshes it was used for since it was full.
    used: u32,
}

impl Budget {
    pub(crate) fn full(now: Instant) -> Self {
        Self { left: BUDGET, counted_at: now, used: 0 }
    }

    /// Takes the cost of one refresh: 1, or a full budget for a token that no server has accepted.
    pub(crate) fn take(&mut self, accepted: bool, now: Instant) -> bool {
        self.refill(now);
        let cost = if accepted { 1 } else { BUDGET };
        if self.left < cost {
            return false;
        }
        if self.left == BUDGET {
            self.counted_at = now;
            self.used = 0;
        }
        self.left -= cost;
        self.used = self.used.saturating_add(1);
        true
    }

    /// Whether it was used for twice as many refreshes as it allows at once, and was never full between them. That takes a
    /// minute. If it is empty then, new tokens do not end the rejections: two processes may revoke each other's tokens.
    pub(crate) fn is_overused(&self) -> bool {
        self.used >= 2 * BUDGET
    }

    pub(crate) fn is_full(mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == BUDGET
    }

    fn refill(&mut self, now: Instant) {
        if was_set_back(self.counted_at, now) {
            self.counted_at = now;
        }
        let elapsed = now.saturating_duration_since(self.counted_at);
        let refills = u32::try_from(elapsed.as_millis() / BUDGET_REFILL.as_millis()).unwrap_or(u32::MAX);
        if refills == 0 {
            return;
        }
        self.left = self.left.saturating_add(refills).min(BUDGET);
        // The part of the current interval that has passed counts for the next refill.
        self.counted_at =
            BUDGET_REFILL.checked_mul(refills).and_then(|step| self.counted_at.checked_add(step)).unwrap_or(now);
    }
}

fn unit(draw: f64) -> f64 {
    if draw.is_nan() { 0.0 } else { draw.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests;
