//! When a token is renewed, and how long an issuer is left alone: arithmetic over what it is given, and nothing else.
//!
//! `draw` is a random number in `[0, 1]`. All arithmetic is checked or saturating: lifetimes come from outside.

use std::time::{Duration, Instant};

use crate::clock::Now;
use crate::token::Deadlines;

const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
/// Below this a token has neither a window nor a margin.
const SHORTEST_WITH_WINDOW: Duration = Duration::from_secs(2);
const LARGEST_WINDOW: Duration = Duration::from_secs(20 * 60);
const LARGEST_MARGIN: Duration = Duration::from_secs(30);
/// The share of the window in which its start is drawn.
const WINDOW_JITTER: f64 = 0.1;
/// How far the two clocks may disagree about the length of a flight.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LARGEST_PAUSE: Duration = Duration::from_secs(30);
const FLOOR_WITH_TOKEN: Duration = Duration::from_secs(1);
const FLOOR_WITHOUT_TOKEN: Duration = Duration::from_millis(100);
const PERMANENT_PAUSE: Duration = Duration::from_millis(2500);
const RETRY_AFTER_CAP_WITH_TOKEN: Duration = Duration::from_secs(300);
const RETRY_AFTER_CAP_WITHOUT_TOKEN: Duration = Duration::from_secs(60);
const RETRY_AFTER_SPREAD: f64 = 0.1;

const SHORTEST_EARLY_PAUSE: Duration = Duration::from_secs(10);

const BUCKET: u32 = 6;
const BUCKET_REFILL: Duration = Duration::from_secs(10);

/// A monotonic clock that reads this much earlier than before has been set back; less is two threads' difference.
const GONE_BACK: Duration = Duration::from_secs(60);

/// When a token is renewed before it ends.
///
/// A token with lifetime L is usable until L - margin, where margin = min(30 s, L/4). In its refresh window, the last
/// min(L/2, 20 min) of L, a request that is stamped also starts the renewal. The start of the window is drawn once per
/// token out of the window's first tenth, so that services that started together drift apart.
///
/// | lifetime | window | margin | outage of the issuer that nobody notices |
/// |---|---|---|---|
/// | 10 s | 5 s | 2.5 s | about 2 s, 1 s at worst |
/// | 30 min | 15 min | 30 s | 13 min |
/// | 40 min and more | 20 min | 30 s | 17.5 min |
///
/// The last column is 0.9 of the window, less the margin, less one pause; [the guide](crate::guide::outage) has it measured, and
/// says [which policy to choose](crate::guide::refresh).
#[derive(Clone, Debug)]
pub struct RefreshPolicy {
    window: Option<Duration>,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self { window: Some(LARGEST_WINDOW) }
    }
}

impl RefreshPolicy {
    /// The rules above.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Renews no earlier than `window` before the token's end, where that is less than min(L/2, 20 min).
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// Renews when the token is no longer usable, never before, for issuers that bill each token.
    ///
    /// A request then waits for the issuer once per lifetime, and an outage of the issuer is felt at once.
    #[must_use]
    pub fn at_expiry(mut self) -> Self {
        self.window = None;
        self
    }

    /// The deadlines of a token that was asked for at `began` and arrived at `landed`.
    pub(crate) fn deadlines(&self, issued: Option<Duration>, began: Now, landed: Now, draw: f64) -> Deadlines {
        let lifetime = issued.unwrap_or(DEFAULT_LIFETIME).clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME);
        let start = corrected(began, landed);
        let whole = lifetime >= SHORTEST_WITH_WINDOW;
        let margin = if whole { LARGEST_MARGIN.min(lifetime / 4) } else { Duration::ZERO };
        let refresh = self.window.filter(|_| whole).map(|configured| {
            let window = configured.min(LARGEST_WINDOW).min(lifetime / 2);
            start.after((lifetime - window).saturating_add(window.mul_f64(WINDOW_JITTER * unit(draw))))
        });
        Deadlines { began: start, refresh, usable: start.after(lifetime - margin), nominal: start.after(lifetime) }
    }
}

/// `began`, with its wall reading counted back from the landing where the wall clock jumped during the flight: otherwise
/// a token is born expired.
///
/// The same goes for a monotonic clock that was set back.
fn corrected(began: Now, landed: Now) -> Now {
    let began = Now { mono: began.mono.min(landed.mono), ..began };
    let mono = landed.mono.saturating_duration_since(began.mono);
    let apart = match landed.wall.duration_since(began.wall) {
        Ok(wall) => wall.abs_diff(mono),
        Err(back) => back.duration().saturating_add(mono),
    };
    if apart <= CLOCKS_AGREE {
        return began;
    }
    Now { mono: began.mono, wall: landed.wall.checked_sub(mono).unwrap_or(landed.wall) }
}

