//! The expected behavior, computed from the requests and responses of the issuer, and not from what the source reports.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tower_bearer_auth::{Error, ErrorKind, SourceStats, Token};

use super::time::Moment;

pub(crate) const KEYS: usize = 4;
const HOUR: i64 = 3_600_000;

/// The state at the start of a call. It decides which tokens the call may get.
#[derive(Clone, Copy)]
pub(crate) struct CallStart {
    at: Moment,
    /// The call may not get a token of older credentials, or of a fetch before the last invalidation.
    epoch: u32,
    first_fetch: usize,
    /// How many tokens had been issued.
    issues: usize,
    /// How many fetches of its key had been cancelled.
    cancelled: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Fetch {
    Running,
    Ended,
}

/// A token. The issuer may return the same secret several times.
struct Secret {
    user: u8,
    epoch: u32,
    last_fetch: usize,
    /// One for each time that the issuer returned it.
    issues: Vec<Issued>,
}

struct Issued {
    number: usize,
    start: Moment,
    usable_until: Moment,
    expires_at: Moment,
}

/// How the last fetch of a key ended, and when the next one may start.
#[derive(Clone)]
enum Last {
    None,
    Running,
    Cancelled,
    Succeeded { next: Moment, repeated: bool, arrived: Moment },
    Failed,
}

#[derive(Clone)]
struct Failure {
    at: Moment,
    kind: ErrorKind,
    least: i64,
    most: i64,
    /// After how many ms a rejection ends the backoff, if one does.
    ends_on_rejection: Option<i64>,
}

struct Key {
    last: Last,
    failure: Option<Failure>,
    /// Permanent failures in a row: at least and at most. An invalidation may start the row over.
    permanent: (u32, u32),
    /// A rejection since the last fetch allows a fetch.
    rejected: bool,
    cleared: bool,
    /// The token that was stamped last, if nothing has happened to it since.
    known: Option<(u64, String)>,
    /// The rejected secret that the running fetch is to replace.
    replacing: Option<String>,
    refreshes: Vec<i64>,
    epoch: u32,
    first_fetch: usize,
    cancelled: u64,
    /// The number of fetches in a row that were cancelled, and the time of the last one.
    cancelled_in_a_row: (u64, i64),
}

/// The result of a fetch.
pub(crate) enum FetchResult<'a> {
    Token { secret: &'a str, lifetime: Option<i64> },
    Error(&'a Error),
}

pub(crate) struct Oracle {
    /// Whether keys may be evicted, and their state with them.
    pub(crate) bounded: bool,
    fetches: Vec<Fetch>,
    user: Vec<u8>,
    start: Vec<Moment>,
    arrived: usize,
    secrets: HashMap<String, Secret>,
    rejected_secrets: HashSet<String>,
    accepted: HashSet<u64>,
    keys: [Key; KEYS],
    seen: [bool; KEYS],
    expected: SourceStats,
}

/// Rule 1, computed independently: lifetime, longest window, margin.
fn rule_1(lifetime: Option<i64>) -> (i64, i64, i64) {
    let lifetime = lifetime.filter(|lifetime| *lifetime != 0).unwrap_or(300_000).clamp(1_000, 24 * HOUR);
    if lifetime < 2_000 {
        (lifetime, 0, 0)
    } else {
        (lifetime, (lifetime / 2).min(HOUR / 3), (lifetime / 4).min(30_000))
    }
}

impl CallStart {
    /// The first runtime polls the caller from now on, and its wait starts again.
    pub(crate) fn moves_to_first(&mut self, now: Moment) {
        self.at = now;
    }
}

impl Oracle {
    pub(crate) fn new(bounded: bool) -> Self {
        let key = || Key {
            last: Last::None,
            failure: None,
            permanent: (0, 0),
            rejected: false,
            cleared: false,
            known: None,
            replacing: None,
            refreshes: Vec::new(),
            epoch: 0,
            first_fetch: 0,
            cancelled: 0,
            cancelled_in_a_row: (0, 0),
        };
        Self {
            bounded,
            fetches: Vec::new(),
            user: Vec::new(),
            start: Vec::new(),
            arrived: 0,
            secrets: HashMap::new(),
            rejected_secrets: HashSet::new(),
            accepted: HashSet::new(),
            keys: std::array::from_fn(|_| key()),
            seen: [false; KEYS],
            expected: SourceStats::default(),
        }
    }

    fn key(&mut self, user: u8) -> &mut Key {
        &mut self.keys[usize::from(user)]
    }

    pub(crate) fn running(&self, user: u8) -> Vec<usize> {
        let of_key = |id: &usize| self.user[*id] == user && self.fetches[*id] == Fetch::Running;
        (0..self.fetches.len()).filter(of_key).collect()
    }

    pub(crate) fn is_running(&self, fetch: usize) -> bool {
        self.fetches[fetch] == Fetch::Running
    }

    pub(crate) fn was_seen(&self, user: u8) -> bool {
        self.seen[usize::from(user)]
    }

    // ---- at the issuer

    /// A token request has arrived. There must be a reason for it.
    pub(crate) fn fetch_started(&mut self, user: u8, now: Moment) {
        assert!(self.running(user).is_empty(), "a second fetch for key {user}");
        let bounded = self.bounded;
        let key = self.key(user);
        let since = |then: Moment| now.mono - then.mono;
        let due = match (&key.last, &key.failure) {
            (Last::None | Last::Cancelled, _) => true,
            (Last::Running, _) => false,
            (Last::Succeeded { next, repeated, arrived }, _) => {
                now.reached(*next) || *repeated && since(*arrived) >= 10_000 || key.rejected || key.cleared
            }
            (Last::Failed, Some(failure)) => {
                let rejected = key.rejected && failure.ends_on_rejection.is_some_and(|ms| since(failure.at) >= ms);
                since(failure.at) >= failure.least || key.cleared || rejected
            }
            (Last::Failed, None) => unreachable!(),
        };
        let ended = self.secrets.values().filter(|secret| secret.user == user);
        let ended = ended.flat_map(|secret| &secret.issues).any(|issued| now.reached(issued.usable_until));
        let key = &mut self.keys[usize::from(user)];
        let repeated = matches!(key.last, Last::Succeeded { repeated: true, .. });
        assert!(due || bounded || repeated && ended, "a token request for key {user} without a reason");
        (key.rejected, key.cleared, key.last) = (false, false, Last::Running);
        self.fetches.push(Fetch::Running);
        self.user.push(user);
        self.start.push(now);
        self.expected.fetches += 1;
        self.expected.fetches_in_flight += 1;
    }

    /// Whether the issuer may return `secret` again in this simulation.
    pub(crate) fn may_repeat(&self, user: u8, secret: &str) -> bool {
        let replacing = self.keys[usize::from(user)].replacing.as_deref() == Some(secret);
        !self.bounded && (replacing || !self.rejected_secrets.contains(secret))
    }

    pub(crate) fn completed(&mut self, fetch: usize, result: &FetchResult<'_>, epoch: u32, now: Moment) {
        let (user, start) = (self.user[fetch], self.start[fetch]);
        let failure = match result {
            FetchResult::Error(error) => Some(failure(error, self.key(user).permanent, now)),
            FetchResult::Token { secret, lifetime } => {
                let known = self.secrets.contains_key(*secret);
                let replacing = self.key(user).replacing.as_deref() == Some(*secret);
                let (lifetime, window, margin) = rule_1(*lifetime);
                let mono = start.mono.min(now.mono);
                let took = now.mono - mono;
                let agree = (now.wall - start.wall - took).abs() <= 1_000;
                let wall = if agree { start.wall } else { now.wall - took };
                let after = |ms: i64| Moment { mono: mono + ms, wall: wall + ms, real: now.real };
                let expired = now.reached(after(lifetime));
                if expired || replacing {
                    let error = Error::transient("").with_kind(ErrorKind::Unavailable);
                    Some(failure(&error, (0, 0), now))
                } else {
                    self.arrived += 1;
                    let issued = Issued {
                        number: self.arrived,
                        start: after(0),
                        usable_until: after(lifetime - margin),
                        expires_at: after(lifetime),
                    };
                    let late = now.reached(issued.usable_until);
                    let secret = self.secrets.entry((*secret).to_owned()).or_insert(Secret {
                        user,
                        epoch,
                        last_fetch: fetch,
                        issues: Vec::new(),
                    });
                    secret.last_fetch = fetch;
                    secret.issues.push(issued);
                    let key = self.key(user);
                    let next = after(if late { 0 } else { lifetime - window });
                    key.last = Last::Succeeded { next, repeated: known, arrived: now };
                    key.failure = None;
                    self.expected.fetches_succeeded += 1;
                    None
                }
            }
        };
        let key = self.key(user);
        key.replacing = None;
        key.cancelled_in_a_row.0 = 0;
        let failed_permanently = matches!(result, FetchResult::Error(error) if !error.is_transient());
        let (least, most) = key.permanent;
        key.permanent = if failed_permanently { (least + 1, most + 1) } else { (0, 0) };
        if failure.is_some() {
            key.last = Last::Failed;
            key.failure = failure;
            self.expected.fetches_failed += 1;
        } else {
            key.known = None;
        }
        self.fetches[fetch] = Fetch::Ended;
        self.expected.fetches_in_flight -= 1;
    }

    /// The client dropped the request before a response: it timed out, or its runtime ended.
    pub(crate) fn fetch_dropped(&mut self, fetch: usize, now: Moment) {
        let age = now.real - self.start[fetch].real;
        if age >= 12_000 {
            let error = Error::transient("").with_kind(ErrorKind::Timeout);
            return self.completed(fetch, &FetchResult::Error(&error), 0, now);
        }
        self.fetches[fetch] = Fetch::Ended;
        self.expected.fetches_in_flight -= 1;
        self.expected.fetches_cancelled += 1;
        let key = self.key(self.user[fetch]);
        key.last = Last::Cancelled;
        key.cancelled += 1;
        key.cancelled_in_a_row = (key.cancelled_in_a_row.0 + 1, now.mono);
    }

    /// A fetch was cancelled before it sent a request.
    pub(crate) fn cancelled_before_start(&mut self, user: u8, now: Moment) {
        self.expected.fetches += 1;
        self.expected.fetches_cancelled += 1;
        let key = self.key(user);
        key.cancelled += 1;
        key.cancelled_in_a_row = (key.cancelled_in_a_row.0 + 1, now.mono);
    }

    // ---- calls of the source

    /// The key was invalidated or its credentials were rotated.
    pub(crate) fn forgotten(&mut self, user: u8, epoch: u32) {
        for fetch in self.running(user) {
            self.fetches[fetch] = Fetch::Ended;
            self.expected.fetches_in_flight -= 1;
            self.expected.fetches_discarded += 1;
        }
        let first_fetch = self.fetches.len();
        let key = self.key(user);
        if matches!(key.last, Last::Running) {
            key.last = Last::Cancelled;
        }
        let rotated = epoch != key.epoch;
        key.permanent = (0, if rotated { 0 } else { key.permanent.1 });
        (key.epoch, key.first_fetch, key.cleared) = (epoch, first_fetch, true);
        (key.known, key.replacing) = (None, None);
    }

    pub(crate) fn jumped(&mut self) {
        for key in &mut self.keys {
            key.cleared = true;
            key.known = None;
            key.refreshes.clear();
        }
    }

    pub(crate) fn accepted(&mut self, token: &Token) {
        self.accepted.insert(token.generation());
    }

    pub(crate) fn rejected(&mut self, user: u8, token: &Token, can_retry: bool, now: Moment) {
        self.expected.rejections += 1;
        self.expected.rejections_of_unaccepted += u64::from(!self.accepted.contains(&token.generation()));
        let secret = token.expose_secret();
        let usable = self.is_usable(secret, now);
        self.rejected_secrets.insert(secret.to_owned());
        let key = self.key(user);
        let current = key.known.as_ref().is_some_and(|(known, _)| *known == token.generation()) && usable;
        key.known = None;
        if can_retry {
            key.rejected = true;
        }
        if current && can_retry {
            key.replacing = Some(secret.to_owned());
            key.refreshes.push(now.mono);
            let lately = key.refreshes.iter().filter(|at| now.mono - **at < 60_000).count();
            assert!(lately <= 12, "{lately} refreshes in a minute for key {user}");
        }
    }

    // ---- results of callers

    pub(crate) fn calls(&mut self, user: u8, now: Moment) -> CallStart {
        self.seen[usize::from(user)] = true;
        self.looks(user, now)
    }

    pub(crate) fn looks(&self, user: u8, now: Moment) -> CallStart {
        let key = &self.keys[usize::from(user)];
        CallStart {
            at: now,
            epoch: key.epoch,
            first_fetch: key.first_fetch,
            issues: self.arrived,
            cancelled: key.cancelled,
        }
    }

    fn is_usable(&self, secret: &str, now: Moment) -> bool {
        self.secrets[secret].issues.iter().any(|issued| !now.reached(issued.usable_until))
    }

    /// Whether a call must return at once: nothing has happened to the token that the last call got.
    pub(crate) fn must_be_served(&self, user: u8, now: Moment) -> bool {
        let known = self.keys[usize::from(user)].known.as_ref();
        let lasts = |(_, secret): &(u64, String)| {
            self.secrets[secret].issues.iter().all(|issued| !now.reached(issued.usable_until))
        };
        !self.bounded && known.is_some_and(lasts)
    }

    /// A token may be stamped only if it is for this key, new enough, and not expired.
    pub(crate) fn stamped(&mut self, user: u8, start: CallStart, token: &Token, now: Moment) {
        let secret = &self.secrets[token.expose_secret()];
        assert_eq!(secret.user, user, "the token of another key");
        assert!(secret.epoch >= start.epoch, "a token of the old credentials");
        assert!(secret.last_fetch >= start.first_fetch, "a token from before the invalidation");
        let usable = self.is_usable(token.expose_secret(), now);
        let for_waiters = |issued: &Issued| issued.number > start.issues && !now.reached(issued.expires_at);
        assert!(usable || secret.issues.iter().any(for_waiters), "stamped after it had expired");
        let early = secret.issues.iter().all(|issued| issued.start.mono > now.mono + 60_000);
        assert!(!early, "a token from before the clock was set back");
        if usable {
            self.key(user).known = Some((token.generation(), token.expose_secret().to_owned()));
        }
    }

    pub(crate) fn returned_at_once(&mut self, user: u8, start: CallStart, result: &Result<Token, Error>, now: Moment) {
        match result {
            Ok(token) => {
                self.expected.hits += 1;
                self.stamped(user, start, token, now);
            }
            Err(error) => {
                self.expected.failed_fast += 1;
                assert!(!self.must_be_served(user, now), "a usable token was removed: {error}");
                let key = self.key(user);
                // A clock that reads up to a minute earlier counts as a difference between threads.
                let in_backoff = |since: i64, most: i64| (-60_000..most).contains(&(now.mono - since));
                let (cancelled, cancelled_at) = key.cancelled_in_a_row;
                let by_cancellations =
                    cancelled >= 2 && error.kind() == ErrorKind::Unavailable && in_backoff(cancelled_at, 30_000);
                let by_failure = key
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.kind == error.kind() && in_backoff(failure.at.mono, failure.most));
                assert!(by_cancellations || by_failure, "failed fast without a reason: {error}");
                let next = error.retry_after().expect("failed fast without a time");
                assert!(!next.is_zero() && next <= Duration::from_secs(90), "the next try in {next:?}");
            }
        }
    }

    pub(crate) fn waits(&mut self, user: u8, now: Moment) {
        assert!(!self.must_be_served(user, now), "a request waits beside a usable token");
        self.expected.waits += 1;
        self.expected.waiting += 1;
    }

    pub(crate) fn returned_after_a_wait(
        &mut self,
        user: u8,
        start: CallStart,
        result: &Result<Token, Error>,
        now: Moment,
    ) {
        self.expected.waiting -= 1;
        match result {
            Ok(token) => {
                self.expected.waits_served += 1;
                self.stamped(user, start, token, now);
            }
            Err(error) => {
                self.expected.waits_failed += 1;
                let key = self.key(user);
                // A clock that was set back and then jumps forward again finds its old backoff. A waiter sees that only if its
                // fetch was cancelled.
                let found_again =
                    |failure: &Failure| key.cancelled > start.cancelled && now.mono - failure.at.mono < failure.most;
                let shared =
                    |failure: &Failure| failure.kind == error.kind() && (failure.at == now || found_again(failure));
                let fits = key.failure.as_ref().is_some_and(shared)
                    || error.kind() == ErrorKind::Timeout && now.real - start.at.real >= 15_000
                    || error.kind() == ErrorKind::NoRuntime && key.cancelled - start.cancelled >= 3;
                assert!(fits, "the error of another fetch: {error}");
            }
        }
    }

    pub(crate) fn left(&mut self) {
        self.expected.waiting -= 1;
        self.expected.waits_abandoned += 1;
    }

    // ---- after every step

    pub(crate) fn check_waiting(&self, user: u8, start: CallStart, now: Moment) {
        assert_eq!(self.running(user).len(), 1, "a waiter of key {user} without a fetch");
        assert!(now.real - start.at.real < 15_000, "a waiter without a result");
    }

    pub(crate) fn check_stats(&self, stats: &SourceStats, max_keys: usize) {
        let seen = self.seen.iter().filter(|seen| **seen).count() as u64;
        let mut expected = self.expected;
        // Only the source can count these.
        expected.budget_exhausted = stats.budget_exhausted;
        assert!(stats.budget_exhausted <= stats.rejections);
        if self.bounded {
            (expected.keys, expected.evicted) = (stats.keys, stats.evicted);
            (expected.rejections, expected.rejections_of_unaccepted) =
                (stats.rejections, stats.rejections_of_unaccepted);
            assert!(stats.keys <= max_keys as u64 + stats.fetches_in_flight, "{} keys", stats.keys);
        } else {
            expected.keys = seen;
        }
        assert_eq!(*stats, expected, "the statistics do not reconcile");
        assert_eq!(stats.waits, stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting);
        let ended = stats.fetches_succeeded + stats.fetches_failed + stats.fetches_cancelled + stats.fetches_discarded;
        assert_eq!(stats.fetches, ended + stats.fetches_in_flight);
    }
}

/// Rules 6 to 8: the shortest and the longest backoff after a failure without a usable token. `permanent` is the number of
/// permanent failures in a row before this one, at least and at most.
fn failure(error: &Error, permanent: (u32, u32), at: Moment) -> Failure {
    let shortest = |failures: u32| (2_500_i64 << failures.min(10)).min(30_000);
    let (least, most) =
        if error.is_transient() { (100, 30_000) } else { (shortest(permanent.0), 2 * shortest(permanent.1)) };
    let requested = error.retry_after().map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    let delay = requested.map(|delay| delay.min(60_000));
    Failure {
        at,
        kind: error.kind(),
        least: least.max(delay.unwrap_or(0)),
        // The step of a transient failure, up to 30 s, may be added. It is longer than a tenth of 60 s.
        most: most.max(delay.map_or(0, |delay| delay + 30_000)) + 1,
        ends_on_rejection: error.is_transient().then(|| requested.map_or(0, |delay| delay.min(300_000))),
    }
}
