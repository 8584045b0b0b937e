//! Scenarios for the pure slot, rule by rule. The expected numbers are computed by hand from the rules.

mod context;
mod demand;
mod failure;
mod forget;
mod handles;
mod lifetime;
mod marks;
mod patience;
mod rare;
mod rejection;
mod replacement;
mod rotate;
mod secret;
mod set_aside;
mod throttle;
mod walk;

use super::*;
use crate::error::ErrorKind;
use crate::refresh::RefreshPolicy;
use crate::source::action::RejectionOutcome;
use crate::token::IssuedToken;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * 86_400;

/// One slot, its clocks and its fetch. Times are milliseconds since the start, on both clocks.
struct Play {
    slot: Slot<u64>,
    policy: RefreshPolicy,
    patience: Patience,
    /// For how many ms a rejected token is set aside.
    set_aside: u64,
    /// The context of the last fetch. The response that caused it had two challenges.
    context: FetchContext,
    start: Now,
    now: Now,
    fetch_started: Now,
    fetches: u64,
    tokens: u64,
}

/// What the slot returns for a request or for a rejection, with the generation, or the ms until the next try.
#[derive(Clone, Debug, PartialEq)]
enum Action {
    Stamp(u64),
    StampAndFetch(u64),
    Join,
    Fetch,
    LookAgain(Option<u64>),
    Fail(u64),
    BudgetExhausted,
    Backoff(u64),
}
use Action::{Backoff, BudgetExhausted, Fail, Fetch, Join, LookAgain, Stamp, StampAndFetch};

/// Something that happens to a slot, with its name.
struct Event(&'static str, fn(&mut Play));

impl Play {
    fn new(draw: f64) -> Self {
        let start = Now::for_tests();
        Self {
            slot: Slot::new(Jitter::Fixed(draw)),
            policy: RefreshPolicy::new(),
            patience: Patience { limit: Some(Duration::ZERO), max_wait: Duration::from_secs(15) },
            set_aside: 5_000,
            context: FetchContext::default(),
            start,
            now: start,
            fetch_started: start,
            fetches: 0,
            tokens: 0,
        }
    }

    /// A slot whose token lives `seconds`. Its fetch started and completed at 0 ms.
    fn with_token(draw: f64, seconds: u64) -> Self {
        let mut play = Self::new(draw);
        assert_eq!(play.request(), Fetch);
        assert_eq!(play.completes("first", seconds * 1_000), 1);
        play
    }

    /// The same, and a server has accepted the token.
    fn with_accepted(draw: f64, seconds: u64) -> Self {
        let play = Self::with_token(draw, seconds);
        play.accept();
        play
    }

    fn accept(&self) {
        self.slot.current.as_ref().unwrap().accept();
    }

    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = self.start.after(Duration::from_millis(ms));
        self
    }

    /// Each clock jumps by so many seconds.
    fn jump(&mut self, mono: i64, wall: i64) -> &mut Self {
        let moved = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        self.now.mono = if mono < 0 { self.now.mono - moved(mono) } else { self.now.mono + moved(mono) };
        self.now.wall = if wall < 0 { self.now.wall - moved(wall) } else { self.now.wall + moved(wall) };
        self
    }

    /// A request. Starts a fetch if the slot returns that action.
    fn request(&mut self) -> Action {
        self.request_for(Wanted::Usable)
    }

    fn request_for(&mut self, wanted: Wanted) -> Action {
        let next = self.slot.request(wanted, self.patience, self.now);
        self.perform(next)
    }

    fn reject(&mut self, generation: u64) -> Action {
        match self.slot.reject(generation, Duration::from_millis(self.set_aside), self.patience, self.now) {
            RejectionOutcome::Replace(next) | RejectionOutcome::NotCurrent(next) => self.perform(next),
            RejectionOutcome::BudgetExhausted => BudgetExhausted,
            RejectionOutcome::Backoff(error) => Backoff(next_try(&error)),
        }
    }

    fn reject_replay(&mut self, generation: u64) {
        self.slot.reject_replay(generation, self.now);
    }

    fn invalidate(&mut self) {
        self.slot.invalidate(None, self.now);
    }

    fn rotate(&mut self) {
        self.slot.rotate(None, self.now);
    }

    /// The handle of the waiters that look again; `new` if there is none yet.
    fn look_again(&mut self, new: u64) -> u64 {
        *self.slot.waiters(|| new)
    }

    /// The handles of the waiters that look again.
    fn woken(&mut self) -> Vec<u64> {
        self.slot.take_removed().handles
    }

    fn take_stuck(&mut self, longest: Duration) -> Option<u64> {
        self.slot.take_stuck_fetch(longest, false, self.now).map(|fetch| fetch.id)
    }

    fn usable(&self) -> Option<u64> {
        self.slot.usable(self.now).map(Token::generation)
    }

    fn budget_is_full(&self) -> bool {
        self.slot.rare.as_ref().and_then(|rare| rare.budget).is_none_or(|budget| budget.is_full(self.now.mono))
    }

    fn guards_issuer(&self) -> bool {
        self.slot.guards_issuer(self.now)
    }

    fn perform(&mut self, next: SlotAction) -> Action {
        let action = match &next {
            SlotAction::Stamp(token) => Stamp(token.generation()),
            SlotAction::StampAndFetch(token) => StampAndFetch(token.generation()),
            SlotAction::Join => Join,
            SlotAction::Fetch(_) => Fetch,
            SlotAction::LookAgain(left) => LookAgain(left.map(ms)),
            SlotAction::Fail(error) => Fail(next_try(error)),
        };
        let cause = match next {
            SlotAction::StampAndFetch(_) => FetchCause::Early,
            SlotAction::Fetch(cause) => cause,
            _ => return action,
        };
        assert!(self.slot.in_flight().is_none(), "a second fetch");
        self.fetches += 1;
        self.fetch_started = self.now;
        self.context = self.slot.fetch_context(cause, &mut vec![HeaderValue::from_static("Bearer"); 2], self.now);
        self.slot.start_fetch(self.fetches, self.fetches, cause, self.now);
        action
    }

    fn outcome(&mut self, result: Result<IssuedToken, Error>) -> Result<Token, Error> {
        let fetch = self.slot.take_fetch(self.fetches).expect("a fetch is running");
        self.tokens += 1;
        self.slot.complete(&fetch, result, &self.policy, self.fetch_started, self.now, self.tokens)
    }

    fn completes_with(&mut self, secret: &str, ms: u64) -> Result<Token, Error> {
        self.outcome(Ok(IssuedToken::bearer(secret).unwrap().expires_in(Duration::from_millis(ms))))
    }

    /// The fetch returns a token. Returns the generation that its waiters get.
    fn completes(&mut self, secret: &str, ms: u64) -> u64 {
        let token = self.completes_with(secret, ms).unwrap();
        assert!(!token.is_for_waiters_only());
        token.generation()
    }

    /// The fetch fails. Returns the ms until the next try in the error of its waiters.
    fn fails(&mut self, error: Error) -> u64 {
        next_try(&self.outcome(Err(error)).unwrap_err())
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn next_try(error: &Error) -> u64 {
    ms(error.retry_after().unwrap())
}

fn down() -> Error {
    Error::transient("down")
}

fn throttled(seconds: u64) -> Error {
    Error::transient("throttled").with_kind(ErrorKind::Throttled).with_retry_after(Duration::from_secs(seconds))
}

fn wrong_secret() -> Error {
    Error::permanent("wrong secret").with_kind(ErrorKind::InvalidCredentials)
}
