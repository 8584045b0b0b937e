//! The expected behavior, computed from the requests and responses of the issuer and the API, and not from what the source
//! reports.
//!
//! What is here holds in every run, also if clocks jump and keys are evicted. `exact` adds the rules of a key for the other
//! runs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tower_bearer_auth::{Error, ErrorKind, SourceStats, Token};

use super::backoff::Patience;
use super::counts::Counts;
use super::rules::{Ended, MAX_WAIT, Rules, SECOND, Wanted};
use super::time::Moment;

pub(crate) const KEYS: usize = 4;
const HOUR: i64 = 3_600_000;

/// What is true in the whole of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Whether clocks jump.
    pub(crate) jumps: bool,
    /// Whether keys may be evicted, and their state with them.
    pub(crate) bounded: bool,
    /// Whether invented users call.
    pub(crate) invented: bool,
    /// Whether there are requests through the layer, which count as hits and waits too.
    pub(crate) layered: bool,
    /// Rule 18, in ms.
    pub(crate) patience: i64,
}

/// The state at the start of a call. It decides which tokens the call may get.
#[derive(Clone, Copy)]
pub(crate) struct CallStart {
    pub(crate) at: Moment,
    pub(crate) wanted: Wanted,
    /// Whether the current token does not help the caller.
    pub(crate) needs_new: bool,
    /// Whether the wait started again with another runtime, or is the second one of a request.
    pub(crate) uncertain: bool,
    /// Whether its timer started again with another runtime. Then it may look at the key later than it would have.
    pub(crate) moved: bool,
    /// Whether the caller is a request that was rejected.
    pub(crate) replays: bool,
    /// The call may not get a token of older credentials, or of a fetch before the last invalidation.
    epoch: u32,
    first_fetch: usize,
    /// The first fetch that the caller waits for. It does not wait for one that was outdated before the caller was polled.
    first_joined: usize,
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
    /// Permanent failures in a row: at least and at most.
    permanent: (u32, u32),
    /// A rejection since the last fetch allows a fetch.
    rejected: bool,
    /// A call since the last fetch wants a new token.
    demanded: bool,
    cleared: bool,
    /// A rotation may take effect in full later, and end a backoff then.
    rotates_later: bool,
    /// The secret that was stamped last, if nothing has happened to it since.
    known: Option<String>,
    refreshes: Vec<i64>,
    epoch: u32,
    first_fetch: usize,
    /// When the key was invalidated or rotated last.
    forgotten_at: Option<Moment>,
    cancelled: u64,
    /// The number of fetches in a row that were cancelled, and the time of the last one.
    cancelled_in_a_row: (u64, i64),
    /// The fetches that returned a token, oldest first.
    served: Vec<Served>,
}

/// A fetch returned a token to its waiters.
#[derive(Clone, Copy)]
struct Served {
    fetch: usize,
    /// The number of the token, and its index in the rules of the key.
    number: usize,
    tok: Option<usize>,
    at: Moment,
    /// Whether the token was removed at the moment at which it arrived.
    removed: bool,
}

/// The result of a fetch.
pub(crate) enum FetchResult<'a> {
    Token { secret: &'a str, lifetime: Option<i64> },
    Error(&'a Error),
}

pub(crate) struct Oracle {
    pub(crate) setting: Setting,
    fetches: Vec<Fetch>,
    user: Vec<u8>,
    start: Vec<Moment>,
    arrived: usize,
    secrets: HashMap<String, Secret>,
    rejected_secrets: HashSet<String>,
    keys: [Key; KEYS],
    /// The rules of each key. Empty if clocks jump or keys may be evicted.
    pub(super) rules: Vec<Rules>,
    /// How long the last fetch that returned a token took.
    last_took: i64,
    seen: [bool; KEYS],
    pub(crate) counts: Counts,
    pub(crate) expected: SourceStats,
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
        (self.at, self.uncertain, self.moved) = (now, true, true);
    }

    /// The key is forgotten while `running` is its newest fetch. The caller is woken and was not polled, so it may not have
    /// joined that fetch.
    pub(crate) fn may_miss(&mut self, running: Option<usize>) {
        self.first_joined = running.map_or(self.first_joined, |fetch| fetch + 1);
    }

    /// A request was rejected, and waits for the second time.
    pub(crate) fn waits_again(&mut self, now: Moment) {
        (self.at, self.uncertain, self.replays) = (now, true, true);
    }
}

