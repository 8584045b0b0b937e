//! The rules of one key, written from their text: which token is current, and which fetch may start or must start.
//!
//! Times are ms since the start of the simulation. A random time is a range. So some questions have no certain answer, and
//! then the model accepts what the source does.

use std::collections::HashMap;

use tower_bearer_auth::{Error, ErrorKind, FetchReason};

use super::backoff::{Bucket, Cancelled, Failure, Held, Patience};

pub(crate) const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
pub(crate) const MAX_WAIT: i64 = 15 * SECOND;

/// The answer to a question about a random time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sure {
    No,
    Maybe,
    Yes,
}

impl Sure {
    pub(crate) fn when(condition: bool) -> Self {
        if condition { Self::Yes } else { Self::No }
    }

    /// Whether `since` is so long ago as a random time between `least` and `most`.
    pub(crate) fn passed(since: i64, (least, most): (i64, i64), now: i64) -> Self {
        match now - since {
            elapsed if elapsed < least => Self::No,
            elapsed if elapsed > most => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(crate) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(crate) fn possible(self) -> bool {
        self != Self::No
    }

    pub(crate) fn allows(self, happened: bool) -> bool {
        if happened { self != Self::No } else { self != Self::Yes }
    }
}

/// One generation.
#[derive(Debug)]
pub(crate) struct Tok {
    pub(crate) secret: String,
    pub(crate) generation: Option<u64>,
    window: Option<(i64, i64)>,
    pub(crate) usable_until: i64,
    pub(crate) expires_at: i64,
    pub(crate) for_waiters_only: bool,
    accepted: bool,
    /// The rejections since the last acceptance.
    row: u32,
    confirmed_at: Option<i64>,
    /// Whether it was rejected, and not accepted since.
    rejected: bool,
    /// Whether any response has rejected it.
    reported: bool,
    began: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    NoToken,
    Early,
    Rejection,
    Throttled,
    OnDemand,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) cause: Cause,
    began: i64,
    pub(crate) arrived: bool,
    /// From when to when the current token is set aside.
    set_aside: Option<i64>,
    joined_by_rejection: bool,
    pub(crate) outdated: bool,
    pub(crate) cancelled: bool,
    by_rotation: bool,
}

/// Rule 21: the old token beside the new one.
#[derive(Debug)]
struct Kept {
    other: usize,
    new_is_current: bool,
    minted: i64,
    rejections: u32,
    rejected_at: i64,
}

/// Rule 19.
#[derive(Debug)]
struct Throttle {
    fetches: u32,
    last_fetch: i64,
    last_rejection: i64,
    longest_row: (u32, u32),
    renewed_at: Option<i64>,
}

/// Rule 14: what limits the fetches that `invalidate` and `rotate` cause.
#[derive(Debug, Default)]
struct Forget {
    fetch_is_due: bool,
    last_fetch: Option<i64>,
    backoff_ended: Option<i64>,
    backoff_maybe_ended: Option<i64>,
    rotated: Option<i64>,
    rotation_is_due: bool,
    rotation_fetches: bool,
}

/// What a call may do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) stamp: Option<usize>,
    pub(crate) wait: bool,
    pub(crate) fail: Vec<ErrorKind>,
    pub(crate) fetch: Sure,
    pub(crate) cause: Cause,
}

impl Plan {
    fn stamp(tok: usize) -> Self {
        Self { stamp: Some(tok), wait: false, fail: Vec::new(), fetch: Sure::No, cause: Cause::Early }
    }

    fn wait() -> Self {
        Self { stamp: None, wait: true, fail: Vec::new(), fetch: Sure::No, cause: Cause::NoToken }
    }

    fn fail(kind: ErrorKind) -> Self {
        Self { stamp: None, wait: false, fail: vec![kind], fetch: Sure::No, cause: Cause::NoToken }
    }

    fn fetch(cause: Cause) -> Self {
        Self { stamp: None, wait: true, fail: Vec::new(), fetch: Sure::Yes, cause }
    }

    /// One of the two.
    fn or(mut self, other: Self) -> Self {
        if self.fetch != other.fetch {
            if other.fetch.possible() {
                self.cause = other.cause;
            }
            self.fetch = Sure::Maybe;
        }
        self.wait |= other.wait;
        self.stamp = self.stamp.or(other.stamp);
        self.fail.extend(other.fail);
        self
    }
}

