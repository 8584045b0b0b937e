//! What must hold, judged by what the issuer was asked and answered, and by nothing that the source says of itself.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tower_bearer_auth::{Error, ErrorKind, SourceStats, Token};

use crate::time::Moment;

pub(crate) const KEYS: usize = 4;
const HOUR: i64 = 3_600_000;

/// What a caller may not be given, and when it came.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    at: Moment,
    /// Tokens that an older credential or a fetch before the last invalidation brought are not for it.
    epoch: u32,
    first_fetch: usize,
    /// How many flights had landed.
    landings: usize,
    /// How many flights of its key had been lost.
    lost: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Fetch {
    Running,
    Ended,
}

/// A token as its fetches brought it; the same secret may come several times.
struct Secret {
    who: u8,
    epoch: u32,
    last_fetch: usize,
    /// One for each landing.
    landings: Vec<Landing>,
}

struct Landing {
    number: usize,
    began: Moment,
    usable: Moment,
    nominal: Moment,
}

/// Why the last fetch of a key ended, and from when on there may be another.
#[derive(Clone)]
enum Last {
    None,
    Running,
    Lost,
    Succeeded { next: Moment, repeated: bool, landed: Moment },
    Failed,
}

#[derive(Clone)]
struct Failure {
    at: Moment,
    kind: ErrorKind,
    least: i64,
    most: i64,
    may_be_cut: bool,
}

struct Key {
    last: Last,
    failure: Option<Failure>,
    /// Something has happened since the last fetch that pays for one.
    refused: bool,
    cleared: bool,
    /// The token that was stamped last, if nothing has happened to it since.
    sure: Option<(u64, String)>,
    /// The secret whose refusal is being healed.
    renewing: Option<String>,
    renewals: Vec<i64>,
    epoch: u32,
    first_fetch: usize,
    lost: u64,
    /// Flights lost one after the other, and when the last one was.
    lost_in_a_row: (u64, i64),
}