impl Oracle {
    pub(crate) fn new(setting: Setting) -> Self {
        let key = || Key {
            last: Last::None,
            failure: None,
            permanent: (0, 0),
            rejected: false,
            demanded: false,
            cleared: false,
            rotates_later: false,
            known: None,
            refreshes: Vec::new(),
            epoch: 0,
            first_fetch: 0,
            forgotten_at: None,
            cancelled: 0,
            cancelled_in_a_row: (0, 0),
            served: Vec::new(),
        };
        let exact = !setting.jumps && !setting.bounded;
        Self {
            setting,
            fetches: Vec::new(),
            user: Vec::new(),
            start: Vec::new(),
            arrived: 0,
            secrets: HashMap::new(),
            rejected_secrets: HashSet::new(),
            keys: std::array::from_fn(|_| key()),
            rules: if exact { (0..KEYS).map(|_| Rules::new()).collect() } else { Vec::new() },
            last_took: 0,
            seen: [false; KEYS],
            counts: Counts::default(),
            expected: SourceStats::default(),
        }
    }

    fn key(&mut self, user: u8) -> &mut Key {
        &mut self.keys[usize::from(user)]
    }

    pub(super) fn exact(&mut self, user: u8) -> Option<&mut Rules> {
        self.rules.get_mut(usize::from(user))
    }

    /// Rule 12: how long a rejected token is set aside.
    pub(super) fn set_aside(&self) -> i64 {
        (3 * self.last_took).clamp(SECOND, 5 * SECOND)
    }

    pub(super) fn patience(&self, start: &CallStart, now: Moment) -> Patience {
        let left = MAX_WAIT - (now.real - start.at.real);
        Patience {
            limit: (start.wanted != Wanted::WarmUp).then_some(self.setting.patience),
            left: if start.uncertain { (0, MAX_WAIT) } else { (left - 2, left + 2) },
        }
    }

    pub(crate) fn running(&self, user: u8) -> Vec<usize> {
        let of_key = |id: &usize| self.user[*id] == user && self.fetches[*id] == Fetch::Running;
        (0..self.fetches.len()).filter(of_key).collect()
    }

    pub(crate) fn is_running(&self, fetch: usize) -> bool {
        self.fetches[fetch] == Fetch::Running
    }

    /// Whether the issuer may respond: nothing has cancelled the fetch.
    pub(crate) fn may_respond(&self, fetch: usize) -> bool {
        self.is_running(fetch) && !self.is_cancelled(fetch)
    }

    /// Whether a rotation has cancelled a running fetch.
    pub(crate) fn is_cancelled(&self, fetch: usize) -> bool {
        let rules = self.rules.get(usize::from(self.user[fetch]));
        rules.and_then(|rules| rules.running.as_ref()).is_some_and(|running| running.cancelled)
    }

    /// A probe has created the key.
    pub(crate) fn sees(&mut self, user: u8) {
        self.seen[usize::from(user)] = true;
    }

    pub(crate) fn was_seen(&self, user: u8) -> bool {
        self.seen[usize::from(user)]
    }

    // ---- at the issuer

