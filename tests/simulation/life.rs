//! One life of a source: random events, one after the other, and what must hold after each.

use std::time::Duration;

use fastrand::Rng;
use tower_bearer_auth::{Error, ErrorKind, FromExtension, RefreshPolicy, SourceStats, Token, TokenSource};

use crate::callers::{Caller, Homes};
use crate::issuer::{Answer, Issuer};
use crate::oracle::{Brought, KEYS, Oracle};
use crate::time::{Clocks, Moment};

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

/// A secret that the issuer may hand out again until it ends.
struct Minted {
    who: u8,
    epoch: u32,
    secret: String,
    ends: i64,
}

pub(crate) struct Life {
    rng: Rng,
    traced: bool,
    clocks: Clocks,
    issuer: Issuer,
    homes: Homes,
    source: TokenSource<Issuer>,
    max_keys: usize,
    oracle: Oracle,
    /// How many of the issuer's fetches the oracle has been told of.
    told: usize,
    callers: Vec<Caller>,
    minted: Vec<Minted>,
    /// Tokens that callers got, to be accepted and refused.
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
            homes: Homes::new(),
            source,
            max_keys,
            oracle: Oracle::new(bounded),
            told: 0,
            callers: Vec::new(),
            minted: Vec::new(),
            held: Vec::new(),
        }
    }

    /// What the source says of its life when it is over.
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
            35..60 => self.answer(),
            60..75 => self.pass(),
            75..79 => self.leave(),
            79..84 => self.accept(),
            84..91 => self.refuse(),
            91..93 => self.rotate(),
            93..95 => self.invalidate(),
            95..97 => self.jump(),
            97..99 => self.end_of_a_runtime(),
            _ => self.stillborn(),
        }
    }

    fn who(&mut self) -> u8 {
        // Some keys are busier than others.
        self.rng.u8(0..KEYS as u8).min(self.rng.u8(0..KEYS as u8))
    }

    fn call(&mut self) {
        let (who, home, now) = (self.who(), self.rng.usize(0..2), self.now());
        for _ in 0..if self.rng.u8(0..10) == 0 { 20 } else { 1 } {
            self.call_of(who, home, now);
        }
    }

    fn call_of(&mut self, who: u8, home: usize, now: Moment) {
        let began = self.oracle.calls(who, now);
        let mut caller = Caller::new(&self.source, who, home, began);
        let result = caller.poll(&self.homes);
        self.trace(|| format!("a call for {who} from {home}: {result:?}"));
        match result {
            Some(result) => {
                self.oracle.answered_at_once(who, began, &result, now);
                self.held.extend(result.ok().map(|token| (who, token)));
            }
            None => {
                self.oracle.waits(who, now);
                self.callers.push(caller);
            }
        }
    }

    /// The issuer answers one of its requests.
    fn answer(&mut self) {
        let open: Vec<usize> = (0..self.told).filter(|fetch| self.oracle.is_running(*fetch)).collect();
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
        let (who, epoch) = self.issuer.books(|books| (books.fetches[fetch].who, books.fetches[fetch].epoch));
        let lifetime = LIFETIMES[self.rng.usize(0..LIFETIMES.len())];
        let secret = format!("key-{who}.epoch-{epoch}.fetch-{fetch}");
        let ends = self.now().real.saturating_add(lifetime.unwrap_or(300_000));
        self.minted.push(Minted { who, epoch, secret: secret.clone(), ends });
        self.bring(fetch, secret, lifetime);
    }

    /// The newest token of the same key and credentials again, if it has not ended.
    fn repeat(&mut self, fetch: usize) {
        let (who, epoch) = self.issuer.books(|books| (books.fetches[fetch].who, books.fetches[fetch].epoch));
        let real = self.now().real;
        let newest = self.minted.iter().rev().find(|minted| minted.who == who && minted.epoch == epoch);
        let again = newest.filter(|minted| minted.ends > real && self.oracle.may_repeat(who, &minted.secret));
        match again.map(|minted| (minted.secret.clone(), minted.ends - real)) {
            Some((secret, left)) => self.bring(fetch, secret, Some(left)),
            None => self.mint(fetch),
        }
    }

    fn bring(&mut self, fetch: usize, secret: String, lifetime: Option<i64>) {
        self.trace(|| format!("fetch {fetch} brings {secret} for {lifetime:?} ms"));
        let epoch = self.issuer.books(|books| books.fetches[fetch].epoch);
        self.oracle.answered(fetch, &Brought::Token { secret: &secret, lifetime }, epoch, self.now());
        self.issuer.answer(fetch, Answer::Token(secret, lifetime));
    }

    fn fail(&mut self, fetch: usize, transient: bool) {
        let mut error = if transient {
            Error::transient("down").with_kind(ErrorKind::Unavailable)
        } else {
            Error::permanent("refused").with_kind(ErrorKind::InvalidCredentials)
        };
        if self.rng.u8(0..3) == 0 {
            let seconds = [0, 3, 100, u64::MAX][self.rng.usize(0..4)];
            error = error.with_kind(ErrorKind::Throttled).with_retry_after(Duration::from_secs(seconds));
        }
        self.trace(|| format!("fetch {fetch} fails: {error:?}"));
        self.oracle.answered(fetch, &Brought::Error(&error), 0, self.now());
        self.issuer.answer(fetch, Answer::Error(error));
    }

    fn panic(&mut self, fetch: usize) {
        self.trace(|| format!("fetch {fetch} panics"));
        let error = Error::transient("").with_kind(ErrorKind::Panicked);
        self.oracle.answered(fetch, &Brought::Error(&error), 0, self.now());
        self.issuer.answer(fetch, Answer::Panic);
    }

    fn pass(&mut self) {
        let most = [100, 1_000, 10_000, 60_000, 1_000_000, 4_000_000][self.rng.usize(0..6)];
        let mut left = self.rng.i64(1..=most);
        self.trace(|| format!("{left} ms pass"));
        while left > 0 {
            // In short steps while something is in the air that may run out of time.
            let busy = !self.callers.is_empty() || (0..self.told).any(|fetch| self.oracle.is_running(fetch));
            let step = if busy { left.min(1_000) } else { left };
            self.clocks.pass(step);
            self.homes.pass(step);
            self.settle();
            self.check();
            left -= step;
        }
    }

    fn leave(&mut self) {
        if !self.callers.is_empty() {
            let caller = self.callers.swap_remove(self.rng.usize(0..self.callers.len()));
            self.trace(|| format!("a caller for {} leaves", caller.who));
            self.oracle.left();
        }
    }

    fn a_held_token(&mut self) -> Option<(u8, Token)> {
        // Mostly one of the newest: requests answer within seconds.
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

    fn refuse(&mut self) {
        let Some((who, token)) = self.a_held_token() else { return };
        let home = self.rng.usize(0..2);
        let worth_it = self.homes.within(home, || self.source.reject(&FromExtension(who), &token));
        self.trace(|| format!("{} is refused: worth a try: {worth_it}", token.expose_secret()));
        self.oracle.refused(who, &token, worth_it, self.now());
    }

    fn rotate(&mut self) {
        let epoch = self.issuer.books(|books| {
            books.epoch += 1;
            books.epoch
        });
        self.source.rotate();
        self.trace(|| format!("rotated to {epoch}"));
        (0..KEYS as u8).for_each(|who| self.oracle.forgotten(who, epoch));
    }

    fn invalidate(&mut self) {
        let who = self.who();
        self.source.invalidate_for(&FromExtension(who));
        self.trace(|| format!("{who} is invalidated"));
        let epoch = self.issuer.books(|books| books.epoch);
        self.oracle.forgotten(who, epoch);
    }

    fn jump(&mut self) {
        let by = [DAY, YEAR, 7_200_000][self.rng.usize(0..3)] * if self.rng.bool() { 1 } else { -1 };
        let (mono, wall) = [(by, 0), (0, by), (by, by), (by, -by)][self.rng.usize(0..4)];
        self.clocks.jump(mono, wall);
        self.trace(|| format!("the clocks jump by {mono} and {wall} ms"));
        self.oracle.jumped();
    }

    /// The second runtime ends, with the flights in it. Its callers end with it or are polled in the first one from then
    /// on.
    fn end_of_a_runtime(&mut self) {
        for mut caller in std::mem::take(&mut self.callers) {
            if caller.home == 1 && self.rng.bool() {
                self.oracle.left();
            } else {
                if caller.home == 1 {
                    caller.moves(self.now());
                }
                self.callers.push(caller);
            }
        }
        self.homes.end_second();
        self.trace(|| "the second runtime ends".to_owned());
    }

    /// The second runtime ends with a flight that it has not yet begun to drive.
    fn stillborn(&mut self) {
        let Some(who) = (0..KEYS as u8).find(|who| !self.oracle.was_seen(*who)) else { return };
        self.call_of(who, 1, self.now());
        self.trace(|| format!("and its flight is never driven: {who}"));
        self.end_of_a_runtime();
        let now = self.now();
        self.oracle.stillborn(who, now);
    }

    /// Everything that can go on goes on, in no time.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 50, "it never comes to rest");
            self.homes.drive();
            let mut moved = self.tell();
            let now = self.now();
            let mut waiting = Vec::new();
            for mut caller in std::mem::take(&mut self.callers) {
                match caller.poll(&self.homes) {
                    None => waiting.push(caller),
                    Some(result) => {
                        moved = true;
                        self.trace(|| format!("a caller for {} has {result:?}", caller.who));
                        self.oracle.answered_after_a_wait(caller.who, caller.began, &result, now);
                        self.held.extend(result.ok().map(|token| (caller.who, token)));
                    }
                }
            }
            self.callers = waiting;
            if !moved && round > 0 {
                return;
            }
        }
    }

    /// Tells the oracle what the issuer has seen. Whether there was anything to tell.
    fn tell(&mut self) -> bool {
        let now = self.now();
        let (gone, began): (Vec<usize>, Vec<u8>) = self.issuer.books(|books| {
            let gone = (0..self.told).filter(|id| !books.fetches[*id].open && self.oracle.is_running(*id));
            (gone.collect(), books.fetches[self.told..].iter().map(|fetch| fetch.who).collect())
        });
        for fetch in &gone {
            self.trace(|| format!("fetch {fetch} is given up"));
            self.oracle.fetch_gone(*fetch, now);
        }
        for who in &began {
            self.trace(|| format!("fetch {} begins, for {who}", self.told));
            self.oracle.fetch_began(*who, now);
            self.told += 1;
        }
        !gone.is_empty() || !began.is_empty()
    }

    fn check(&mut self) {
        let now = self.now();
        for caller in &self.callers {
            self.oracle.check_waiting(caller.who, caller.began, now);
        }
        self.oracle.check_stats(&self.source.stats(), self.max_keys);
        for who in 0..KEYS as u8 {
            let peeked = self.source.peek_for(&FromExtension(who));
            assert_eq!(self.source.status_for(&FromExtension(who)).is_ready(), peeked.is_some());
            match peeked {
                Some(token) => self.oracle.stamped(who, self.oracle.looks(who, now), &token, now),
                None => assert!(!self.oracle.must_be_served(who, now), "a usable token is gone"),
            }
        }
    }

    /// The issuer answers everyone; nobody is left behind, and nothing is left running.
    fn end(mut self) -> SourceStats {
        for round in 0.. {
            assert!(round < 100, "a caller is never answered");
            let open: Vec<usize> = (0..self.told).filter(|fetch| self.oracle.is_running(*fetch)).collect();
            for fetch in &open {
                self.bring(*fetch, format!("last-{fetch}"), Some(DAY));
                self.settle();
                self.check();
            }
            if open.is_empty() {
                break;
            }
        }
        assert!(self.callers.is_empty(), "a caller is never answered");
        let who = self.who();
        let home = 0;
        self.call_of(who, home, self.now());
        self.settle();
        let last_call_waits = !self.callers.is_empty();
        let (homes, issuer, told) = (self.homes, self.issuer, self.told);
        let stats = self.source.stats();
        // The last handle and the last waiter go, and with them the flight.
        drop((self.source, self.callers));
        homes.drive();
        let open = issuer.books(|books| books.fetches.iter().filter(|fetch| fetch.open).count());
        assert_eq!(open, 0, "a flight outlives everybody who could want it");
        assert!(!last_call_waits || told > 0);
        stats
    }
}
