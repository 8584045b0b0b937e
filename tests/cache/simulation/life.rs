//! One run: random events, and the checks after each of them.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use http::Request;
use tower::{Layer as _, Service as _};
use tower_bearer_auth::{
    BearerAuth, Error, ErrorKind, ExtensionKey, NotReplayed, RefreshPolicy, SourceStats, Token, TokenSource, TokenState,
};

use super::api::{Api, Call, Happened, ROUTES};
use super::callers::{Caller, Output, Progress, Runtimes, Sending, call};
use super::counts::Counts;
use super::exact::AtOnce;
use super::issuer::{INVENTED, Issuer, ScriptedResponse};
use super::oracle::{FetchResult, KEYS, Oracle, Setting, Stamp};
use super::rules::{Sure, Wanted};
use super::time::{Clocks, Moment};

const ORIGIN: &str = "https://api.example.com";
const DAY: i64 = 86_400_000;
const YEAR: i64 = 365 * DAY;
const LIFETIMES: [Option<i64>; 14] = [
    None,
    Some(0),
    Some(1_000),
    Some(2_000),
    Some(10_000),
    Some(12_000),
    Some(30_000),
    Some(60_000),
    Some(300_000),
    Some(600_000),
    Some(1_800_000),
    Some(1_800_000),
    Some(DAY),
    Some(i64::MAX),
];

const CALM_LIFETIMES: [Option<i64>; 6] =
    [Some(30_000), Some(60_000), Some(60_000), Some(120_000), Some(300_000), Some(DAY)];

/// A secret that the issuer may return again until it expires.
struct Minted {
    user: u8,
    epoch: u32,
    secret: String,
    expires_at: i64,
}

/// A token that a caller got, to be accepted and rejected later.
#[derive(Clone)]
struct Held {
    user: u8,
    token: Token,
    /// Its index in the rules of the key.
    tok: Option<usize>,
}

pub(crate) struct Life {
    rng: Rng,
    traced: bool,
    clocks: Clocks,
    issuer: Issuer,
    api: Api,
    runtimes: Runtimes,
    source: TokenSource<Issuer>,
    service: BearerAuth<Api, Issuer>,
    max_keys: usize,
    oracle: Oracle,
    /// How many fetches were reported to the oracle.
    reported: usize,
    callers: Vec<Caller>,
    minted: Vec<Minted>,
    held: Vec<Held>,
    accepted: std::collections::HashSet<u64>,
    requests: usize,
    next_invented: u8,
    /// Of ten responses of the issuer, how many fail, and how many repeat a secret.
    failing: u8,
    repeating: u8,
    /// Whether little time passes between two events.
    slow: bool,
    /// Whether there are few failures, rotations and ends of runtimes, so that a token lives until its end.
    calm: bool,
    /// Whether credentials rotate and keys are invalidated at the moments at which callers are polled.
    stormy: bool,
}