    /// A token request has arrived. There must be a reason for it.
    pub(crate) fn fetch_started(&mut self, user: u8, now: Moment) {
        assert!(self.running(user).is_empty(), "a second fetch for key {user}");
        let Setting { jumps, bounded, layered, .. } = self.setting;
        let key = self.key(user);
        let since = |then: Moment| now.mono - then.mono;
        let due = match (&key.last, &key.failure) {
            (Last::None | Last::Cancelled, _) => true,
            (Last::Running, _) => false,
            (Last::Succeeded { next, repeated, arrived }, _) => {
                let rejected = key.rejected || key.demanded;
                now.reached(*next) || *repeated && since(*arrived) >= 10_000 || rejected || key.cleared
            }
            (Last::Failed, Some(failure)) => {
                let rejected = key.rejected && failure.ends_on_rejection.is_some_and(|ms| since(failure.at) >= ms);
                since(failure.at) >= failure.least || key.cleared || rejected
            }
            (Last::Failed, None) => unreachable!(),
        };
        let usable = |secret: &&Secret| secret.issues.iter().any(|issued| !now.reached(issued.usable_until));
        // An old token may be current again.
        let several = self.secrets.values().filter(|secret| secret.user == user).filter(usable).count() > 1;
        let ended = self.secrets.values().filter(|secret| secret.user == user);
        let ended = ended.flat_map(|secret| &secret.issues).any(|issued| now.reached(issued.usable_until));
        let key = &mut self.keys[usize::from(user)];
        let repeated = matches!(key.last, Last::Succeeded { repeated: true, .. }) || several;
        // In exact runs the rules of the key say more. Without them it is unknown which token a request was rejected with.
        let unknown = !jumps || bounded || layered;
        let due = due || std::mem::take(&mut key.rotates_later);
        assert!(due || unknown || repeated && ended, "a token request for key {user} without a reason");
        (key.rejected, key.cleared, key.demanded, key.last) = (false, false, false, Last::Running);
        self.fetches.push(Fetch::Running);
        self.user.push(user);
        self.start.push(now);
        self.expected.fetches += 1;
        self.expected.fetches_in_flight += 1;
    }

    /// Whether the issuer may return `secret` again in this simulation.
    pub(crate) fn may_repeat(&self, secret: &str) -> bool {
        match self.rules.first() {
            Some(_) => true,
            None => !self.setting.bounded && !self.rejected_secrets.contains(secret),
        }
    }

    /// A rotation has cancelled a fetch: it has ended by now.
    pub(crate) fn check_cancelled(&self) {
        let cancelled = |rules: &Rules| rules.running.as_ref().is_some_and(|running| running.cancelled);
        assert!(!self.rules.iter().any(cancelled), "a rotation did not cancel a fetch: {:?}", self.rules);
    }

