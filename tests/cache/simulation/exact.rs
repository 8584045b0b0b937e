//! Comparing what the source did with the rules of a key.

use tower_bearer_auth::{Error, ErrorKind, FetchContext, Token};

use super::backoff::Held;
use super::oracle::{CallStart, FetchResult, Oracle, Stamp};
use super::rules::{Completed, Ended, MAX_WAIT, Plan, Rejected, Rules, Sure, Tok, Wanted};
use super::time::Moment;

/// What a call did at once.
#[derive(Clone, Copy)]
pub(crate) enum AtOnce<'a> {
    /// `None`: a token that the caller does not see.
    Stamped(Option<Stamp<'a>>),
    Failed(&'a Error),
    Waits,
}

fn us(error: &Error) -> Option<i64> {
    error.retry_after().map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

impl Oracle {
    /// A call looked the token up for the first time. `started` is whether it started a fetch. Returns the index of the
    /// token.
    pub(crate) fn looked_up(
        &mut self,
        user: u8,
        start: &CallStart,
        at_once: AtOnce<'_>,
        started: bool,
        now: Moment,
    ) -> Option<usize> {
        let tok = self.looked_up_exactly(user, start, at_once, started, now.mono);
        let must_be_served = self.must_be_served(user, now);
        let on_demand = !matches!(start.wanted, Wanted::Usable | Wanted::WarmUp);
        match at_once {
            AtOnce::Stamped(stamp) => {
                self.expected.hits += 1;
                if let Some(stamp) = stamp {
                    self.stamped(user, start, stamp.secret, now);
                }
            }
            AtOnce::Failed(error) => {
                self.expected.failed_fast += 1;
                self.failed_fast(user, start, error, now);
            }
            AtOnce::Waits => {
                assert!(!must_be_served || on_demand, "a request waits beside a usable token");
                self.expected.waits += 1;
                self.expected.waiting += 1;
            }
        }
        tok
    }

    fn looked_up_exactly(
        &mut self,
        user: u8,
        start: &CallStart,
        at_once: AtOnce<'_>,
        started: bool,
        now: i64,
    ) -> Option<usize> {
        let (set_aside, patience) = (self.set_aside(), self.patience(start, start.at));
        let rules = self.exact(user)?;
        let plan = rules.request(start.wanted, patience, true, now);
        match at_once {
            AtOnce::Stamped(stamp) => {
                let tok = plan.stamp.unwrap_or_else(|| panic!("stamped, and allowed is {plan:?}: {rules:?}"));
                if let Some(stamp) = stamp {
                    see(rules, tok, stamp);
                }
            }
            AtOnce::Failed(error) => {
                assert!(plan.fail.contains(&error.kind()), "failed with {error:?}, and allowed is {plan:?}: {rules:?}");
                narrow(rules, error, now);
            }
            AtOnce::Waits => assert!(plan.wait, "waits, and allowed is {plan:?}: {rules:?}"),
        }
        // A plan with a fetch that must start has no other outcome than the wait for it.
        let fetch = match (at_once, plan.fetch) {
            (AtOnce::Failed(_), Sure::Maybe) => Sure::No,
            (_, fetch) => fetch,
        };
        rules.follow(&Plan { fetch, ..plan }, start.wanted, started, set_aside, now);
        rules.usable(now)
    }

    /// A caller that waits looked the token up again, or it did not.
    pub(crate) fn looked_again(&mut self, user: u8, start: &CallStart, started: bool, now: Moment) {
        let (set_aside, patience) = (self.set_aside(), self.patience(start, now));
        if started && let Some(rules) = self.exact(user) {
            let plan = rules.request(Wanted::Usable, patience, false, now.mono);
            rules.follow(&plan, Wanted::Usable, started, set_aside, now.mono);
        }
    }

    /// A wait ended with a token. Returns its index.
    pub(crate) fn served(
        &mut self,
        user: u8,
        start: &CallStart,
        stamp: Option<Stamp<'_>>,
        now: Moment,
    ) -> Option<usize> {
        self.expected.waits_served += 1;
        self.expected.waiting -= 1;
        let stamp = stamp?;
        self.stamped(user, start, stamp.secret, now);
        self.stamped_exactly(user, start, stamp, now)
    }

    /// A replay was sent.
    pub(crate) fn replayed(&mut self, user: u8, start: &CallStart, secret: &str, now: Moment) -> Option<usize> {
        self.expected.replays += 1;
        self.counts.replays += 1;
        self.stamped(user, start, secret, now);
        self.stamped_exactly(user, start, Stamp { secret, generation: None }, now)
    }

    /// A caller that waited may get the current token, or a token that is for the waiters of its fetch alone.
    fn stamped_exactly(&mut self, user: u8, start: &CallStart, stamp: Stamp<'_>, now: Moment) -> Option<usize> {
        let second = self.second_token(user, start, now);
        let rules = self.exact(user)?;
        rules.settle_tokens(now.mono);
        let same = |tok: &usize| {
            let Tok { secret, generation, .. } = &rules.toks[*tok];
            secret == stamp.secret
                && (generation.is_none() || stamp.generation.is_none() || *generation == stamp.generation)
        };
        if let Some(tok) = rules.usable(now.mono).filter(same) {
            see(rules, tok, stamp);
            return Some(tok);
        }
        let timed_out = now.real - start.at.real >= MAX_WAIT;
        if let Some(tok) = rules.usable_or_set_aside(now.mono).filter(|_| timed_out).filter(same) {
            see(rules, tok, stamp);
            return Some(tok);
        }
        let fits = |tok: &usize| {
            let Tok { for_waiters_only, expires_at, .. } = &rules.toks[*tok];
            same(tok) && (*for_waiters_only && now.mono < *expires_at || start.replays && start.at.mono < *expires_at)
        };
        let tok = (0..rules.toks.len()).rev().find(fits);
        if tok.is_none()
            && let Some(tok) = second.filter(same)
        {
            assert!(now.mono < rules.toks[tok].expires_at, "an expired token was stamped: {rules:?}");
            see(rules, tok, stamp);
            self.counts.second_removed_token += 1;
            return Some(tok);
        }
        let tok = tok.unwrap_or_else(|| panic!("{} was stamped, and it is not current: {rules:?}", stamp.secret));
        see(rules, tok, stamp);
        Some(tok)
    }

    /// A wait ended with an error.
    pub(crate) fn not_served(&mut self, user: u8, start: &CallStart, needs_new: bool, error: &Error, now: Moment) {
        self.expected.waits_failed += 1;
        self.expected.waiting -= 1;
        self.wait_failed(user, start, error, now);
        let patience = self.patience(start, now);
        let just_forgotten = self.was_just_forgotten(user, now);
        let Some(rules) = self.exact(user) else { return };
        rules.settle_tokens(now.mono);
        assert!(needs_new || rules.usable(now.mono).is_none(), "a caller failed beside a usable token: {error}");
        let timed_out = error.kind() == ErrorKind::Timeout;
        if timed_out || error.kind() == ErrorKind::NoRuntime || needs_new {
            return;
        }
        if let Some(failure) = rules.failure.as_ref().filter(|failure| failure.kind == error.kind()) {
            let waits = failure.is_waited_for(rules.run_began, patience, now.mono);
            // A rotation that came too soon has taken effect, or a call has just ended the backoff.
            let rotates = rules.rotates_now(now.mono);
            assert!(
                waits != Sure::Yes || rotates || just_forgotten,
                "a caller failed, and the backoff is within its patience: {rules:?}"
            );
            // The time of the next try is that of the end of the fetch, when the key may have had a token.
            if !rotates && !just_forgotten {
                narrow(rules, error, now.mono);
            }
        }
    }

    pub(crate) fn left(&mut self) {
        self.expected.waiting -= 1;
        self.expected.waits_abandoned += 1;
    }

    /// The fetch of the key has arrived at the issuer.
    pub(crate) fn arrived(&mut self, user: u8, context: &FetchContext) {
        let Some(rules) = self.exact(user) else { return };
        let (reason, replaces) = rules.arrives();
        assert_eq!(context.reason(), reason, "the reason of a fetch");
        assert!(replaces.is_none_or(|secret| context.replaces(secret)), "the token that a fetch replaces");
    }

    pub(super) fn completed_exactly(&mut self, user: u8, result: &FetchResult<'_>, now: Moment) -> Option<Ended> {
        let rules = self.exact(user)?;
        let completed = match result {
            FetchResult::Error(error) => Completed::Error(error),
            FetchResult::Token { secret, lifetime } => {
                let (lifetime, window, margin) = Self::rule_1(*lifetime);
                // The start is drawn from the first tenth of the window.
                let range = (lifetime - window, lifetime - window + window / 10 + 1);
                Completed::Token { secret, lifetime, window: (window > 0).then_some(range), margin }
            }
        };
        Some(rules.completes(&completed, now.mono))
    }

    /// A response to a request with this token rejects it. `may_retry` is what the source said, if the caller sees it.
    /// Returns whether the request waits for a new token or is replayed.
    pub(crate) fn reject_exactly(
        &mut self,
        user: u8,
        tok: usize,
        may_retry: Option<bool>,
        started: bool,
        now: Moment,
    ) -> Sure {
        let start = self.looks(user, Wanted::Usable, now);
        let (set_aside, patience) = (self.set_aside(), self.patience(&start, now));
        let Some(rules) = self.exact(user) else { return Sure::Maybe };
        let now = now.mono;
        if !rules.is_current(tok, now) {
            let plan = rules.request(Wanted::Usable, patience, true, now);
            let fetch = if may_retry.is_some() && !started { Sure::No } else { plan.fetch };
            let helps = match () {
                () if rules.usable(now).is_none() && rules.failure.is_some() => Sure::Maybe,
                () if plan.fail.is_empty() => Sure::Yes,
                () if plan.wait || plan.stamp.is_some() => Sure::Maybe,
                () if rules.in_backoff(Held::Nothing, now) == Sure::Yes => Sure::No,
                () => Sure::Maybe,
            };
            rules.follow(&Plan { fetch, ..plan }, Wanted::Usable, started, set_aside, now);
            return helps;
        }
        match rules.reject(tok, set_aside, now) {
            Rejected::Return => {
                assert!(!started, "a rejection started a fetch: {rules:?}");
                Sure::No
            }
            Rejected::Proceed(plan) | Rejected::Either(plan) => {
                if started {
                    rules.rejection_fetches(tok, now);
                }
                let helps = if plan.fetch == Sure::Maybe { Sure::when(started) } else { Sure::Yes };
                rules.follow(&plan, Wanted::Usable, started, set_aside, now);
                helps
            }
        }
    }
}

impl Oracle {
    /// A probe looked at the key, and starts a fetch only where one is due.
    pub(crate) fn probed(&mut self, user: u8, start: &CallStart, started: bool, now: Moment) {
        let (set_aside, patience) = (self.set_aside(), self.patience(start, now));
        let Some(rules) = self.exact(user) else { return };
        let plan = rules.request(Wanted::Usable, patience, true, now.mono);
        rules.follow(&plan, Wanted::Usable, started, set_aside, now.mono);
    }

    /// The state of the key was read.
    pub(crate) fn looked_at(&mut self, user: u8, peeked: Option<&Token>, dead: bool, now: Moment) {
        let seen = self.was_seen(user);
        let swept = self.setting.invented;
        let Some(rules) = self.exact(user).filter(|_| seen) else { return };
        rules.settle(now.mono);
        if let Some(tok) = rules.usable(now.mono).filter(|tok| swept && !dead && rules.is_dead(*tok)) {
            // A sweep forgets the row of a token that is not current.
            rules.forget_row(tok);
        }
        let usable = rules.usable(now.mono);
        let secret = usable.map(|tok| rules.toks[tok].secret.as_str());
        assert_eq!(peeked.map(Token::expose_secret), secret, "the current token: {rules:?}");
        assert_eq!(dead, usable.is_some_and(|tok| rules.is_dead(tok)), "confirmed dead: {rules:?}");
        if let (Some(token), Some(tok)) = (peeked, usable) {
            rules.seen(tok, token.expose_secret(), token.generation());
        }
    }

    /// A response of the API rejected a token of a run without exact rules.
    pub(crate) fn rejected_unseen(&mut self, user: u8) {
        assert!(self.rules.is_empty());
        self.rejected_without_rules(user);
    }

    pub(crate) fn count_rejection(&mut self, user: u8, tok: usize, now: Moment) {
        let first = self.exact(user).is_some_and(|rules| !rules.is_accepted(tok));
        self.expected.rejections += 1;
        self.expected.rejections_of_unaccepted += u64::from(first);
        self.count_early(user, tok, now);
    }

    pub(crate) fn count_early(&mut self, user: u8, tok: usize, now: Moment) {
        let early = self.exact(user).is_some_and(|rules| rules.is_rejected_early(tok, now.mono));
        self.expected.tokens_rejected_early += u64::from(early);
    }

    pub(crate) fn reject_loosely(&mut self, user: u8, tok: usize, may_retry: bool, now: Moment) {
        let secret = self.exact(user).map(|rules| rules.toks[tok].secret.clone()).expect("exact rules");
        self.forgets_known(user, &secret, may_retry, now);
    }
}

fn see(rules: &mut Rules, tok: usize, stamp: Stamp<'_>) {
    assert_eq!(rules.toks[tok].secret, stamp.secret, "another token than the current one was stamped: {rules:?}");
    if let Some(generation) = stamp.generation {
        rules.seen(tok, stamp.secret, generation);
    }
}

/// The error of a backoff says when the next try is.
fn narrow(rules: &mut Rules, error: &Error, now: i64) {
    let held = rules.held(now);
    if rules.was_cancelled() {
        return;
    }
    if let (Some(failure), Some(left)) = (rules.failure.as_mut(), us(error))
        && failure.kind == error.kind()
    {
        failure.narrow(held, left, now);
    }
}
