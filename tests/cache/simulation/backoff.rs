//! Backoffs and the budget, written from the text of the rules. Random times are ranges, in ms.

use tower_bearer_auth::{Error, ErrorKind};

use super::rules::{SECOND, Sure};

/// What a key has during a backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Usable,
    Dead,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// `None`: the caller waits for the end of any transient backoff.
    pub(crate) limit: Option<i64>,
    /// What is left of `max_wait`, at least and at most.
    pub(crate) left: Range,
}

pub(crate) type Range = (i64, i64);

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: i64,
    pub(crate) kind: ErrorKind,
    pub(crate) transient: bool,
    pub(crate) requested: Option<i64>,
    lengths: [Range; 3],
}

fn cap(held: Held) -> i64 {
    if held == Held::Usable { 300 * SECOND } else { 60 * SECOND }
}

/// Rule 6: the longest random time after `failures` failures in a row.
fn step(failures: u32) -> i64 {
    (500_i64 << failures.min(10)).min(30 * SECOND)
}

/// Rule 6, without and with a usable token. `left` is how long the token is still usable.
fn transient(failures: u32, left: Option<i64>) -> (Range, Range) {
    let cut = step(failures).min(left.map_or(i64::MAX, |left| left / 2 + 1));
    ((100, cut.max(100)), (SECOND, cut.max(2 * SECOND)))
}

impl Failure {
    /// `before` are the transient and the permanent failures in a row before this one.
    pub(crate) fn new(error: &Error, before: (u32, u32), left: Option<i64>, now: i64) -> Self {
        let (without, with) = if error.is_transient() {
            transient(before.0, left)
        } else {
            let least = (2_500_i64 << before.1.min(10)).min(30 * SECOND);
            ((least, 2 * least), (least, 2 * least))
        };
        let requested = error.retry_after().map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let length = |held: Held| {
            let (least, most) = if held == Held::Usable { with } else { without };
            let Some(requested) = requested.map(|time| time.min(cap(held))) else { return (least, most + 1) };
            let added = if held == Held::Dead { requested / 10 } else { (requested / 10).max(step(before.0)) };
            (least.max(requested), most.max(requested + added) + 1)
        };
        let lengths = [length(Held::Nothing), length(Held::Usable), length(Held::Dead)];
        Self { at: now, kind: error.kind(), transient: error.is_transient(), requested, lengths }
    }

    fn length(&self, held: Held) -> Range {
        self.lengths[held as usize]
    }

    /// The backoff may have ended.
    pub(crate) fn blur(&mut self) {
        self.lengths.iter_mut().for_each(|length| length.0 = 0);
    }

    pub(crate) fn in_backoff(&self, held: Held, now: i64) -> Sure {
        Sure::passed(self.at, self.length(held), now).not()
    }

    /// A caller got the error with the time until the next try. It must be possible, and it is certain from now on.
    pub(crate) fn narrow(&mut self, held: Held, left_us: i64, now: i64) {
        let (least, most) = self.length(held);
        let length = (now - self.at) * 1_000 + left_us;
        let seen = (length / 1_000, length / 1_000 + 1);
        assert!(
            seen.1 >= least && seen.0 <= most,
            "the next try is in {left_us} us, expected {least}..={most} ms: {self:?}"
        );
        self.lengths[held as usize] = (least.max(seen.0), most.min(seen.1));
    }

    /// Rule 9: a transient backoff may end when its `Retry-After` is over.
    pub(crate) fn ends_on_rejection(&self, held: Held, now: i64) -> bool {
        self.transient && self.requested.is_none_or(|time| now - self.at >= time.min(cap(held)))
    }

    /// Rule 18: whether a fetch that begins now begins a new run of failures.
    pub(crate) fn run_is_over(&self, now: i64) -> Sure {
        let least = self.lengths.iter().map(|length| length.0).min().unwrap_or(0);
        let most = self.lengths.iter().map(|length| length.1).max().unwrap_or(0);
        Sure::passed(self.at, (least + 2 * SECOND, most + 2 * SECOND), now)
    }

    /// Rule 18: whether a caller without a token waits for the end of the backoff.
    pub(crate) fn is_waited_for(&self, run_began: Option<Range>, patience: Patience, now: i64) -> Sure {
        if !self.transient || self.kind == ErrorKind::Panicked {
            return Sure::No;
        }
        let (least, most) = self.length(Held::Nothing);
        let within = |limit: Range, (least, most): Range| match () {
            () if most <= limit.0 => Sure::Yes,
            () if least > limit.1 => Sure::No,
            () => Sure::Maybe,
        };
        let left = |length: i64| length - (now - self.at);
        let in_max_wait = within(patience.left, (left(least), left(most)));
        let Some(limit) = patience.limit else { return in_max_wait };
        let (earliest, latest) = run_began.unwrap_or((self.at, self.at));
        in_max_wait.and(within((limit, limit), (self.at - latest + least, self.at - earliest + most)))
    }
}

/// Fetches in a row that were cancelled with their runtimes.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    pub(crate) in_a_row: u32,
    at: i64,
    without: Range,
    with: Range,
}

impl Cancelled {
    pub(crate) fn add(&mut self, left: Option<i64>, now: i64) {
        let (without, with) = transient(self.in_a_row, left);
        // One runtime that ends is no pattern.
        self.without = if self.in_a_row == 0 { (0, 0) } else { (without.0, without.1 + 1) };
        self.with = (with.0, with.1 + 1);
        self.in_a_row += 1;
        self.at = now;
    }

    /// The backoff may have ended.
    pub(crate) fn blur(&mut self) {
        (self.with.0, self.without.0) = (0, 0);
    }

    pub(crate) fn in_backoff(&self, with_token: bool, now: i64) -> Sure {
        let length = if with_token { self.with } else { self.without };
        if self.in_a_row == 0 || length == (0, 0) { Sure::No } else { Sure::passed(self.at, length, now).not() }
    }
}

/// Rule 10: 6, and one comes back per 10 s.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: i64,
    since: i64,
    /// For how many refreshes it was used since it was full.
    used: u32,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { left: 6, since: 0, used: 0 }
    }
}

impl Bucket {
    fn refill(&mut self, now: i64) {
        let back = (now - self.since) / (10 * SECOND);
        self.left += back;
        self.since += back * 10 * SECOND;
        if self.left >= 6 {
            (self.left, self.since) = (6, now);
        }
    }

    pub(crate) fn has(&mut self, cost: i64, now: i64) -> bool {
        self.refill(now);
        self.left >= cost
    }

    pub(crate) fn take(&mut self, cost: i64, now: i64) {
        assert!(self.has(cost, now), "the bucket is empty");
        self.used = if self.left == 6 { 1 } else { self.used + 1 };
        self.left -= cost;
    }

    /// Whether it was used for twelve refreshes and was never full between them.
    pub(crate) fn is_overused(&self) -> bool {
        self.used >= 12
    }
}