    pub(crate) fn completed(&mut self, fetch: usize, result: &FetchResult<'_>, epoch: u32, now: Moment) {
        let (user, start) = (self.user[fetch], self.start[fetch]);
        let ended = self.completed_exactly(user, result, now);
        let tok = if let Some(Ended::Token(tok)) = ended { Some(tok) } else { None };
        let failure = match result {
            FetchResult::Error(error) => Some(failure(error, self.key(user).permanent, now)),
            FetchResult::Token { secret, lifetime } => {
                let known = self.secrets.contains_key(*secret);
                let (lifetime, window, margin) = rule_1(*lifetime);
                let mono = start.mono.min(now.mono);
                let took = now.mono - mono;
                let agree = (now.wall - start.wall - took).abs() <= 1_000;
                let wall = if agree { start.wall } else { now.wall - took };
                let after = |ms: i64| Moment { mono: mono + ms, wall: wall + ms, real: now.real };
                let expired = now.reached(after(lifetime));
                if expired || ended == Some(Ended::Failed) {
                    let error = Error::transient("").with_kind(ErrorKind::Unavailable);
                    Some(failure(&error, (0, 0), now))
                } else {
                    self.last_took = took;
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
                    let number = self.arrived;
                    let key = self.key(user);
                    let next = after(if late { 0 } else { lifetime - window });
                    key.last = Last::Succeeded { next, repeated: known, arrived: now };
                    key.failure = None;
                    key.rotates_later = false;
                    key.served.push(Served { fetch, number, tok, at: now, removed: false });
                    self.expected.fetches_succeeded += 1;
                    None
                }
            }
        };
        let key = self.key(user);
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

    /// The client dropped the request before a response: it timed out, its runtime ended, or a rotation cancelled it.
    ///
    /// `stats` are what the source counts. They decide if two of these happened at the same time.
    pub(crate) fn fetch_dropped(&mut self, fetch: usize, stats: &SourceStats, now: Moment) {
        let (user, age) = (self.user[fetch], now.real - self.start[fetch].real);
        let running = self.exact(user).and_then(|rules| rules.running.as_ref());
        let cancelled = running.is_some_and(|running| running.cancelled)
            || self.rules.is_empty() && stats.fetches_failed == self.expected.fetches_failed;
        if age >= 12_000 && !cancelled {
            let error = Error::transient("").with_kind(ErrorKind::Timeout);
            return self.completed(fetch, &FetchResult::Error(&error), 0, now);
        }
        self.fetches[fetch] = Fetch::Ended;
        self.expected.fetches_in_flight -= 1;
        self.cancelled(user, stats.fetches_discarded, now);
    }

    fn cancelled(&mut self, user: u8, discarded: u64, now: Moment) {
        let more = discarded > self.expected.fetches_discarded;
        let by_rotation = self.exact(user).is_some_and(|rules| rules.dropped(more, now.mono));
        if by_rotation {
            self.expected.fetches_discarded += 1;
        } else {
            self.expected.fetches_cancelled += 1;
        }
        let key = self.key(user);
        if matches!(key.last, Last::Running) {
            key.last = Last::Cancelled;
        }
        key.cancelled += 1;
        key.cancelled_in_a_row = (key.cancelled_in_a_row.0 + 1, now.mono);
    }

    /// A fetch was cancelled before it sent a request.
    pub(crate) fn cancelled_before_start(&mut self, user: u8, discarded: u64, now: Moment) {
        self.expected.fetches += 1;
        self.cancelled(user, discarded, now);
    }

    // ---- calls of the source

    /// The key was invalidated, or its credentials were rotated.
    pub(crate) fn forgotten(&mut self, user: u8, rotated: Option<u32>, now: Moment) {
        if !self.seen[usize::from(user)] {
            let key = self.key(user);
            key.epoch = rotated.unwrap_or(key.epoch);
            return;
        }
        if let Some(rules) = self.exact(user) {
            if rotated.is_some() { rules.rotate(now.mono) } else { rules.invalidate(now.mono) }
        }
        let first_fetch = self.fetches.len();
        let toks = self.rules.get(usize::from(user)).map(|rules| &rules.toks);
        for served in self.keys[usize::from(user)].served.iter_mut().filter(|served| served.at == now) {
            // An invalidation removes no token that is for the waiters alone.
            let for_waiters = toks.zip(served.tok).is_some_and(|(toks, tok)| toks[tok].for_waiters_only);
            served.removed |= rotated.is_some() || !for_waiters;
        }
        let key = self.key(user);
        key.permanent = (0, if rotated.is_some() { 0 } else { key.permanent.1 });
        key.epoch = rotated.unwrap_or(key.epoch);
        (key.first_fetch, key.cleared, key.known, key.forgotten_at) = (first_fetch, true, None, Some(now));
        key.rotates_later |= rotated.is_some();
    }

    pub(crate) fn jumped(&mut self) {
        for key in &mut self.keys {
            key.cleared = true;
            key.known = None;
            key.refreshes.clear();
        }
    }

    /// A response rejected a token. `may_retry` is whether the source would return another one.
    pub(crate) fn rejected(&mut self, user: u8, secret: &str, first: bool, may_retry: bool, now: Moment) {
        self.expected.rejections += 1;
        self.expected.rejections_of_unaccepted += u64::from(first);
        self.forgets_known(user, secret, may_retry, now);
    }

    /// A response rejected a token that the rules do not know.
    pub(super) fn rejected_without_rules(&mut self, user: u8) {
        let of_user = self.secrets.iter().filter(|(_, secret)| secret.user == user).map(|(secret, _)| secret.clone());
        self.rejected_secrets.extend(of_user);
        let key = self.key(user);
        (key.known, key.rejected) = (None, true);
    }

    pub(super) fn forgets_known(&mut self, user: u8, secret: &str, may_retry: bool, now: Moment) {
        let usable = self.is_usable(secret, now);
        self.rejected_secrets.insert(secret.to_owned());
        let layered = self.setting.layered;
        let key = self.key(user);
        let current = key.known.as_deref() == Some(secret) && usable;
        key.known = None;
        key.rejected |= may_retry;
        if current && may_retry && !layered {
            key.refreshes.push(now.mono);
            let lately = key.refreshes.iter().filter(|at| now.mono - **at < 60_000).count();
            assert!(lately <= 40, "{lately} refreshes in a minute for key {user}");
        }
    }

    pub(crate) fn calls(&mut self, user: u8, wanted: Wanted, now: Moment) -> CallStart {
        self.seen[usize::from(user)] = true;
        self.key(user).demanded |= matches!(wanted, Wanted::Refreshed | Wanted::ValidFor(_));
        self.looks(user, wanted, now)
    }

    pub(crate) fn looks(&self, user: u8, wanted: Wanted, now: Moment) -> CallStart {
        let key = &self.keys[usize::from(user)];
        CallStart {
            at: now,
            wanted,
            needs_new: false,
            uncertain: false,
            moved: false,
            replays: false,
            epoch: key.epoch,
            first_fetch: key.first_fetch,
            first_joined: key.first_fetch,
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
        let lasts =
            |secret: &String| self.secrets[secret].issues.iter().all(|issued| !now.reached(issued.usable_until));
        !self.setting.bounded && known.is_some_and(lasts)
    }

    /// A token may be stamped only if it is for this key, new enough, and not expired.
    pub(crate) fn stamped(&mut self, user: u8, start: &CallStart, stamp: &str, now: Moment) {
        let secret = &self.secrets[stamp];
        assert_eq!(secret.user, user, "the token of another key");
        assert!(secret.epoch >= start.epoch, "a token of the old credentials");
        assert!(secret.last_fetch >= start.first_fetch, "a token from before the invalidation");
        let usable = self.is_usable(stamp, now);
        let for_waiters = |issued: &Issued| issued.number > start.issues && !now.reached(issued.expires_at);
        // A replay may have waited for another token in vain. Then it is sent with the token that it had.
        let replay = |issued: &Issued| start.replays && !start.at.reached(issued.expires_at);
        let fits = |issued: &Issued| for_waiters(issued) || replay(issued);
        assert!(usable || secret.issues.iter().any(fits), "stamped after it had expired");
        let early = secret.issues.iter().all(|issued| issued.start.mono > now.mono + 60_000);
        assert!(!early, "a token from before the clock was set back");
        let key = &self.keys[usize::from(user)];
        let current = secret.epoch >= key.epoch && secret.last_fetch >= key.first_fetch;
        // A caller whose time is over may get a token that is set aside.
        let set_aside = self.rules.get(usize::from(user)).is_some_and(|rules| rules.usable(now.mono).is_none());
        if usable && current && !set_aside {
            self.key(user).known = Some(stamp.to_owned());
        }
    }

    /// A call failed at once.
    pub(crate) fn failed_fast(&mut self, user: u8, start: &CallStart, error: &Error, now: Moment) {
        let on_demand = !matches!(start.wanted, Wanted::Usable | Wanted::WarmUp);
        assert!(on_demand || !self.must_be_served(user, now), "a usable token was removed: {error}");
        // After a jump a fetch seems to be stuck. The call itself removes it, before the oracle knows.
        let removes = on_demand && self.setting.jumps && !self.running(user).is_empty();
        let key = self.key(user);
        // A clock that reads up to a minute earlier counts as a difference between threads.
        let in_backoff = |since: i64, most: i64| (-60_000..most).contains(&(now.mono - since));
        let (cancelled, cancelled_at) = key.cancelled_in_a_row;
        let by_cancellations = error.kind() == ErrorKind::Unavailable
            && (removes || (cancelled >= 2 || on_demand && cancelled >= 1) && in_backoff(cancelled_at, 31_000));
        let by_failure = key
            .failure
            .as_ref()
            .is_some_and(|failure| failure.kind == error.kind() && in_backoff(failure.at.mono, failure.most));
        assert!(by_cancellations || by_failure, "failed fast without a reason: {error}");
        let next = error.retry_after().expect("failed fast without a time");
        assert!(!next.is_zero() && next <= Duration::from_secs(331), "the next try in {next:?}");
    }

    /// A wait failed.
    pub(crate) fn wait_failed(&mut self, user: u8, start: &CallStart, error: &Error, now: Moment) {
        let unknown = self.rules.is_empty();
        let key = self.key(user);
        let shared = |failure: &Failure| {
            let since = now.mono - failure.at.mono;
            failure.kind == error.kind() && (failure.at == now || (-60_000..failure.most).contains(&since))
        };
        let waited = now.real - start.at.real;
        // Without rules it is unknown which one of two fetches that ended at the same time had timed out.
        let uncertain = start.uncertain || unknown;
        let fits = key.failure.as_ref().is_some_and(shared)
            || error.kind() == ErrorKind::Timeout && (waited >= MAX_WAIT || uncertain)
            || error.kind() == ErrorKind::NoRuntime && key.cancelled - start.cancelled >= 3
            || error.kind() == ErrorKind::Unavailable && key.cancelled_in_a_row.0 >= 2;
        assert!(fits, "the error of another fetch: {error}");
    }

    pub(super) fn was_just_forgotten(&self, user: u8, now: Moment) -> bool {
        self.keys[usize::from(user)].forgotten_at == Some(now)
    }

    // ---- after every step

    /// Whether a caller may wait. `needs_new` is whether the current token does not help it.
    pub(crate) fn check_waiting(&mut self, user: u8, start: &CallStart, needs_new: bool, now: Moment) {
        assert!(now.real - start.at.real < MAX_WAIT, "a waiter without a result");
        let running = self.running(user).len();
        assert!(running <= 1, "two fetches for key {user}");
        let patience = self.patience(start, now);
        let key = &self.keys[usize::from(user)];
        let delayed = key.failure.is_some() || key.cleared || key.first_fetch > 0;
        assert!(running == 1 || delayed || self.setting.bounded, "a waiter of key {user} without a fetch");
        let Some(rules) = self.exact(user) else { return };
        let may_wait = rules.may_wait(patience, needs_new, now.mono) || start.moved;
        assert!(may_wait, "a caller of key {user} waits for nothing: {rules:?}");
        if rules.running.is_none() {
            self.counts.waited_through_a_backoff += 1;
        }
        if start.uncertain || needs_new {
            return;
        }
        // A caller looks again once if the token was removed before the caller was polled.
        let joined = self.served_since(user, start).filter(|served| served.fetch >= start.first_joined);
        let missed: Vec<_> = joined.filter(|served| !self.has_expired(served, now)).collect();
        let all_removed = missed.iter().all(|served| served.removed);
        assert!(all_removed && missed.len() < 2, "a waiter of key {user} did not get the token of its fetch");
    }

    /// The tokens that fetches have returned to a caller that began to wait before they arrived.
    fn served_since(&self, user: u8, start: &CallStart) -> impl Iterator<Item = &Served> {
        let served = self.keys[usize::from(user)].served.iter();
        let (issues, first_fetch) = (start.issues, start.first_fetch);
        served.filter(move |served| served.number > issues && served.fetch >= first_fetch)
    }

    fn has_expired(&self, served: &Served, now: Moment) -> bool {
        let mut issued = self.secrets.values().flat_map(|secret| &secret.issues);
        issued.find(|issued| issued.number == served.number).is_none_or(|issued| now.reached(issued.expires_at))
    }

    /// The token that a caller may use although it is not current any more: it is the second one that its fetches have
    /// returned, and it has just arrived.
    pub(super) fn second_token(&self, user: u8, start: &CallStart, now: Moment) -> Option<usize> {
        let served: Vec<_> = self.served_since(user, start).collect();
        served.last().filter(|last| served.len() >= 2 && last.at == now)?.tok
    }

    pub(crate) fn check_stats(&self, stats: &SourceStats, max_keys: usize) {
        let seen = self.seen.iter().filter(|seen| **seen).count() as u64;
        let mut expected = self.expected;
        // Only the source can count these.
        expected.budget_exhausted = stats.budget_exhausted;
        assert!(stats.budget_exhausted <= stats.rejections);
        assert!(stats.tokens_rejected_early <= stats.rejections - stats.rejections_of_unaccepted);
        if self.rules.is_empty() {
            expected.tokens_rejected_early = stats.tokens_rejected_early;
            let dropped = expected.fetches_cancelled + expected.fetches_discarded;
            assert_eq!(stats.fetches_cancelled + stats.fetches_discarded, dropped);
            (expected.fetches_cancelled, expected.fetches_discarded) =
                (stats.fetches_cancelled, stats.fetches_discarded);
        }
        if self.setting.layered {
            (expected.hits, expected.failed_fast) = (stats.hits, stats.failed_fast);
            (expected.waits, expected.waiting) = (stats.waits, stats.waiting);
            (expected.waits_served, expected.waits_failed) = (stats.waits_served, stats.waits_failed);
            expected.waits_abandoned = stats.waits_abandoned;
        }
        if self.setting.bounded || self.setting.invented {
            (expected.keys, expected.evicted) = (stats.keys, stats.evicted);
            assert!(stats.keys <= max_keys as u64 + stats.fetches_in_flight, "{} keys", stats.keys);
        } else {
            expected.keys = seen;
        }
        if self.setting.bounded || self.setting.layered && self.rules.is_empty() {
            (expected.rejections, expected.rejections_of_unaccepted) =
                (stats.rejections, stats.rejections_of_unaccepted);
        }
        assert_eq!(*stats, expected, "the statistics do not reconcile");
        assert_eq!(stats.waits, stats.waits_served + stats.waits_failed + stats.waits_abandoned + stats.waiting);
        let ended = stats.fetches_succeeded + stats.fetches_failed + stats.fetches_cancelled + stats.fetches_discarded;
        assert_eq!(stats.fetches, ended + stats.fetches_in_flight);
    }

    /// The lifetime, the window and the margin of a token by rule 1, for the rules of a key.
    pub(super) fn rule_1(lifetime: Option<i64>) -> (i64, i64, i64) {
        rule_1(lifetime)
    }

    pub(crate) fn all_counts(&self) -> Counts {
        let mut counts = self.counts;
        self.rules.iter().for_each(|rules| counts.add(&rules.counts));
        counts
    }
}

/// What a caller was stamped with: the secret, and the generation if the caller sees it.
#[derive(Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) secret: &'a str,
    pub(crate) generation: Option<u64>,
}

impl<'a> Stamp<'a> {
    pub(crate) fn of(token: &'a Token) -> Self {
        Self { secret: token.expose_secret(), generation: Some(token.generation()) }
    }
}

/// Rules 6 to 8: the shortest and the longest backoff after a failure. `permanent` is the number of permanent failures in a
/// row before this one, at least and at most.
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
        // The step of a transient failure, up to 30 s, may be added. It is longer than a tenth of 300 s.
        most: most.max(requested.map_or(0, |delay| delay.min(300_000) + 30_000)) + 1,
        ends_on_rejection: error.is_transient().then(|| requested.map_or(0, |delay| delay.min(60_000))),
    }
}