/// What a rejection may cause.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// As for a request that needs a token.
    Proceed(Plan),
    /// The request is not replayed.
    Return,
    /// A fetch starts and the request waits for it, or the request is not replayed.
    Either(Plan),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Usable,
    WarmUp,
    Refreshed,
    ValidFor(i64),
}

impl Wanted {
    /// The method that wants a new token.
    fn method(self) -> Option<usize> {
        match self {
            Self::Usable | Self::WarmUp => None,
            Self::Refreshed => Some(0),
            Self::ValidFor(_) => Some(1),
        }
    }
}

pub(crate) enum Completed<'a> {
    Token { secret: &'a str, lifetime: i64, window: Option<(i64, i64)>, margin: i64 },
    Error(&'a Error),
}

/// How a completed fetch ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A token with this index, new or kept.
    Token(usize),
    Failed,
}

pub(crate) struct Rules {
    pub(crate) toks: Vec<Tok>,
    by_generation: HashMap<u64, usize>,
    pub(crate) current: Option<usize>,
    kept: Option<Kept>,
    pub(crate) running: Option<Running>,
    pub(crate) failure: Option<Failure>,
    transient: u32,
    permanent: u32,
    /// When the first failed fetch of the run of failures began: the earliest and the latest possible time.
    pub(crate) run_began: Option<(i64, i64)>,
    cancelled: Cancelled,
    bucket: Bucket,
    /// The rejected token that last ended a backoff, and whether it is certain that there was one.
    backoff_ended_by: Option<(usize, Sure)>,
    rejected: Vec<usize>,
    /// The token that the row of rejections is about.
    row_of: Option<usize>,
    /// A row that an acceptance has ended. The source may count it for a state that begins later.
    ended_row: u32,
    /// The token under which a replay was rejected last.
    replay_rejected: Option<usize>,
    throttle: Option<Throttle>,
    early: Option<(i64, i64)>,
    /// Rule 22: the last fetches that `refresh` and `token_valid_for` caused.
    on_demand_at: [Option<i64>; 2],
    last_began: i64,
    forget: Forget,
    forgotten: bool,
    pub(crate) counts: super::counts::Counts,
}

fn lately(at: Option<i64>, now: i64) -> bool {
    at.is_some_and(|at| now - at < SECOND)
}

impl Rules {
    pub(crate) fn new() -> Self {
        Self {
            toks: Vec::new(),
            by_generation: HashMap::new(),
            current: None,
            kept: None,
            running: None,
            failure: None,
            transient: 0,
            permanent: 0,
            run_began: None,
            cancelled: Cancelled::default(),
            bucket: Bucket::default(),
            backoff_ended_by: None,
            rejected: Vec::new(),
            row_of: None,
            ended_row: 0,
            replay_rejected: None,
            throttle: None,
            early: None,
            on_demand_at: [None, None],
            last_began: i64::MIN / 2,
            forget: Forget::default(),
            forgotten: false,
            counts: super::counts::Counts::default(),
        }
    }

    // ---- the state

    fn is_usable(&self, tok: usize, now: i64) -> bool {
        now < self.toks[tok].usable_until
    }

    pub(crate) fn usable_or_set_aside(&self, now: i64) -> Option<usize> {
        self.current.filter(|tok| self.is_usable(*tok, now))
    }

    pub(crate) fn usable(&self, now: i64) -> Option<usize> {
        let set_aside = self.running.as_ref().and_then(|running| running.set_aside);
        self.usable_or_set_aside(now).filter(|_| set_aside.is_none_or(|until| now >= until))
    }

    /// A response rejects a token. Returns whether no response has rejected it before, one has accepted it, and it has not
    /// expired.
    pub(crate) fn is_rejected_early(&mut self, tok: usize, now: i64) -> bool {
        let tok = &mut self.toks[tok];
        !std::mem::replace(&mut tok.reported, true) && tok.accepted && now < tok.expires_at
    }

    /// Whether a server has ever accepted the token.
    pub(crate) fn is_accepted(&self, tok: usize) -> bool {
        self.toks[tok].accepted
    }

    /// Whether a rotation that came too soon, or during a fetch of another rotation, takes effect at the next look.
    pub(crate) fn rotates_now(&self, now: i64) -> bool {
        let by_rotation = self.running.as_ref().is_some_and(|running| running.by_rotation);
        self.forget.rotation_is_due && !by_rotation && !lately(self.forget.rotated, now)
    }

    pub(crate) fn forget_row(&mut self, tok: usize) {
        (self.toks[tok].row, self.toks[tok].confirmed_at) = (0, None);
    }