/// How long no flight starts after a failure, with a usable token in hand and without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) with_token: Duration,
    pub(crate) without_token: Duration,
}

impl Pause {
    /// After the `failures`-th transient failure in a row, counted from 0.
    ///
    /// Half of what is left of a usable token would be an endless series without the floor.
    pub(crate) fn transient(failures: u32, usable_for: Option<Duration>, draw: f64) -> Self {
        let step = 2_u32.checked_pow(failures).map_or(LARGEST_PAUSE, |factor| FIRST_PAUSE.saturating_mul(factor));
        let drawn = step.min(LARGEST_PAUSE).mul_f64(unit(draw));
        let cut = usable_for.map_or(drawn, |left| drawn.min(left / 2));
        Self { with_token: cut.max(FLOOR_WITH_TOKEN), without_token: cut.max(FLOOR_WITHOUT_TOKEN) }
    }

    /// After a permanent failure. A fleet with a wrong secret must not call in step.
    pub(crate) fn permanent(draw: f64) -> Self {
        let drawn = PERMANENT_PAUSE.mul_f64(1.0 + unit(draw));
        Self { with_token: drawn, without_token: drawn }
    }

    /// The same, no shorter than what the issuer asked for, up to a cap.
    pub(crate) fn at_least(self, retry_after: Duration, draw: f64) -> Self {
        let raise = |pause: Duration, cap: Duration| {
            let asked = retry_after.min(cap);
            pause.max(asked.saturating_add(asked.mul_f64(RETRY_AFTER_SPREAD * unit(draw))).min(cap))
        };
        Self {
            with_token: raise(self.with_token, RETRY_AFTER_CAP_WITH_TOKEN),
            without_token: raise(self.without_token, RETRY_AFTER_CAP_WITHOUT_TOKEN),
        }
    }
}

/// How long to leave the issuer alone after an early refresh that brought nothing better.
pub(crate) fn early_pause(usable_for: Duration) -> Duration {
    (usable_for / 2).max(SHORTEST_EARLY_PAUSE)
}

/// Whether a token that is usable for so long is too short to replace one that is usable for longer.
pub(crate) fn too_short(usable_for: Duration, current_for: Duration) -> bool {
    usable_for < SHORTEST_EARLY_PAUSE && current_for > usable_for
}

/// Whether `length` has passed since `since`. A clock that was set back ends every pause.
pub(crate) fn passed(since: Instant, length: Duration, now: Instant) -> bool {
    remaining(since, length, now).is_zero()
}

/// What is left of `length` since `since`.
pub(crate) fn remaining(since: Instant, length: Duration, now: Instant) -> Duration {
    if went_back(since, now) {
        return Duration::ZERO;
    }
    length.saturating_sub(now.saturating_duration_since(since))
}

#[inline]
pub(crate) fn went_back(since: Instant, now: Instant) -> bool {
    // Two readings are compared sooner than subtracted, and this is asked for every request.
    since > now && since.saturating_duration_since(now) > GONE_BACK
}

/// The renewal budget of one key: a bucket of 6, one back per 10 s.
///
/// Five revocations in a minute heal; a server that refuses every token cannot make this process ask without bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    counted_at: Instant,
}

impl Budget {
    pub(crate) fn full(now: Instant) -> Self {
        Self { left: BUCKET, counted_at: now }
    }

    /// Takes what one renewal costs: one, or all of a full bucket for a token that no server has accepted yet.
    pub(crate) fn take(&mut self, accepted: bool, now: Instant) -> bool {
        self.refill(now);
        let (needed, cost) = if accepted { (1, 1) } else { (BUCKET, BUCKET) };
        if self.left < needed {
            return false;
        }
        if self.left == BUCKET {
            self.counted_at = now;
        }
        self.left -= cost;
        true
    }

    pub(crate) fn is_full(mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == BUCKET
    }

    fn refill(&mut self, now: Instant) {
        if went_back(self.counted_at, now) {
            self.counted_at = now;
        }
        let elapsed = now.saturating_duration_since(self.counted_at);
        let back = u32::try_from(elapsed.as_millis() / BUCKET_REFILL.as_millis()).unwrap_or(u32::MAX);
        if back == 0 {
            return;
        }
        self.left = self.left.saturating_add(back).min(BUCKET);
        // The rest of a started interval counts on.
        self.counted_at =
            BUCKET_REFILL.checked_mul(back).and_then(|step| self.counted_at.checked_add(step)).unwrap_or(now);
    }
}

fn unit(draw: f64) -> f64 {
    if draw.is_nan() { 0.0 } else { draw.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests;
