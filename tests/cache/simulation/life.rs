//! One run: random events, and the checks after each of them.

use std::time::Duration;

use fastrand::Rng;
use tower_bearer_auth::{Error, ErrorKind, ExtensionKey, RefreshPolicy, SourceStats, Token, TokenSource};

use super::callers::{Caller, Runtimes};
use super::issuer::{Issuer, ScriptedResponse};
use super::oracle::{FetchResult, KEYS, Oracle};
use super::time::{Clocks, Moment};

const DAY: i64 = 86_400_000;
const YEAR: i64 = 365 * DAY;
const LIFETIMES: [Option<i64>; 12] = [
    None,
    Some(0),
    Some(1_000),
    Some(2_000),
    Some(10_000),
    Some(12_000),
    Some(60_000),
    Some(600_000),
    Some(1_800_000),
    Some(1_800_000),
    Some(DAY),
    Some(i64::MAX),
];

/// A secret that the issuer may return again until it expires.
struct Minted {
    user: u8,
    epoch: u32,
    secret: String,
    expires_at: i64,
}

pub(crate) struct Life {
    rng: Rng,
    traced: bool,
    clocks: Clocks,
    issuer: Issuer,
    runtimes: Runtimes,
    source: TokenSource<Issuer>,
    max_keys: usize,
    oracle: Oracle,
    /// How many fetches were reported to the oracle.
    reported: usize,
    callers: Vec<Caller>,
    minted: Vec<Minted>,
    /// Tokens that callers got, to be accepted and rejected later.
    held: Vec<(u8, Token)>,
}