/// What a flight brought, as the oracle judges it.
pub(crate) enum Brought<'a> {
    Token { secret: &'a str, lifetime: Option<i64> },
    Error(&'a Error),
}

pub(crate) struct Oracle {
    /// Whether keys may be thrown out, and what is known of them forgotten.
    pub(crate) bounded: bool,
    fetches: Vec<Fetch>,
    who: Vec<u8>,
    began: Vec<Moment>,
    landed: usize,
    secrets: HashMap<String, Secret>,
    refused_secrets: HashSet<String>,
    accepted: HashSet<u64>,
    keys: [Key; KEYS],
    seen: [bool; KEYS],
    expected: SourceStats,
}

/// Rule 1, with the arithmetic written anew: lifetime, latest window before the end, margin.
fn rule_1(lifetime: Option<i64>) -> (i64, i64, i64) {
    let lifetime = lifetime.unwrap_or(300_000).clamp(1_000, 24 * HOUR);
    if lifetime < 2_000 {
        (lifetime, 0, 0)
    } else {
        (lifetime, (lifetime / 2).min(HOUR / 3), (lifetime / 4).min(30_000))
    }
}

impl Began {
    /// The caller lives elsewhere from now on, and its time to wait begins anew.
    pub(crate) fn moves(&mut self, now: Moment) {
        self.at = now;
    }
}

impl Oracle {
    pub(crate) fn new(bounded: bool) -> Self {
        let key = || Key {
            last: Last::None,
            failure: None,
            refused: false,
            cleared: false,
            sure: None,
            renewing: None,
            renewals: Vec::new(),
            epoch: 0,
            first_fetch: 0,
            lost: 0,
            lost_in_a_row: (0, 0),
        };
        Self {
            bounded,
            fetches: Vec::new(),
            who: Vec::new(),
            began: Vec::new(),
            landed: 0,
            secrets: HashMap::new(),
            refused_secrets: HashSet::new(),
            accepted: HashSet::new(),
            keys: std::array::from_fn(|_| key()),
            seen: [false; KEYS],
            expected: SourceStats::default(),
        }
    }

    fn key(&mut self, who: u8) -> &mut Key {
        &mut self.keys[usize::from(who)]
    }

    pub(crate) fn running(&self, who: u8) -> Vec<usize> {
        let of_key = |id: &usize| self.who[*id] == who && self.fetches[*id] == Fetch::Running;
        (0..self.fetches.len()).filter(of_key).collect()
    }

    pub(crate) fn is_running(&self, fetch: usize) -> bool {
        self.fetches[fetch] == Fetch::Running
    }

    pub(crate) fn was_seen(&self, who: u8) -> bool {
        self.seen[usize::from(who)]
    }

    // ---- what the issuer sees

    /// A token request has come in, and must be accounted for.
    pub(crate) fn fetch_began(&mut self, who: u8, now: Moment) {
        assert!(self.running(who).is_empty(), "a second flight for key {who}");
        let bounded = self.bounded;
        let key = self.key(who);
        let since = |then: Moment| now.mono - then.mono;
        let due = match (&key.last, &key.failure) {
            (Last::None | Last::Lost, _) => true,
            (Last::Running, _) => false,
            (Last::Succeeded { next, repeated, landed }, _) => {
                now.reached(*next) || *repeated && since(*landed) >= 10_000 || key.refused || key.cleared
            }
            (Last::Failed, Some(failure)) => {
                since(failure.at) >= failure.least || key.cleared || key.refused && failure.may_be_cut
            }
            (Last::Failed, None) => unreachable!(),
        };
        let ended = self.secrets.values().filter(|secret| secret.who == who);
        let ended = ended.flat_map(|secret| &secret.landings).any(|landing| now.reached(landing.usable));
        let key = &mut self.keys[usize::from(who)];
        let repeated = matches!(key.last, Last::Succeeded { repeated: true, .. });
        assert!(due || bounded || repeated && ended, "a token request for key {who} that nothing accounts for");
        (key.refused, key.cleared, key.last) = (false, false, Last::Running);
        self.fetches.push(Fetch::Running);
        self.who.push(who);
        self.began.push(now);
        self.expected.fetches += 1;
        self.expected.fetches_in_flight += 1;
    }

    /// Whether the issuer may hand out `secret` again, and what comes of that is known.
    pub(crate) fn may_repeat(&self, who: u8, secret: &str) -> bool {
        let renewing = self.keys[usize::from(who)].renewing.as_deref() == Some(secret);
        !self.bounded && (renewing || !self.refused_secrets.contains(secret))
    }

    pub(crate) fn answered(&mut self, fetch: usize, brought: &Brought<'_>, epoch: u32, now: Moment) {
        let (who, began) = (self.who[fetch], self.began[fetch]);
        let failure = match brought {
            Brought::Error(error) => Some(failure(error, now)),
            Brought::Token { secret, lifetime } => {
                let known = self.secrets.contains_key(*secret);
                let renewing = self.key(who).renewing.as_deref() == Some(*secret);
                let (lifetime, window, margin) = rule_1(*lifetime);
                let mono = began.mono.min(now.mono);
                let flight = now.mono - mono;
                let agree = (now.wall - began.wall - flight).abs() <= 1_000;
                let wall = if agree { began.wall } else { now.wall - flight };
                let after = |ms: i64| Moment { mono: mono + ms, wall: wall + ms, real: now.real };
                let dead = now.reached(after(lifetime));
                if dead || renewing {
                    let error = Error::transient("").with_kind(ErrorKind::Unavailable);
                    Some(failure(&error, now))
                } else {
                    self.landed += 1;
                    let landing = Landing {
                        number: self.landed,
                        began: after(0),
                        usable: after(lifetime - margin),
                        nominal: after(lifetime),
                    };
                    let late = now.reached(landing.usable);
                    let secret = self.secrets.entry((*secret).to_owned()).or_insert(Secret {
                        who,
                        epoch,
                        last_fetch: fetch,
                        landings: Vec::new(),
                    });
                    secret.last_fetch = fetch;
                    secret.landings.push(landing);
                    let key = self.key(who);
                    let next = after(if late { 0 } else { lifetime - window });
                    key.last = Last::Succeeded { next, repeated: known, landed: now };
                    key.failure = None;
                    self.expected.fetches_succeeded += 1;
                    None
                }
            }
        };
        let key = self.key(who);
        key.renewing = None;
        key.lost_in_a_row.0 = 0;
        if failure.is_some() {
            key.last = Last::Failed;
            key.failure = failure;
            self.expected.fetches_failed += 1;
        } else {
            key.sure = None;
        }
        self.fetches[fetch] = Fetch::Ended;
        self.expected.fetches_in_flight -= 1;
    }

    /// The client has gone without an answer, and nobody had told it to: it gave up, or its runtime ended.
    pub(crate) fn fetch_gone(&mut self, fetch: usize, now: Moment) {
        let age = now.real - self.began[fetch].real;
        if age >= 12_000 {
            let error = Error::transient("").with_kind(ErrorKind::Timeout);
            return self.answered(fetch, &Brought::Error(&error), 0, now);
        }
        self.fetches[fetch] = Fetch::Ended;
        self.expected.fetches_in_flight -= 1;
        self.expected.fetches_cancelled += 1;
        let key = self.key(self.who[fetch]);
        key.last = Last::Lost;
        key.lost += 1;
        key.lost_in_a_row = (key.lost_in_a_row.0 + 1, now.mono);
    }

    /// A flight that was lost before it could ask for anything.
    pub(crate) fn stillborn(&mut self, who: u8, now: Moment) {
        self.expected.fetches += 1;
        self.expected.fetches_cancelled += 1;
        let key = self.key(who);
        key.lost += 1;
        key.lost_in_a_row = (key.lost_in_a_row.0 + 1, now.mono);
    }

    // ---- what is done to the source

    /// A rotation or an invalidation is over.
    pub(crate) fn forgotten(&mut self, who: u8, epoch: u32) {
        for fetch in self.running(who) {
            self.fetches[fetch] = Fetch::Ended;
            self.expected.fetches_in_flight -= 1;
            self.expected.fetches_stale += 1;
        }
        let first_fetch = self.fetches.len();
        let key = self.key(who);
        if matches!(key.last, Last::Running) {
            key.last = Last::Lost;
        }
        (key.epoch, key.first_fetch, key.cleared) = (epoch, first_fetch, true);
        (key.sure, key.renewing) = (None, None);
    }

    pub(crate) fn jumped(&mut self) {
        for key in &mut self.keys {
            key.cleared = true;
            key.sure = None;
            key.renewals.clear();
        }
    }

    pub(crate) fn accepted(&mut self, token: &Token) {
        self.accepted.insert(token.generation());
    }

    pub(crate) fn refused(&mut self, who: u8, token: &Token, worth_it: bool, now: Moment) {
        self.expected.rejections += 1;
        self.expected.rejections_of_unaccepted += u64::from(!self.accepted.contains(&token.generation()));
        let secret = token.expose_secret();
        let usable = self.is_usable(secret, now);
        self.refused_secrets.insert(secret.to_owned());
        let key = self.key(who);
        let current = key.sure.as_ref().is_some_and(|(sure, _)| *sure == token.generation()) && usable;
        key.sure = None;
        if worth_it {
            key.refused = true;
        }
        if current && worth_it {
            key.renewing = Some(secret.to_owned());
            key.renewals.push(now.mono);
            let lately = key.renewals.iter().filter(|at| now.mono - **at < 60_000).count();
            assert!(lately <= 12, "{lately} renewals in a minute for key {who}");
        }
    }

    // ---- what callers see

    pub(crate) fn calls(&mut self, who: u8, now: Moment) -> Began {
        self.seen[usize::from(who)] = true;
        self.looks(who, now)
    }

    pub(crate) fn looks(&self, who: u8, now: Moment) -> Began {
        let key = &self.keys[usize::from(who)];
        Began { at: now, epoch: key.epoch, first_fetch: key.first_fetch, landings: self.landed, lost: key.lost }
    }

    fn is_usable(&self, secret: &str, now: Moment) -> bool {
        self.secrets[secret].landings.iter().any(|landing| !now.reached(landing.usable))
    }

    /// Whether a call must be answered at once: nothing has happened to the token that the last one got.
    pub(crate) fn must_be_served(&self, who: u8, now: Moment) -> bool {
        let sure = self.keys[usize::from(who)].sure.as_ref();
        let lasts = |(_, secret): &(u64, String)| {
            self.secrets[secret].landings.iter().all(|landing| !now.reached(landing.usable))
        };
        !self.bounded && sure.is_some_and(lasts)
    }

    /// A token may be stamped: of this key, not of before, and not past its end.
    pub(crate) fn stamped(&mut self, who: u8, began: Began, token: &Token, now: Moment) {
        let secret = &self.secrets[token.expose_secret()];
        assert_eq!(secret.who, who, "another key's token");
        assert!(secret.epoch >= began.epoch, "a token of the old credentials");
        assert!(secret.last_fetch >= began.first_fetch, "a token from before the invalidation");
        let usable = self.is_usable(token.expose_secret(), now);
        let for_waiters = |landing: &Landing| landing.number > began.landings && !now.reached(landing.nominal);
        assert!(usable || secret.landings.iter().any(for_waiters), "stamped past its end");
        let early = secret.landings.iter().all(|landing| landing.began.mono > now.mono + 60_000);
        assert!(!early, "a token of a clock that was set back");
        if usable {
            self.key(who).sure = Some((token.generation(), token.expose_secret().to_owned()));
        }
    }

    pub(crate) fn answered_at_once(&mut self, who: u8, began: Began, result: &Result<Token, Error>, now: Moment) {
        match result {
            Ok(token) => {
                self.expected.hits += 1;
                self.stamped(who, began, token, now);
            }
            Err(error) => {
                self.expected.failed_fast += 1;
                assert!(!self.must_be_served(who, now), "a usable token was taken away: {error}");
                let key = self.key(who);
                // A clock that reads up to a minute earlier is taken for another thread's.
                let pauses = |since: i64, most: i64| (-60_000..most).contains(&(now.mono - since));
                let (lost, lost_at) = key.lost_in_a_row;
                let by_losses = lost >= 2 && error.kind() == ErrorKind::Unavailable && pauses(lost_at, 30_000);
                let by_failure = key
                    .failure
                    .as_ref()
                    .is_some_and(|failure| failure.kind == error.kind() && pauses(failure.at.mono, failure.most));
                assert!(by_losses || by_failure, "turned away without a reason: {error}");
                let next = error.retry_after().expect("turned away without a time");
                assert!(!next.is_zero() && next <= Duration::from_secs(60), "the next try in {next:?}");
            }
        }
    }

    pub(crate) fn waits(&mut self, who: u8, now: Moment) {
        assert!(!self.must_be_served(who, now), "a request waits beside a usable token");
        self.expected.waits += 1;
        self.expected.waiting += 1;
    }

    pub(crate) fn answered_after_a_wait(&mut self, who: u8, began: Began, result: &Result<Token, Error>, now: Moment) {
        self.expected.waiting -= 1;
        match result {
            Ok(token) => {
                self.expected.waits_served += 1;
                self.stamped(who, began, token, now);
            }
            Err(error) => {
                self.expected.waits_failed += 1;
                let key = self.key(who);
                // A clock that comes back to where it was set back from finds the pause of then; only a flight that is
                // lost in that moment makes anybody ask.
                let found_again =
                    |failure: &Failure| key.lost > began.lost && now.mono - failure.at.mono < failure.most;
                let shared =
                    |failure: &Failure| failure.kind == error.kind() && (failure.at == now || found_again(failure));
                let fits = key.failure.as_ref().is_some_and(shared)
                    || error.kind() == ErrorKind::Timeout && now.real - began.at.real >= 15_000
                    || error.kind() == ErrorKind::NoRuntime && key.lost - began.lost >= 3;
                assert!(fits, "an error of someone else: {error}");
            }
        }
    }

    pub(crate) fn left(&mut self) {
        self.expected.waiting -= 1;
        self.expected.waits_abandoned += 1;
    }

    // ---- after every step

    pub(crate) fn check_waiting(&self, who: u8, began: Began, now: Moment) {
        assert_eq!(self.running(who).len(), 1, "a waiter of key {who} without a flight");
        assert!(now.real - began.at.real < 15_000, "a waiter without an answer");
    }

    pub(crate) fn check_stats(&self, stats: &SourceStats, max_keys: usize) {
        let seen = self.seen.iter().filter(|seen| **seen).count() as u64;
        let mut expected = self.expected;
        // What only the source can know, and what that must be.
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
        let ended = stats.fetches_succeeded + stats.fetches_failed + stats.fetches_cancelled + stats.fetches_stale;
        assert_eq!(stats.fetches, ended + stats.fetches_in_flight);
    }
}

/// Rules 6 to 8: the shortest and the longest pause after a failure for who has no token.
fn failure(error: &Error, at: Moment) -> Failure {
    let (least, most) = if error.is_transient() { (100, 30_000) } else { (2_500, 5_000) };
    let asked = error.retry_after().map(|asked| i64::try_from(asked.as_millis()).unwrap_or(i64::MAX).min(60_000));
    Failure {
        at,
        kind: error.kind(),
        least: least.max(asked.unwrap_or(0)),
        most: most.max(asked.map_or(0, |asked| (asked + asked / 10 + 1).min(60_000))) + 1,
        may_be_cut: error.is_transient() && asked.is_none(),
    }
}