    pub(crate) fn is_dead(&self, tok: usize) -> bool {
        self.row_of == Some(tok) && self.toks[tok].confirmed_at.is_some()
    }

    pub(crate) fn held(&self, now: i64) -> Held {
        match self.usable_or_set_aside(now) {
            None => Held::Nothing,
            Some(tok) if self.is_dead(tok) => Held::Dead,
            Some(_) => Held::Usable,
        }
    }

    pub(crate) fn in_backoff(&self, held: Held, now: i64) -> Sure {
        self.failure.as_ref().map_or(Sure::No, |failure| failure.in_backoff(held, now))
    }

    /// Whether fetches were cancelled with their runtimes since the last one that completed.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cancelled.in_a_row > 0
    }

    /// Whether a secret may not be adopted: it was rejected, and not accepted since.
    pub(crate) fn is_rejected_secret(&self, secret: &str, now: i64) -> bool {
        let rejected = |tok: &&usize| self.toks[**tok].rejected && self.is_usable(**tok, now);
        self.rejected.iter().filter(rejected).any(|tok| self.toks[*tok].secret == secret)
    }

    /// A token was stamped: its generation belongs to this index from now on.
    pub(crate) fn seen(&mut self, tok: usize, secret: &str, generation: u64) {
        assert_eq!(self.toks[tok].secret, secret, "another token than the current one was stamped");
        assert_eq!(*self.toks[tok].generation.get_or_insert(generation), generation, "the generation changed");
        assert_eq!(*self.by_generation.entry(generation).or_insert(tok), tok, "two tokens with one generation");
    }

    /// What happens at a look at the key.
    pub(crate) fn settle(&mut self, now: i64) {
        self.settle_tokens(now);
        if self.rotates_now(now) {
            self.forget.rotation_is_due = false;
            self.counts.rotated_in_full_later += 1;
            self.rotate_in_full(now);
        }
    }

    /// What only needs time to pass.
    pub(crate) fn settle_tokens(&mut self, now: i64) {
        self.settle_kept(now);
        if self.throttle.as_ref().is_some_and(|state| now - state.last_rejection >= 10 * MINUTE) {
            (self.throttle, self.replay_rejected) = (None, None);
            self.counts.throttles_ended += 1;
        }
    }

    fn settle_kept(&mut self, now: i64) {
        let (Some(kept), Some(current)) = (&self.kept, self.current) else { return };
        let (new, old) = if kept.new_is_current { (current, kept.other) } else { (kept.other, current) };
        let over = self.toks[new].accepted && now - kept.minted >= MINUTE;
        let delay = (SECOND << kept.rejections.saturating_sub(1).min(10)).min(30 * SECOND);
        let (new_usable, old_usable) = (self.is_usable(new, now), self.is_usable(old, now));
        if !new_usable || !old_usable || over {
            self.current = Some(if new_usable || !old_usable { new } else { old });
            if !new_usable && !old_usable {
                self.current = Some(current);
            }
            self.kept = None;
        } else if !kept.new_is_current && now - kept.rejected_at >= delay {
            self.current = Some(new);
            self.counts.tried_again += 1;
            if let Some(kept) = &mut self.kept {
                (kept.other, kept.new_is_current) = (old, true);
            }
        }
    }

    // ---- requests

    pub(crate) fn request(&mut self, wanted: Wanted, patience: Patience, first: bool, now: i64) -> Plan {
        self.settle(now);
        let Some(tok) = self.usable(now) else {
            return self.request_without_token(patience, first, now);
        };
        let satisfied = match wanted {
            Wanted::Usable | Wanted::WarmUp => true,
            Wanted::ValidFor(time) => self.toks[tok].expires_at - now >= time,
            Wanted::Refreshed => false,
        };
        if satisfied {
            return Plan { fetch: self.early_is_due(tok, now), ..Plan::stamp(tok) };
        }
        if self.running.is_some() {
            return Plan::wait();
        }
        if wanted.method().is_some_and(|method| self.on_demand_at[method].is_some_and(|at| now - at < 10 * SECOND)) {
            return Plan::stamp(tok);
        }
        let held = self.held(now);
        let fetch = Plan::fetch(Cause::OnDemand);
        let plan = match (self.in_backoff(held, now), &self.failure) {
            (Sure::No, _) | (_, None) => fetch,
            (Sure::Maybe, Some(failure)) => fetch.or(Plan::fail(failure.kind)),
            (Sure::Yes, Some(failure)) => return Plan::fail(failure.kind),
        };
        match self.cancelled.in_backoff(held == Held::Usable, now) {
            Sure::No => plan,
            Sure::Maybe => plan.or(Plan::fail(ErrorKind::Unavailable)),
            Sure::Yes => Plan::fail(ErrorKind::Unavailable),
        }
    }

    fn request_without_token(&self, patience: Patience, first: bool, now: i64) -> Plan {
        if self.running.is_some() {
            return Plan::wait();
        }
        let fetch = if self.forget.fetch_is_due && lately(self.forget.last_fetch, now) {
            Plan::wait()
        } else {
            let cancelled = if first { self.cancelled.in_backoff(false, now) } else { Sure::No };
            match cancelled {
                Sure::No => Plan::fetch(Cause::NoToken),
                Sure::Maybe => Plan::fetch(Cause::NoToken).or(Plan::fail(ErrorKind::Unavailable)),
                Sure::Yes => Plan::fail(ErrorKind::Unavailable),
            }
        };
        let Some(failure) = &self.failure else { return fetch };
        let during = match failure.is_waited_for(self.run_began, patience, now) {
            Sure::No => Plan::fail(failure.kind),
            Sure::Maybe => Plan::wait().or(Plan::fail(failure.kind)),
            Sure::Yes => Plan::wait(),
        };
        match failure.in_backoff(Held::Nothing, now) {
            Sure::No => fetch,
            Sure::Maybe => fetch.or(during),
            Sure::Yes => during,
        }
    }

    fn early_is_due(&self, tok: usize, now: i64) -> Sure {
        let waits_for_try = self.kept.as_ref().is_some_and(|kept| !kept.new_is_current);
        if self.running.is_some() || waits_for_try || self.early.is_some_and(|(at, length)| now - at < length) {
            return Sure::No;
        }
        let Some(window) = self.toks[tok].window else { return Sure::No };
        let in_window = Sure::passed(0, window, now);
        let blocked = self.in_backoff(self.held(now), now);
        let with_token = self.held(now) == Held::Usable;
        in_window.and(blocked.not()).and(self.cancelled.in_backoff(with_token, now).not())
    }

    /// Whether a caller without a usable token may still wait.
    pub(crate) fn may_wait(&mut self, patience: Patience, needs_new: bool, now: i64) -> bool {
        self.settle_tokens(now);
        if self.running.is_some() {
            return needs_new || self.usable(now).is_none();
        }
        if self.usable(now).is_some() {
            return false;
        }
        let waits_for_backoff = self.failure.as_ref().is_some_and(|failure| {
            failure.in_backoff(Held::Nothing, now).possible()
                && failure.is_waited_for(self.run_began, patience, now).possible()
        });
        // Timers have a resolution of 1 ms.
        let later = self.forget.fetch_is_due && self.forget.last_fetch.is_some_and(|at| now - at <= SECOND);
        waits_for_backoff || later
    }

    /// A call did what `plan` allows. `started` is whether it started a fetch.
    ///
    /// `wanted` is what the call wants.
    pub(crate) fn follow(&mut self, plan: &Plan, wanted: Wanted, started: bool, set_aside: i64, now: i64) {
        assert!(plan.fetch.allows(started), "started a fetch: {started}, and allowed is {plan:?} for {self:?}");
        if started {
            self.begin(plan.cause, set_aside, now);
            if let (Some(method), None) = (wanted.method(), plan.stamp) {
                self.on_demand_at[method] = Some(now);
            }
        }
    }

    // ---- fetches

    fn begin(&mut self, cause: Cause, set_aside: i64, now: i64) {
        assert!(self.running.is_none(), "a second fetch");
        // A token that is confirmed dead is not set aside.
        let set_aside = if self.held(now) == Held::Dead { 0 } else { set_aside };
        self.counts.begin(cause);
        let run_over = self.failure.as_ref().map_or(Sure::Maybe, |failure| failure.run_is_over(now));
        match run_over {
            Sure::Yes => self.run_began = None,
            // The run may have ended here.
            Sure::Maybe => self.run_began = self.run_began.map(|(earliest, _)| (earliest, now)),
            Sure::No => {}
        }
        if let Some(state) = &mut self.throttle {
            state.last_fetch = now;
        }
        self.last_began = now;
        if std::mem::take(&mut self.forget.fetch_is_due) {
            assert!(!lately(self.forget.last_fetch, now), "two fetches after an invalidation within a second");
            self.forget.last_fetch = Some(now);
            self.counts.fetches_after_invalidation += 1;
        }
        self.running = Some(Running {
            cause,
            began: now,
            arrived: false,
            set_aside: (cause == Cause::Rejection).then_some(now + set_aside),
            joined_by_rejection: cause == Cause::Rejection,
            outdated: false,
            cancelled: false,
            by_rotation: std::mem::take(&mut self.forget.rotation_fetches),
        });
    }

    /// Rule 23: the reason, and the secret that the fetch replaces.
    pub(crate) fn arrives(&mut self) -> (FetchReason, Option<&str>) {
        let running = self.running.as_mut().expect("a token request without a reason");
        assert!(!std::mem::replace(&mut running.arrived, true), "two token requests in one fetch");
        let reason = match running.cause {
            Cause::Rejection | Cause::Throttled => FetchReason::Rejected,
            Cause::OnDemand => FetchReason::OnDemand,
            Cause::Early => FetchReason::Expiring,
            Cause::NoToken if self.current.is_some() => FetchReason::Expiring,
            Cause::NoToken if self.forgotten => FetchReason::Rotated,
            Cause::NoToken => FetchReason::First,
        };
        (reason, self.current.map(|tok| self.toks[tok].secret.as_str()))
    }

    pub(crate) fn completes(&mut self, result: &Completed<'_>, now: i64) -> Ended {
        let running = self.running.take().expect("a fetch is running");
        assert!(!running.cancelled, "a cancelled fetch completed");
        self.settle_tokens(now);
        self.cancelled = Cancelled::default();
        let (secret, lifetime, window, margin) = match result {
            Completed::Error(error) => return self.fails(error, running.began, now),
            Completed::Token { secret, lifetime, window, margin } => (*secret, *lifetime, *window, *margin),
        };
        let unavailable = Error::transient("").with_kind(ErrorKind::Unavailable);
        let after = |ms: i64| running.began + ms;
        if now >= after(lifetime) {
            self.counts.expired_on_arrival += 1;
            return self.fails(&unavailable, running.began, now);
        }
        if self.is_rejected_secret(secret, now) {
            self.counts.rejected_secret_returned += 1;
            self.begin_throttle(running.began, now);
            return self.fails(&unavailable, running.began, now);
        }
        (self.failure, self.transient, self.permanent, self.run_began) = (None, 0, 0, None);
        let mut tok = Tok {
            secret: secret.to_owned(),
            generation: None,
            window: window.map(|(from, to)| (after(from), after(to))),
            usable_until: after(lifetime - margin),
            expires_at: after(lifetime),
            for_waiters_only: false,
            accepted: false,
            row: 0,
            confirmed_at: None,
            rejected: false,
            reported: false,
            began: running.began,
        };
        let usable_for = tok.usable_until - now;
        if let Some(current) = self.usable_or_set_aside(now) {
            let current_for = self.toks[current].usable_until - now;
            let too_short = !running.joined_by_rejection && usable_for < 10 * SECOND && current_for > usable_for;
            if too_short || self.toks[current].secret == secret {
                self.counts.kept_current += 1;
                self.early = Some((now, (current_for / 2).max(10 * SECOND)));
                return Ended::Token(current);
            }
        }
        if running.outdated || usable_for <= 0 {
            self.counts.for_waiters_only += 1;
            tok.for_waiters_only = true;
            self.toks.push(tok);
            return Ended::Token(self.toks.len() - 1);
        }
        self.toks.push(tok);
        let new = self.toks.len() - 1;
        self.adopt(new, &running, now);
        Ended::Token(new)
    }

    fn adopt(&mut self, new: usize, running: &Running, now: i64) {
        let old = self.usable_or_set_aside(now);
        if old.is_some() {
            self.throttle_if_accepted(now);
        }
        self.replay_rejected = None;
        let dead = old.is_some_and(|old| self.is_dead(old));
        if let Some(tok) = self.row_of.take() {
            self.toks[tok].confirmed_at = None;
        }
        let kept = self.kept.take().filter(|kept| kept.new_is_current).map(|kept| kept.other);
        (self.current, self.forgotten, self.early) = (Some(new), false, None);
        // The fetch began after the rotation, so nothing is left of it.
        (self.forget.rotation_is_due, self.forget.rotation_fetches, self.forget.fetch_is_due) = (false, false, false);
        let Some(old) = old else { return };
        let replaces_softly = matches!(running.cause, Cause::Early | Cause::Throttled | Cause::OnDemand);
        if replaces_softly && !running.joined_by_rejection && !dead {
            let other = kept.filter(|_| !self.toks[old].accepted).unwrap_or(old);
            self.counts.kept_beside += 1;
            self.kept = Some(Kept { other, new_is_current: true, minted: now, rejections: 0, rejected_at: now });
        }
    }

    fn fails(&mut self, error: &Error, began: i64, now: i64) -> Ended {
        let left = self.usable_or_set_aside(now).map(|tok| self.toks[tok].usable_until - now);
        self.failure = Some(Failure::new(error, (self.transient, self.permanent), left, now));
        self.run_began.get_or_insert((began, began));
        if error.is_transient() {
            (self.transient, self.permanent) = (self.transient + 1, 0);
        } else {
            self.permanent += 1;
        }
        Ended::Failed
    }

    /// The fetch ended with its runtime, or its task ended after a rotation had cancelled it. Returns whether a rotation did.
    ///
    /// If a rotation is due, only the source knows whether somebody has looked at the key. `discarded` is what it counted.
    pub(crate) fn dropped(&mut self, discarded: bool, now: i64) -> bool {
        if discarded {
            self.settle(now);
        }
        let running = self.running.take().expect("a fetch is running");
        if !running.cancelled {
            if running.set_aside.is_some_and(|until| now < until) {
                self.counts.set_aside_came_back += 1;
            }
            let left = self.usable_or_set_aside(now).map(|tok| self.toks[tok].usable_until - now);
            self.cancelled.add(left, now);
        }
        running.cancelled
    }

    // ---- rejections

    pub(crate) fn accept(&mut self, tok: usize) {
        let row = std::mem::take(&mut self.toks[tok].row);
        self.ended_row = self.ended_row.max(row);
        self.toks[tok].accepted = true;
        self.toks[tok].rejected = false;
        self.toks[tok].confirmed_at = None;
        if let Some(state) = &mut self.throttle {
            // The source may have forgotten the row.
            state.longest_row.1 = state.longest_row.1.max(row);
        }
    }

    fn count_rejection(&mut self, tok: usize, now: i64) {
        if self.row_of.replace(tok) != Some(tok) {
            (self.toks[tok].row, self.toks[tok].confirmed_at) = (0, None);
        }
        let entry = &mut self.toks[tok];
        entry.rejected = true;
        entry.row += 1;
        if entry.row == 3 {
            entry.confirmed_at = Some(now);
            self.counts.confirmed_dead += 1;
        }
        if !self.rejected.contains(&tok) {
            self.rejected.retain(|tok| self.toks[*tok].rejected && now < self.toks[*tok].usable_until);
            if self.rejected.len() == 8 {
                self.rejected.remove(0);
            }
            self.rejected.push(tok);
        }
        if let Some(state) = &mut self.throttle {
            state.last_rejection = now;
        }
        self.throttle_if_accepted(now);
    }

    fn throttle_if_accepted(&mut self, now: i64) {
        if let Some(tok) = self.replay_rejected.filter(|tok| self.toks[*tok].accepted && self.current == Some(*tok)) {
            self.replay_rejected = None;
            self.begin_throttle(self.toks[tok].began, now);
        }
    }

    fn begin_throttle(&mut self, last_fetch: i64, now: i64) {
        if self.throttle.is_none() {
            self.counts.throttles_began += 1;
            self.throttle = Some(Throttle {
                fetches: 0,
                last_fetch,
                last_rejection: now,
                longest_row: (0, std::mem::take(&mut self.ended_row)),
                renewed_at: None,
            });
        }
    }

    pub(crate) fn reject_replay(&mut self, tok: usize, now: i64) {
        self.settle(now);
        if self.usable_or_set_aside(now) != Some(tok) {
            return;
        }
        self.counts.replays_rejected += 1;
        let is_old = self.kept.as_ref().is_some_and(|kept| !kept.new_is_current);
        // The request was rejected with both tokens, which shows nothing about the old one.
        if !is_old {
            self.replay_rejected = Some(tok);
        }
        self.count_rejection(tok, now);
        if self.kept.is_some() && !is_old && !self.drops_kept(tok) {
            self.fall_back(tok, now);
        }
    }

    /// Rule 21: whether `new`, which is current, was tried twice, and both tokens are rejected. Then none of them is kept.
    fn drops_kept(&mut self, new: usize) -> bool {
        let of_no_use = |kept: &mut Kept| kept.rejections >= 2 && self.toks[kept.other].rejected;
        let drops = self.toks[new].rejected && self.kept.take_if(of_no_use).is_some();
        self.counts.neither_of_use += u64::from(drops);
        drops
    }

    fn fall_back(&mut self, new: usize, now: i64) {
        let Some(kept) = &mut self.kept else { return };
        self.current = Some(kept.other);
        (kept.other, kept.new_is_current) = (new, false);
        kept.rejections += 1;
        kept.rejected_at = now;
        self.counts.fell_back += 1;
    }

    /// Whether `tok` can be rejected: it is the current token.
    pub(crate) fn is_current(&mut self, tok: usize, now: i64) -> bool {
        self.settle(now);
        self.usable_or_set_aside(now) == Some(tok)
    }

    /// Rule 21: a rejection of one of two tokens makes the other one current.
    fn reject_kept(&mut self, tok: usize, now: i64) -> Option<Rejected> {
        let Kept { other, new_is_current, .. } = *self.kept.as_ref()?;
        if new_is_current {
            if self.drops_kept(tok) {
                return None;
            }
            self.fall_back(tok, now);
        } else if self.throttle.is_none() || self.is_dead(tok) {
            self.counts.old_rejected_too += 1;
            (self.current, self.kept) = (Some(other), None);
        } else if let Some(kept) = self.kept.as_mut().filter(|_| self.toks[other].accepted) {
            self.counts.new_again += 1;
            (kept.other, kept.new_is_current, self.current) = (tok, true, Some(other));
        } else {
            return Some(Rejected::Return);
        }
        self.current.map(|current| Rejected::Proceed(Plan::stamp(current)))
    }

    /// A response rejects the current token.
    pub(crate) fn reject(&mut self, tok: usize, set_aside: i64, now: i64) -> Rejected {
        assert!(self.is_current(tok, now));
        self.count_rejection(tok, now);
        if let Some(plan) = self.reject_kept(tok, now) {
            return plan;
        }
        let throttle = self.throttle.is_some();
        let set_aside = if self.is_dead(tok) { 0 } else { set_aside };
        if let Some(running) = &mut self.running {
            if !throttle {
                running.joined_by_rejection = true;
                if running.set_aside.is_none() {
                    running.set_aside = Some(now + set_aside);
                }
            }
            self.counts.rejections_joined += 1;
            return Rejected::Proceed(Plan::wait());
        }
        let held = self.held(now);
        let mut possible = Sure::Yes;
        if let Some(failure) = &self.failure {
            let blocked = failure.in_backoff(held, now);
            let before = self.backoff_ended_by.filter(|(by, _)| *by == tok).map_or(Sure::No, |(_, certain)| certain);
            let ends = Sure::when(failure.ends_on_rejection(held, now)).and(before.not());
            possible = possible.and(blocked.not().or(ends));
        }
        possible = possible.and(self.cancelled.in_backoff(false, now).not());
        possible = possible.and(self.throttled_fetch_is_due(tok, now));
        // The bucket is a matter of certainty only if nothing else is uncertain.
        let cost = if self.toks[tok].accepted { 1 } else { 6 };
        if !possible.possible() || !self.bucket.has(cost, now) {
            if possible.possible() {
                self.counts.bucket_empty += 1;
                if self.toks[tok].accepted && self.bucket.is_overused() && self.throttle.is_none() {
                    self.counts.bucket_overused += 1;
                    self.begin_throttle(self.toks[tok].began, now);
                }
            }
            return Rejected::Return;
        }
        let plan = Plan { fetch: possible, ..Plan::fetch(if throttle { Cause::Throttled } else { Cause::Rejection }) };
        if possible == Sure::Yes { Rejected::Proceed(plan) } else { Rejected::Either(plan) }
    }

    /// A fetch starts because `tok` was rejected.
    pub(crate) fn rejection_fetches(&mut self, tok: usize, now: i64) {
        let cost = if self.toks[tok].accepted { 1 } else { 6 };
        self.bucket.take(cost, now);
        let due = self.renewal_is_due(tok, now);
        if let Some(state) = &mut self.throttle {
            if now - state.last_fetch >= interval(state.fetches) {
                state.fetches += 1;
            }
            if due.possible() {
                state.renewed_at = Some(now);
                self.counts.renewed_early += 1;
            }
        }
        let held = self.held(now);
        if self.failure.take_if(|failure| failure.in_backoff(held, now) == Sure::Yes).is_some() {
            self.backoff_ended_by = Some((tok, Sure::Yes));
            self.counts.backoffs_ended_by_rejection += 1;
        } else if self.in_backoff(held, now) == Sure::Maybe {
            // It is unknown whether the rejection ended the backoff.
            self.backoff_ended_by = Some((tok, Sure::Maybe));
            self.failure = None;
        }
    }

    fn throttled_fetch_is_due(&self, tok: usize, now: i64) -> Sure {
        let Some(state) = &self.throttle else { return Sure::Yes };
        if now - state.last_fetch >= interval(state.fetches) { Sure::Yes } else { self.renewal_is_due(tok, now) }
    }

    fn renewal_is_due(&self, tok: usize, now: i64) -> Sure {
        let Some(state) = &self.throttle else { return Sure::No };
        if state.renewed_at.is_some_and(|at| now - at < 80 * SECOND) {
            return Sure::No;
        }
        let row = self.toks[tok].row;
        let long = |longest: u32| row >= 10 && row >= 3 * longest;
        let dead = self.toks[tok].confirmed_at.is_some_and(|at| now - at >= 5 * SECOND);
        match (dead || long(state.longest_row.1), long(state.longest_row.0)) {
            (true, _) => Sure::Yes,
            (false, true) => Sure::Maybe,
            (false, false) => Sure::No,
        }
    }

    // ---- invalidate and rotate

    fn remove_tokens(&mut self) {
        (self.current, self.kept, self.early, self.forgotten) = (None, None, None, true);
        for tok in &mut self.toks {
            tok.confirmed_at = None;
        }
        if let Some(running) = &mut self.running {
            running.set_aside = None;
        }
    }

    pub(crate) fn invalidate(&mut self, now: i64) {
        self.settle(now);
        self.remove_tokens();
        self.invalidate_flight(now);
    }

    fn invalidate_flight(&mut self, now: i64) {
        if let Some(running) = &mut self.running {
            self.counts.fetches_outdated += u64::from(!running.outdated && !running.cancelled);
            running.outdated = true;
        }
        self.forget.fetch_is_due = true;
        let ends = self.failure.as_ref().is_none_or(|failure| failure.transient && failure.requested.is_none());
        let in_backoff = self.in_backoff(Held::Nothing, now).or(self.cancelled.in_backoff(false, now));
        if !ends || !in_backoff.possible() || lately(self.forget.backoff_ended, now) {
            return;
        }
        if in_backoff == Sure::Maybe || lately(self.forget.backoff_maybe_ended, now) {
            // From now on it is unknown whether there is a backoff.
            self.forget.backoff_maybe_ended = Some(now);
            self.failure.iter_mut().for_each(Failure::blur);
            self.cancelled.blur();
        } else {
            self.failure = None;
            self.cancelled = Cancelled::default();
            self.forget.backoff_ended = Some(now);
        }
    }

    pub(crate) fn rotate(&mut self, now: i64) {
        self.settle(now);
        self.remove_tokens();
        self.throttle = None;
        self.rejected.clear();
        self.replay_rejected = None;
        if self.running.as_ref().is_some_and(|running| running.by_rotation) {
            self.counts.rotations_during_their_fetch += 1;
            self.forget.rotation_is_due = true;
            return self.invalidate_flight(now);
        }
        if lately(self.forget.rotated, now) {
            self.counts.rotations_too_often += 1;
            self.forget.rotation_is_due = true;
            return self.invalidate_flight(now);
        }
        self.forget.fetch_is_due = false;
        if let Some(running) = &mut self.running {
            running.outdated = true;
        }
        self.rotate_in_full(now);
    }

    /// A fetch that is not outdated began after the call, and continues.
    fn rotate_in_full(&mut self, now: i64) {
        if let Some(running) = self.running.as_mut().filter(|running| running.outdated) {
            self.counts.fetches_cancelled_by_rotation += u64::from(!running.cancelled);
            running.cancelled = true;
        }
        (self.failure, self.transient, self.permanent, self.run_began) = (None, 0, 0, None);
        self.cancelled = Cancelled::default();
        self.forget.rotated = Some(now);
        self.forget.rotation_fetches = true;
    }
}

/// Rule 19: the shortest time between two fetches.
fn interval(fetches: u32) -> i64 {
    ((10 * SECOND) << fetches.min(10)).min(10 * MINUTE)
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("current", &self.current.map(|tok| &self.toks[tok]))
            .field("kept", &self.kept)
            .field("running", &self.running)
            .field("failure", &self.failure)
            .field("throttle", &self.throttle)
            .field("forget", &self.forget)
            .field("bucket", &self.bucket)
            .field("early", &self.early)
            .finish_non_exhaustive()
    }
}