impl Life {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let bounded = rng.u8(0..6) == 0;
        let max_keys = if bounded { rng.usize(1..3) } else { 100 };
        let clocks = Clocks::new();
        let issuer = Issuer::default();
        let source = TokenSource::builder(issuer.clone())
            .clock(clocks.clone())
            .max_keys(max_keys)
            .jitter_seed(seed)
            .refresh(RefreshPolicy::default())
            .build();
        Self {
            rng,
            traced,
            clocks,
            issuer,
            runtimes: Runtimes::new(),
            source,
            max_keys,
            oracle: Oracle::new(bounded),
            reported: 0,
            callers: Vec::new(),
            minted: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Runs and returns the final statistics.
    pub(crate) fn run(mut self, steps: usize) -> SourceStats {
        for _ in 0..steps {
            self.step();
            self.settle();
            self.check();
        }
        self.end()
    }

    fn now(&self) -> Moment {
        self.clocks.read()
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{:?}: {}", self.now(), what());
        }
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..35 => self.call(),
            35..60 => self.respond(),
            60..75 => self.pass(),
            75..79 => self.leave(),
            79..84 => self.accept(),
            84..91 => self.reject(),
            91..93 => self.rotate(),
            93..95 => self.invalidate(),
            95..97 => self.jump(),
            97..99 => self.end_of_a_runtime(),
            _ => self.cancelled_before_start(),
        }
    }

    fn user(&mut self) -> u8 {
        // Some keys are used more than others.
        self.rng.u8(0..KEYS as u8).min(self.rng.u8(0..KEYS as u8))
    }

    fn call(&mut self) {
        let (user, runtime, now) = (self.user(), self.rng.usize(0..2), self.now());
        for _ in 0..if self.rng.u8(0..10) == 0 { 20 } else { 1 } {
            self.call_of(user, runtime, now);
        }
    }

    fn call_of(&mut self, user: u8, runtime: usize, now: Moment) {
        let start = self.oracle.calls(user, now);
        let mut caller = Caller::new(&self.source, user, runtime, start);
        let result = caller.poll(&self.runtimes);
        self.trace(|| format!("a call for {user} from {runtime}: {result:?}"));
        match result {
            Some(result) => {
                self.oracle.returned_at_once(user, start, &result, now);
                self.held.extend(result.ok().map(|token| (user, token)));
            }
            None => {
                self.oracle.waits(user, now);
                self.callers.push(caller);
            }
        }
    }

    /// The issuer responds to one of its requests.
    fn respond(&mut self) {
        let open: Vec<usize> = (0..self.reported).filter(|fetch| self.oracle.is_running(*fetch)).collect();
        if open.is_empty() {
            return;
        }
        let fetch = open[self.rng.usize(0..open.len())];
        match self.rng.u8(0..10) {
            0..6 => self.mint(fetch),
            6 => self.repeat(fetch),
            7 => self.fail(fetch, true),
            8 => self.fail(fetch, false),
            _ => self.panic(fetch),
        }
    }

    fn mint(&mut self, fetch: usize) {
        let (user, epoch) = self.issuer.state(|state| (state.fetches[fetch].user, state.fetches[fetch].epoch));
        let lifetime = LIFETIMES[self.rng.usize(0..LIFETIMES.len())];
        let secret = format!("key-{user}.epoch-{epoch}.fetch-{fetch}");
        let expires_at = self.now().real.saturating_add(lifetime.unwrap_or(300_000));
        self.minted.push(Minted { user, epoch, secret: secret.clone(), expires_at });
        self.issue(fetch, secret, lifetime);
    }

    /// Returns the newest token of the same key and credentials again, if it has not expired.
    fn repeat(&mut self, fetch: usize) {
        let (user, epoch) = self.issuer.state(|state| (state.fetches[fetch].user, state.fetches[fetch].epoch));
        let real = self.now().real;
        let newest = self.minted.iter().rev().find(|minted| minted.user == user && minted.epoch == epoch);
        let again = newest.filter(|minted| minted.expires_at > real && self.oracle.may_repeat(user, &minted.secret));
        match again.map(|minted| (minted.secret.clone(), minted.expires_at - real)) {
            Some((secret, left)) => self.issue(fetch, secret, Some(left)),
            None => self.mint(fetch),
        }
    }

    fn issue(&mut self, fetch: usize, secret: String, lifetime: Option<i64>) {
        self.trace(|| format!("fetch {fetch} returns {secret} for {lifetime:?} ms"));
        let epoch = self.issuer.state(|state| state.fetches[fetch].epoch);
        self.oracle.completed(fetch, &FetchResult::Token { secret: &secret, lifetime }, epoch, self.now());
        self.issuer.respond(fetch, ScriptedResponse::Token(secret, lifetime));
    }

    fn fail(&mut self, fetch: usize, transient: bool) {
        let mut error = if transient {
            Error::transient("down").with_kind(ErrorKind::Unavailable)
        } else {
            Error::permanent("wrong secret").with_kind(ErrorKind::InvalidCredentials)
        };
        if self.rng.u8(0..3) == 0 {
            let seconds = [0, 3, 100, u64::MAX][self.rng.usize(0..4)];
            error = error.with_kind(ErrorKind::Throttled).with_retry_after(Duration::from_secs(seconds));
        }
        self.trace(|| format!("fetch {fetch} fails: {error:?}"));
        self.oracle.completed(fetch, &FetchResult::Error(&error), 0, self.now());
        self.issuer.respond(fetch, ScriptedResponse::Error(error));
    }

    fn panic(&mut self, fetch: usize) {
        self.trace(|| format!("fetch {fetch} panics"));
        let error = Error::transient("").with_kind(ErrorKind::Panicked);
        self.oracle.completed(fetch, &FetchResult::Error(&error), 0, self.now());
        self.issuer.respond(fetch, ScriptedResponse::Panic);
    }

    fn pass(&mut self) {
        let most = [100, 1_000, 10_000, 60_000, 1_000_000, 4_000_000][self.rng.usize(0..6)];
        let mut left = self.rng.i64(1..=most);
        self.trace(|| format!("{left} ms pass"));
        while left > 0 {
            // In short steps while a fetch or a wait may time out.
            let busy = !self.callers.is_empty() || (0..self.reported).any(|fetch| self.oracle.is_running(fetch));
            let step = if busy { left.min(1_000) } else { left };
            self.clocks.pass(step);
            self.runtimes.pass(step);
            self.settle();
            self.check();
            left -= step;
        }
    }

    fn leave(&mut self) {
        if !self.callers.is_empty() {
            let caller = self.callers.swap_remove(self.rng.usize(0..self.callers.len()));
            self.trace(|| format!("a caller for {} leaves", caller.user));
            self.oracle.left();
        }
    }

    fn a_held_token(&mut self) -> Option<(u8, Token)> {
        // Mostly one of the newest tokens: responses arrive within seconds.
        let newest = if self.rng.bool() { 1 } else { 5 };
        let from = self.held.len().saturating_sub(newest);
        let recent = &self.held[from..];
        (!recent.is_empty()).then(|| recent[self.rng.usize(0..recent.len())].clone())
    }

    fn accept(&mut self) {
        if let Some((_, token)) = self.a_held_token() {
            self.source.accept(&token);
            self.oracle.accepted(&token);
        }
    }

    fn reject(&mut self) {
        let Some((user, token)) = self.a_held_token() else { return };
        let runtime = self.rng.usize(0..2);
        let can_retry = self.runtimes.within(runtime, || self.source.reject(&ExtensionKey(user), &token));
        self.trace(|| format!("{} is rejected, retry: {can_retry}", token.expose_secret()));
        self.oracle.rejected(user, &token, can_retry, self.now());
    }

    fn rotate(&mut self) {
        let epoch = self.issuer.state(|state| {
            state.epoch += 1;
            state.epoch
        });
        self.source.rotate();
        self.trace(|| format!("rotated to {epoch}"));
        (0..KEYS as u8).for_each(|user| self.oracle.forgotten(user, epoch));
    }

    fn invalidate(&mut self) {
        let user = self.user();
        self.source.invalidate_for(&ExtensionKey(user));
        self.trace(|| format!("{user} is invalidated"));
        let epoch = self.issuer.state(|state| state.epoch);
        self.oracle.forgotten(user, epoch);
    }

    fn jump(&mut self) {
        let by = [DAY, YEAR, 7_200_000][self.rng.usize(0..3)] * if self.rng.bool() { 1 } else { -1 };
        let (mono, wall) = [(by, 0), (0, by), (by, by), (by, -by)][self.rng.usize(0..4)];
        self.clocks.jump(mono, wall);
        self.trace(|| format!("the clocks jump by {mono} and {wall} ms"));
        self.oracle.jumped();
    }

    /// The second runtime ends with its fetches. Its callers end too, or the first one polls them from then on.
    fn end_of_a_runtime(&mut self) {
        for mut caller in std::mem::take(&mut self.callers) {
            if caller.runtime == 1 && self.rng.bool() {
                self.oracle.left();
            } else {
                if caller.runtime == 1 {
                    caller.moves_to_first(self.now());
                }
                self.callers.push(caller);
            }
        }
        self.runtimes.end_second();
        self.trace(|| "the second runtime ends".to_owned());
    }

    /// The second runtime ends before it has polled a new fetch.
    fn cancelled_before_start(&mut self) {
        let Some(user) = (0..KEYS as u8).find(|user| !self.oracle.was_seen(*user)) else { return };
        self.call_of(user, 1, self.now());
        self.trace(|| format!("and its fetch is never polled: {user}"));
        self.end_of_a_runtime();
        let now = self.now();
        self.oracle.cancelled_before_start(user, now);
    }

    /// Polls everything until nothing changes, without letting time pass.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 50, "it does not settle");
            self.runtimes.drive();
            let mut moved = self.report();
            let now = self.now();
            let mut waiting = Vec::new();
            for mut caller in std::mem::take(&mut self.callers) {
                match caller.poll(&self.runtimes) {
                    None => waiting.push(caller),
                    Some(result) => {
                        moved = true;
                        self.trace(|| format!("a caller for {} gets {result:?}", caller.user));
                        self.oracle.returned_after_a_wait(caller.user, caller.start, &result, now);
                        self.held.extend(result.ok().map(|token| (caller.user, token)));
                    }
                }
            }
            self.callers = waiting;
            if !moved && round > 0 {
                return;
            }
        }
    }

    /// Reports new and dropped token requests to the oracle. Returns whether there were any.
    fn report(&mut self) -> bool {
        let now = self.now();
        let (dropped, start): (Vec<usize>, Vec<u8>) = self.issuer.state(|state| {
            let dropped = (0..self.reported).filter(|id| !state.fetches[*id].open && self.oracle.is_running(*id));
            (dropped.collect(), state.fetches[self.reported..].iter().map(|fetch| fetch.user).collect())
        });
        for fetch in &dropped {
            self.trace(|| format!("fetch {fetch} is dropped"));
            self.oracle.fetch_dropped(*fetch, now);
        }
        for user in &start {
            self.trace(|| format!("fetch {} starts, for {user}", self.reported));
            self.oracle.fetch_started(*user, now);
            self.reported += 1;
        }
        !dropped.is_empty() || !start.is_empty()
    }

    fn check(&mut self) {
        let now = self.now();
        for caller in &self.callers {
            self.oracle.check_waiting(caller.user, caller.start, now);
        }
        self.oracle.check_stats(&self.source.stats(), self.max_keys);
        for user in 0..KEYS as u8 {
            let peeked = self.source.peek_for(&ExtensionKey(user));
            assert_eq!(self.source.status_for(&ExtensionKey(user)).is_ready(), peeked.is_some());
            match peeked {
                Some(token) => self.oracle.stamped(user, self.oracle.looks(user, now), &token, now),
                None => assert!(!self.oracle.must_be_served(user, now), "a usable token was removed"),
            }
        }
    }

    /// The issuer responds to every request. Afterwards no caller waits, and nothing runs.
    fn end(mut self) -> SourceStats {
        for round in 0.. {
            assert!(round < 100, "a caller gets no result");
            let open: Vec<usize> = (0..self.reported).filter(|fetch| self.oracle.is_running(*fetch)).collect();
            for fetch in &open {
                self.issue(*fetch, format!("last-{fetch}"), Some(DAY));
                self.settle();
                self.check();
            }
            if open.is_empty() {
                break;
            }
        }
        assert!(self.callers.is_empty(), "a caller gets no result");
        let user = self.user();
        let runtime = 0;
        self.call_of(user, runtime, self.now());
        self.settle();
        let last_call_waits = !self.callers.is_empty();
        let (runtimes, issuer, reported) = (self.runtimes, self.issuer, self.reported);
        let stats = self.source.stats();
        // Dropping the last handle and the last waiter cancels the fetch.
        drop((self.source, self.callers));
        runtimes.drive();
        let open = issuer.state(|state| state.fetches.iter().filter(|fetch| fetch.open).count());
        assert_eq!(open, 0, "a fetch runs without a handle and without a waiter");
        assert!(!last_call_waits || reported > 0);
        stats
    }
}