impl Life {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Most runs are exact. In the others clocks jump or keys are evicted.
        let kind = rng.u8(0..12);
        let jumps = kind < 2;
        let setting = Setting {
            jumps,
            bounded: kind == 2,
            invented: kind == 3,
            layered: rng.u8(0..3) > u8::from(jumps),
            patience: if rng.bool() { 2_000 } else { 0 },
        };
        let max_keys = if setting.bounded {
            rng.usize(1..3)
        } else if setting.invented {
            8
        } else {
            100
        };
        let clocks = Clocks::new();
        let (issuer, api) = (Issuer::default(), Api::new(clocks.clone()));
        let source = TokenSource::builder(issuer.clone())
            .clock(clocks.clone())
            .max_keys(max_keys)
            .patience(Duration::from_millis(setting.patience.unsigned_abs()))
            .jitter_seed(seed)
            .refresh(RefreshPolicy::default())
            .build();
        let calm = rng.u8(0..3) == 0;
        let lag = [0, 0, 1_000, 10_000][rng.usize(if calm { 1 } else { 0 }..4)];
        api.state(|state| state.lag = std::array::from_fn(|_| if rng.bool() { lag } else { lag / 2 }));
        let service = source.layer().allow_origin(ORIGIN).unwrap().layer(api.clone());
        let stormy = rng.u8(0..4) == 0;
        let (failing, repeating, slow) = (rng.u8(0..if calm { 2 } else { 6 }), rng.u8(0..4), rng.bool());
        Self {
            rng,
            traced,
            clocks,
            issuer,
            api,
            runtimes: Runtimes::new(),
            source,
            service,
            max_keys,
            oracle: Oracle::new(setting),
            reported: 0,
            callers: Vec::new(),
            minted: Vec::new(),
            held: Vec::new(),
            accepted: std::collections::HashSet::new(),
            requests: 0,
            next_invented: INVENTED,
            failing,
            repeating,
            slow,
            calm,
            stormy,
        }
    }

    /// Runs and returns the final statistics.
    pub(crate) fn run(mut self, steps: usize) -> (SourceStats, Counts) {
        self.trace(|| format!("{:?}", self.oracle.setting));
        if self.oracle.setting.invented {
            let stormy = std::mem::take(&mut self.stormy);
            self.give_each_key_a_token();
            self.stormy = stormy;
        }
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
            let Moment { mono, wall, .. } = self.now();
            if mono == wall { println!("{mono}: {}", what()) } else { println!("{mono} and {wall}: {}", what()) }
        }
    }

    fn step(&mut self) {
        let Setting { jumps, invented, layered, .. } = self.oracle.setting;
        let rare = self.calm && self.rng.u8(0..4) > 0;
        match self.rng.u8(0..120) {
            93..98 | 100..103 if rare => self.respond(),
            0..20 => self.call(),
            20..40 if layered => self.requests(),
            20..40 => self.call(),
            40..62 => self.respond(),
            62..77 => self.some_time_passes(),
            77..80 => self.leave(),
            80..84 => self.a_held_token().into_iter().for_each(|held| self.accept(held)),
            84 if self.rng.u8(0..20) == 0 => self.fight(),
            84..93 => self.a_held_token().into_iter().for_each(|held| self.reject(held)),
            93..95 => self.rotate(),
            95..98 => {
                let user = self.user();
                self.invalidate(user);
            }
            98..100 if jumps => self.jump(),
            98..100 => self.probe(),
            100..102 => self.end_of_a_runtime(),
            102 => self.cancelled_before_start(),
            103..106 if invented => self.invented(),
            103..106 if layered => self.api_changes(),
            106..114 if layered => self.api_responds(),
            _ => self.call(),
        }
    }

    fn user(&mut self) -> u8 {
        // Some keys are used more than others.
        let user = self.rng.u8(0..KEYS as u8).min(self.rng.u8(0..KEYS as u8));
        if self.calm { user.min(self.rng.u8(0..KEYS as u8)) } else { user }
    }

    fn give_each_key_a_token(&mut self) {
        for user in 0..KEYS as u8 {
            self.call_of(user, 0, Wanted::Usable);
            self.settle();
            self.mint(usize::from(user));
            self.settle();
            self.check();
        }
    }

    // ---- callers

    fn call(&mut self) {
        let (user, runtime) = (self.user(), self.rng.usize(0..2));
        let wanted = match self.rng.u8(0..12) {
            0 => Wanted::Refreshed,
            1 => Wanted::ValidFor([1_000, 60_000, 3_600_000][self.rng.usize(0..3)]),
            2 => Wanted::WarmUp,
            _ => Wanted::Usable,
        };
        for _ in 0..if self.rng.u8(0..10) == 0 { 20 } else { 1 } {
            self.call_of(user, runtime, wanted);
        }
    }

    fn fetches(&self) -> u64 {
        self.source.stats().fetches
    }

    fn call_of(&mut self, user: u8, runtime: usize, wanted: Wanted) {
        let (now, before) = (self.now(), self.fetches());
        let mut start = self.oracle.calls(user, wanted, now);
        let mut caller = Caller::new(user, runtime, start, None, call(&self.source, user, wanted));
        let output = caller.poll(&self.runtimes);
        let started = self.fetches() > before;
        self.trace(|| format!("a call for {user} from {runtime}, {wanted:?}: {output:?}"));
        match &output {
            Some(Output::Token(Ok(token))) => {
                let at_once = AtOnce::Stamped(token.as_ref().map(Stamp::of));
                let tok = self.oracle.looked_up(user, &start, at_once, started, now);
                self.held.extend(token.clone().map(|token| Held { user, token, tok }));
            }
            Some(Output::Token(Err(error))) => {
                self.oracle.looked_up(user, &start, AtOnce::Failed(error), started, now);
            }
            Some(Output::Response(_)) => unreachable!(),
            None => {
                self.oracle.looked_up(user, &start, AtOnce::Waits, started, now);
                let on_demand = !matches!(wanted, Wanted::Usable | Wanted::WarmUp);
                start.needs_new = on_demand && self.source.peek_for(&ExtensionKey(user)).is_some();
                caller.start = start;
                self.callers.push(caller);
            }
        }
    }

    fn requests(&mut self) {
        let (user, runtime) = (self.user(), self.rng.usize(0..2));
        for _ in 0..if self.rng.u8(0..10) == 0 { 10 } else { 1 } {
            self.request(user, runtime);
        }
    }

    fn request(&mut self, user: u8, runtime: usize) {
        let (now, before) = (self.now(), self.fetches());
        let start = self.oracle.calls(user, Wanted::Usable, now);
        let (id, route) = (self.requests, self.rng.usize(0..ROUTES));
        self.requests += 1;
        self.oracle.counts.requests += 1;
        let status = [200, 200, 204, 304, 403, 503][self.rng.usize(0..6)];
        let mut request = Request::get(format!("{ORIGIN}/{route}")).body(String::new()).unwrap();
        request.extensions_mut().insert(user);
        request.extensions_mut().insert(Call { id, route, status, delayed: self.rng.u8(0..3) == 0 });
        let response = self.runtimes.within(runtime, || self.service.call(request));
        let sent = self.api.take_log(id);
        let future = Box::pin(async move {
            Output::Response(match response.await {
                Ok(response) => Ok(response.status().as_u16()),
                Err(error) => Err(match error.downcast_ref::<NotReplayed>() {
                    Some(not_replayed) => not_replayed.error().clone(),
                    None => Error::find(error.as_ref()).expect("an error of the layer").clone(),
                }),
            })
        });
        let mut caller = Caller::new(user, runtime, start, None, future);
        let output = caller.poll(&self.runtimes);
        let started = self.fetches() > before;
        self.trace(|| format!("request {id} for {user} on route {route} from {runtime}: {sent:?} {output:?}"));
        let mut sending = Sending { id, progress: Progress::WaitsForToken, tok: None };
        match (&sent[..], &output) {
            ([Happened::Sent(secret)], None) => {
                let stamp = Some(Stamp { secret, generation: None });
                sending.tok = self.oracle.looked_up(user, &start, AtOnce::Stamped(stamp), started, now);
                sending.progress = Progress::Sent;
            }
            ([], None) => {
                self.oracle.looked_up(user, &start, AtOnce::Waits, started, now);
            }
            ([], Some(Output::Response(Err(error)))) => {
                self.oracle.looked_up(user, &start, AtOnce::Failed(error), started, now);
                return;
            }
            unexpected => panic!("{unexpected:?}"),
        }
        caller.sending = Some(sending);
        self.callers.push(caller);
    }

    /// Polls a caller that was woken, and tells the oracle what happened. Returns whether it has ended.
    fn poll(&mut self, caller: &mut Caller) -> bool {
        let (now, before) = (self.now(), self.fetches());
        let output = caller.poll(&self.runtimes);
        let started = self.fetches() > before;
        if let Some(sending) = caller.sending {
            return self.polled_request(caller, sending, output, started, now);
        }
        let (user, start) = (caller.user, caller.start);
        self.oracle.looked_again(user, &start, started, now);
        let Some(output) = output else { return false };
        self.trace(|| format!("a caller for {user} gets {output:?}"));
        match output {
            Output::Token(Ok(token)) => {
                let tok = self.oracle.served(user, &start, token.as_ref().map(Stamp::of), now);
                self.held.extend(token.map(|token| Held { user, token, tok }));
            }
            Output::Token(Err(error)) => self.oracle.not_served(user, &start, start.needs_new, &error, now),
            Output::Response(_) => unreachable!(),
        }
        true
    }

    fn polled_request(
        &mut self,
        caller: &mut Caller,
        mut sending: Sending,
        output: Option<Output>,
        mut started: bool,
        now: Moment,
    ) -> bool {
        let (user, start) = (caller.user, caller.start);
        let log = self.api.take_log(sending.id);
        self.trace(|| format!("request {} for {user}: {log:?} {output:?}", sending.id));
        // Whether the rejection in this poll led to a replay or a wait.
        let mut helps = None;
        for happened in log {
            match (happened, sending.progress) {
                (Happened::Sent(secret), Progress::WaitsForToken) => {
                    self.oracle.looked_again(user, &start, std::mem::take(&mut started), now);
                    let stamp = Stamp { secret: &secret, generation: None };
                    sending.tok = self.oracle.served(user, &start, Some(stamp), now);
                    sending.progress = Progress::Sent;
                }
                (Happened::Sent(secret), Progress::WaitsForNewToken) => {
                    self.oracle.looked_again(user, &start, std::mem::take(&mut started), now);
                    sending.tok = self.oracle.replayed(user, &start, &secret, now);
                    sending.progress = Progress::Replayed;
                }
                (Happened::Responded(401), Progress::Sent) => {
                    helps = Some(self.rejected_by_api(user, sending.tok, std::mem::take(&mut started), now));
                    sending.progress = Progress::WaitsForNewToken;
                    caller.start.waits_again(now);
                }
                (Happened::Responded(401), Progress::Replayed) => self.replay_rejected(user, sending.tok, now),
                (Happened::Responded(status), Progress::Sent | Progress::Replayed) => {
                    if let (200..300 | 304, Some(tok), Some(rules)) = (status, sending.tok, self.oracle.exact(user)) {
                        rules.accept(tok);
                    }
                }
                unexpected => panic!("{unexpected:?}"),
            }
        }
        self.oracle.looked_again(user, &caller.start, started, now);
        caller.sending = Some(sending);
        match output {
            None => {
                let rules = self.oracle.exact(user);
                assert!(helps != Some(Sure::No), "a rejected request waits, and no fetch may start: {rules:?}");
                return false;
            }
            Some(Output::Response(Ok(status))) => {
                let rejected = sending.progress == Progress::WaitsForNewToken;
                assert!(!rejected || status == 401, "{status} instead of the rejection");
                let rules = self.oracle.exact(user);
                // The clocks of two runtimes differ, so a caller that has moved may have waited for max_wait already.
                let replayed = helps != Some(Sure::Yes) || start.moved;
                assert!(!rejected || replayed, "a rejected request is not replayed: {rules:?}");
            }
            Some(Output::Response(Err(error))) if sending.progress == Progress::WaitsForToken => {
                self.oracle.not_served(user, &start, false, &error, now);
            }
            Some(Output::Response(Err(_))) => assert_eq!(sending.progress, Progress::WaitsForNewToken),
            Some(Output::Token(_)) => unreachable!(),
        }
        true
    }

    fn rejected_by_api(&mut self, user: u8, tok: Option<usize>, started: bool, now: Moment) -> Sure {
        let Some(tok) = tok else {
            self.oracle.rejected_unseen(user);
            return Sure::Maybe;
        };
        self.oracle.count_rejection(user, tok, now);
        let helps = self.oracle.reject_exactly(user, tok, None, started, now);
        self.oracle.reject_loosely(user, tok, helps.possible(), now);
        helps
    }

    fn replay_rejected(&mut self, user: u8, tok: Option<usize>, now: Moment) {
        let Some(tok) = tok else { return self.oracle.rejected_unseen(user) };
        self.oracle.count_rejection(user, tok, now);
        if let Some(rules) = self.oracle.exact(user) {
            rules.reject_replay(tok, now.mono);
        }
        self.oracle.reject_loosely(user, tok, false, now);
    }

    fn leave(&mut self) {
        if !self.callers.is_empty() {
            let caller = self.callers.swap_remove(self.rng.usize(0..self.callers.len()));
            self.trace(|| format!("a caller for {} leaves", caller.user));
            if caller.sending.is_none() {
                self.oracle.left();
            }
        }
    }

    /// A readiness probe. It starts the first fetch.
    fn probe(&mut self) {
        let (user, runtime, now) = (self.user(), self.rng.usize(0..2), self.now());
        let before = self.fetches();
        self.oracle.counts.checked_ready += 1;
        self.oracle.sees(user);
        let start = self.oracle.looks(user, Wanted::Usable, now);
        let status = self.runtimes.within(runtime, || self.source.check_ready(&ExtensionKey(user)));
        let started = self.fetches() > before;
        self.trace(|| format!("a probe of {user} from {runtime}: {status:?}, started: {started}"));
        self.oracle.probed(user, &start, started, now);
    }

    /// Users that do not exist. Their fetches fail at once.
    fn invented(&mut self) {
        let (mut callers, evicted, mut fetched_again) = (Vec::new(), self.source.stats().evicted, 0);
        for _ in 0..self.rng.u8(1..20) {
            let Some(next) = self.next_invented.checked_add(1) else { break };
            let user = std::mem::replace(&mut self.next_invented, next);
            let start = self.oracle.looks(0, Wanted::Usable, self.now());
            let mut caller = Caller::new(user, 0, start, None, call(&self.source, user, Wanted::Usable));
            let before = self.fetches();
            assert!(caller.poll(&self.runtimes).is_none());
            self.runtimes.drive();
            assert_eq!(self.fetches() - before, 1, "fetches of an invented user");
            callers.push(caller);
        }
        for mut caller in callers {
            let before = self.fetches();
            let ended = caller.poll(&self.runtimes).is_some();
            self.runtimes.drive();
            // If the key of a caller was evicted meanwhile, the caller starts another fetch.
            let again = self.fetches() - before;
            assert!(again == 0 || again == 1 && !ended, "{again} more fetches of an invented user");
            self.oracle.counts.invented_keys += 1;
            fetched_again += again;
            self.oracle.counts.evicted_waiters += again;
            let expected = &mut self.oracle.expected;
            (expected.waits, expected.fetches, expected.fetches_failed) =
                (expected.waits + 1, expected.fetches + 1 + again, expected.fetches_failed + 1 + again);
            *(if ended { &mut expected.waits_failed } else { &mut expected.waits_abandoned }) += 1;
        }
        let evicted = self.source.stats().evicted - evicted;
        assert!(fetched_again <= evicted, "{fetched_again} callers fetched again, and {evicted} keys were evicted");
    }

    // ---- the issuer

    /// The requests that the issuer may respond to.
    fn open(&mut self) -> Vec<usize> {
        // A look at a key may have cancelled a fetch.
        self.runtimes.drive();
        self.report();
        (0..self.reported).filter(|fetch| self.oracle.may_respond(*fetch)).collect()
    }

    /// The issuer responds to one of its requests.
    fn respond(&mut self) {
        let open = self.open();
        if open.is_empty() {
            return;
        }
        let fetch = open[self.rng.usize(0..open.len())];
        match self.rng.u8(0..10) {
            chosen if chosen < self.failing => match self.rng.u8(0..5) {
                0 | 1 => self.fail(fetch, true),
                2 | 3 => self.fail(fetch, false),
                _ => self.panic(fetch),
            },
            chosen if chosen < self.failing + self.repeating => self.repeat(fetch),
            _ => self.mint(fetch),
        }
    }

    fn user_and_epoch(&self, fetch: usize) -> (u8, u32) {
        self.issuer.state(|state| (state.fetches[fetch].user, state.fetches[fetch].epoch))
    }

    fn mint(&mut self, fetch: usize) {
        let (user, epoch) = self.user_and_epoch(fetch);
        let lifetimes = if self.calm { &CALM_LIFETIMES[..] } else { &LIFETIMES };
        let lifetime = lifetimes[self.rng.usize(0..lifetimes.len())];
        let secret = format!("key-{user}.epoch-{epoch}.fetch-{fetch}");
        let expires_at = self.now().real.saturating_add(lifetime.unwrap_or(300_000));
        self.minted.push(Minted { user, epoch, secret: secret.clone(), expires_at });
        self.issue(fetch, secret, lifetime);
    }

    /// Returns one of the newest tokens of the same key and credentials again, if it has not expired.
    fn repeat(&mut self, fetch: usize) {
        let (user, epoch) = self.user_and_epoch(fetch);
        let (real, skipped) = (self.now().real, usize::from(self.rng.u8(0..4) == 0));
        let of_key = |minted: &&Minted| minted.user == user && minted.epoch == epoch;
        let newest = self.minted.iter().rev().filter(of_key).nth(skipped);
        let again = newest.filter(|minted| minted.expires_at > real && self.oracle.may_repeat(&minted.secret));
        match again.map(|minted| (minted.secret.clone(), minted.expires_at - real)) {
            Some((secret, left)) => self.issue(fetch, secret, Some(left)),
            None => self.mint(fetch),
        }
    }

    fn issue(&mut self, fetch: usize, secret: String, lifetime: Option<i64>) {
        self.trace(|| format!("fetch {fetch} returns {secret} for {lifetime:?} ms"));
        let (_, epoch) = self.user_and_epoch(fetch);
        let real = self.now().real;
        self.api.state(|state| *state.minted.entry(secret.clone()).or_insert(real));
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
            let seconds = [0, 1, 3, 100, u64::MAX][self.rng.usize(0..5)];
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

    // ---- the API

    fn api_changes(&mut self) {
        let (route, rng) = (self.rng.usize(0..ROUTES), &mut self.rng);
        let newest = self.minted.last().map(|minted| minted.secret.clone());
        let what = self.api.state(|state| match rng.u8(0..4) {
            0 => newest.map_or_else(String::new, |secret| {
                let what = format!("the API revokes {secret}");
                state.revoked.insert(secret);
                what
            }),
            _ => {
                state.rejects[route] = !state.rejects[route] && rng.u8(0..3) > 0;
                format!("route {route} rejects every token: {}", state.rejects[route])
            }
        });
        self.trace(|| what);
    }

    fn api_responds(&mut self) {
        let rng = &mut self.rng;
        let released = self.api.state(|state| {
            (!state.delayed.is_empty()).then(|| state.delayed.swap_remove(rng.usize(0..state.delayed.len())))
        });
        drop(released);
    }

    // ---- time

    fn some_time_passes(&mut self) {
        let longest: &[i64] = if self.calm {
            &[100, 500, 2_000, 5_000, 20_000, 60_000]
        } else if self.slow {
            &[100, 1_000, 5_000, 20_000, 100_000, 4_000_000]
        } else {
            &[10, 50, 200, 500, 2_000, 12_000, 60_000, 700_000]
        };
        let longest = longest[self.rng.usize(0..longest.len())];
        let time = self.rng.i64(1..=longest);
        self.pass(time);
    }

    fn pass(&mut self, time: i64) {
        let mut left = time;
        self.trace(|| format!("{left} ms pass"));
        while left > 0 {
            // In short steps while a fetch or a wait may time out.
            let waits = self.callers.iter().any(|caller| caller.waits().is_some());
            let busy = waits || (0..self.reported).any(|fetch| self.oracle.is_running(fetch));
            let step = if busy { left.min(1_000) } else { left };
            self.clocks.pass(step);
            self.runtimes.pass(step);
            self.settle();
            self.check();
            left -= step;
        }
    }

    fn jump(&mut self) {
        let by = [DAY, YEAR, 7_200_000][self.rng.usize(0..3)] * if self.rng.bool() { 1 } else { -1 };
        let (mono, wall) = [(by, 0), (0, by), (by, by), (by, -by)][self.rng.usize(0..4)];
        self.clocks.jump(mono, wall);
        self.trace(|| format!("the clocks jump by {mono} and {wall} ms"));
        self.oracle.jumped();
    }

    // ---- direct responses

    fn a_held_token(&mut self) -> Option<Held> {
        // Mostly one of the newest tokens: responses arrive within seconds.
        let newest = if self.rng.bool() { 1 } else { 5 };
        let from = self.held.len().saturating_sub(newest);
        let recent = &self.held[from..];
        (!recent.is_empty()).then(|| recent[self.rng.usize(0..recent.len())].clone())
    }

    /// The same for each new token of one key: a server accepts it, and then another process revokes it.
    fn fight(&mut self) {
        let (user, longest) = (self.user(), [1_000, 4_000, 9_000][self.rng.usize(0..3)]);
        for _ in 0..60 {
            self.call_of(user, 0, Wanted::Usable);
            self.settle();
            let fetch = self.open().into_iter().find(|fetch| self.user_and_epoch(*fetch).0 == user);
            if let Some(fetch) = fetch {
                self.mint(fetch);
                self.settle();
            }
            let Some(held) = self.held.iter().rfind(|held| held.user == user).cloned() else { return };
            self.accept(held.clone());
            self.reject(held);
            self.settle();
            self.check();
            let time = self.rng.i64(1..=longest);
            self.pass(time);
        }
    }

    fn accept(&mut self, held: Held) {
        let Held { user, token, tok } = held;
        self.trace(|| format!("{} is accepted", token.expose_secret()));
        self.source.accept(&token);
        self.accepted.insert(token.generation());
        if let (Some(tok), Some(rules)) = (tok, self.oracle.exact(user)) {
            rules.accept(tok);
        }
    }

    fn reject(&mut self, held: Held) {
        let Held { user, token, tok } = held;
        let (runtime, now, before) = (self.rng.usize(0..2), self.now(), self.fetches());
        let first = match (tok, self.oracle.exact(user)) {
            (Some(tok), Some(rules)) => !rules.is_accepted(tok),
            _ => !self.accepted.contains(&token.generation()),
        };
        let may_retry = self.runtimes.within(runtime, || self.source.reject(&ExtensionKey(user), &token));
        let started = self.fetches() > before;
        self.trace(|| format!("{} is rejected, retry: {may_retry}, started: {started}", token.expose_secret()));
        if let Some(tok) = tok {
            self.oracle.count_early(user, tok, now);
            let helps = self.oracle.reject_exactly(user, tok, Some(may_retry), started, now);
            assert!(helps.allows(may_retry), "a rejection allows a replay: {may_retry}, expected {helps:?}");
        }
        self.oracle.rejected(user, token.expose_secret(), first, may_retry, now);
        if may_retry && self.rng.u8(0..4) > 0 {
            self.oracle.counts.calls_again_after_a_rejection += 1;
            self.call_of(user, runtime, Wanted::Usable);
        }
    }

    fn rotate(&mut self) {
        let epoch = self.issuer.state(|state| {
            state.epoch += 1;
            state.epoch
        });
        self.source.rotate();
        self.trace(|| format!("rotated to {epoch}"));
        let now = self.now();
        (0..KEYS as u8).for_each(|user| self.oracle.forgotten(user, Some(epoch), now));
    }

    fn invalidate(&mut self, user: u8) {
        self.source.invalidate_for(&ExtensionKey(user));
        self.trace(|| format!("{user} is invalidated"));
        let now = self.now();
        self.oracle.forgotten(user, None, now);
    }

    // ---- runtimes

    /// The second runtime ends with its fetches. Its callers end too, or the first one polls them from then on.
    fn end_of_a_runtime(&mut self) {
        for mut caller in std::mem::take(&mut self.callers) {
            if caller.runtime == 1 && self.rng.bool() {
                if caller.sending.is_none() {
                    self.oracle.left();
                }
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
        self.call_of(user, 1, Wanted::Usable);
        self.trace(|| format!("and its fetch is never polled: {user}"));
        self.end_of_a_runtime();
        let now = self.now();
        let discarded = self.source.stats().fetches_discarded;
        self.oracle.cancelled_before_start(user, discarded, now);
    }

    // ---- after every step

    /// Between two polls at one moment, credentials rotate or keys are invalidated. `callers` are all callers.
    fn storm<'a>(&mut self, user: u8, callers: impl Iterator<Item = &'a mut Caller>) {
        // The oracle does not know what a fetch does that has not arrived at the issuer.
        self.runtimes.drive();
        self.report();
        self.oracle.counts.storms += 1;
        for caller in callers.filter(|caller| caller.is_woken()) {
            caller.start.may_miss(self.oracle.running(caller.user).last().copied());
        }
        for _ in 0..self.rng.u8(1..3) {
            if self.rng.bool() { self.rotate() } else { self.invalidate(user) }
        }
    }

    /// Polls everything until nothing changes, without letting time pass.
    fn settle(&mut self) {
        let mut storms = if self.stormy { self.rng.u8(0..3) } else { 0 };
        for round in 0.. {
            assert!(round < 50, "it does not settle");
            self.runtimes.drive();
            let mut moved = self.report();
            let mut waiting = Vec::new();
            let mut callers = VecDeque::from(std::mem::take(&mut self.callers));
            while let Some(mut caller) = callers.pop_front() {
                if !caller.is_woken() {
                    waiting.push(caller);
                    continue;
                }
                moved = true;
                let user = caller.user;
                if storms > 0 && self.rng.bool() {
                    storms -= 1;
                    let all = callers.iter_mut().chain(&mut waiting).chain([&mut caller]);
                    self.storm(user, all);
                }
                if !self.poll(&mut caller) {
                    waiting.push(caller);
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
        let (now, jumps) = (self.now(), self.oracle.setting.jumps);
        let (mut dropped, start) = self.issuer.state(|state| {
            // If a clock jumps, a fetch seems to run for longer than a fetch can.
            assert!(!state.overlap || jumps, "two token requests of one key at once");
            let dropped = (0..self.reported).filter(|id| !state.fetches[*id].open && self.oracle.is_running(*id));
            let start = state.fetches[self.reported..].iter().map(|fetch| (fetch.user, fetch.context.clone()));
            (dropped.collect::<Vec<_>>(), start.collect::<Vec<_>>())
        });
        // First those that a rotation is known to have cancelled. What the source counts then decides about the others.
        dropped.sort_by_key(|fetch| !self.oracle.is_cancelled(*fetch));
        for fetch in &dropped {
            self.trace(|| format!("fetch {fetch} is dropped"));
            self.oracle.fetch_dropped(*fetch, &self.source.stats(), now);
        }
        for (user, context) in &start {
            self.trace(|| format!("fetch {} starts, for {user}: {:?}", self.reported, context.reason()));
            self.oracle.fetch_started(*user, now);
            self.oracle.arrived(*user, context);
            self.reported += 1;
        }
        !dropped.is_empty() || !start.is_empty()
    }

    fn check(&mut self) {
        let now = self.now();
        for caller in &self.callers {
            if let Some(needs_new) = caller.waits() {
                self.oracle.check_waiting(caller.user, &caller.start, needs_new, now);
            }
        }
        self.oracle.check_cancelled();
        self.oracle.check_stats(&self.source.stats(), self.max_keys);
        for user in 0..KEYS as u8 {
            // A look at a key may change it, so this does not look after every step.
            if self.rng.u8(0..4) > 0 {
                continue;
            }
            let status = self.source.status_for(&ExtensionKey(user));
            let peeked = self.source.peek_for(&ExtensionKey(user));
            assert_eq!(status.is_ready(), peeked.is_some(), "{status:?}");
            let start = self.oracle.looks(user, Wanted::Usable, now);
            self.oracle.looked_at(user, peeked.as_ref(), status.state == TokenState::Rejected, now);
            match peeked {
                Some(token) => self.oracle.stamped(user, &start, token.expose_secret(), now),
                None => assert!(!self.oracle.must_be_served(user, now), "a usable token was removed"),
            }
        }
    }

    /// The issuer responds to every request. Afterwards no caller waits, and nothing runs.
    fn end(mut self) -> (SourceStats, Counts) {
        for round in 0.. {
            assert!(round < 500, "a caller gets no result");
            let open = self.open();
            for fetch in &open {
                if self.oracle.may_respond(*fetch) {
                    self.issue(*fetch, format!("last-{fetch}"), Some(DAY));
                    self.settle();
                    self.check();
                }
            }
            self.api.state(|state| state.delayed.clear());
            self.settle();
            if open.is_empty() && self.callers.is_empty() {
                break;
            }
            // Callers may wait for the end of a backoff.
            self.clocks.pass(100);
            self.runtimes.pass(100);
            self.settle();
        }
        let (user, runtime) = (self.user(), 0);
        self.call_of(user, runtime, Wanted::Usable);
        self.settle();
        let last_call_waits = !self.callers.is_empty();
        let counts = self.oracle.all_counts();
        let (runtimes, issuer, reported) = (self.runtimes, self.issuer, self.reported);
        let stats = self.source.stats();
        // Dropping the last handle and the last waiter cancels the fetch.
        drop((self.source, self.service, self.callers));
        runtimes.drive();
        let open = issuer.state(|state| state.fetches.iter().filter(|fetch| fetch.open).count());
        assert_eq!(open, 0, "a fetch runs without a handle and without a waiter");
        assert!(!last_call_waits || reported > 0);
        (stats, counts)
    }
}
