//! Scenarios for the pure slot, rule by rule. The expected numbers are computed by hand from the rules.

mod context;
mod failure;
mod handles;
mod lifetime;
mod rejection;

use super::*;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * 86_400;

/// One slot, its clocks and its fetch. Times are milliseconds since the start, on both clocks.
struct Play {
    slot: Slot<u64>,
    policy: RefreshPolicy,
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
    Fail(u64),
    BudgetExhausted,
    Backoff(u64),
}
use Action::{Backoff, BudgetExhausted, Fail, Fetch, Join, Stamp, StampAndFetch};

impl Play {
    fn new(draw: f64) -> Self {
        let start = Now::for_tests();
        Self {
            slot: Slot::new(Jitter::Fixed(draw), start),
            policy: RefreshPolicy::new(),
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
        self.slot.current().unwrap().accept();
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
        let next = self.slot.request(self.now);
        self.perform(next)
    }

    fn reject(&mut self, generation: u64, rejection: Rejection) -> Action {
        match self.slot.reject(generation, rejection, self.now) {
            RejectionOutcome::Proceed(next) => self.perform(next),
            RejectionOutcome::BudgetExhausted => BudgetExhausted,
            RejectionOutcome::Backoff(error) => Backoff(next_try(&error)),
        }
    }

    /// Returns the fetch that became stale.
    fn forget(&mut self, credentials_changed: bool) -> Option<u64> {
        self.slot.forget(credentials_changed, self.now)
    }

    fn take_stuck(&mut self, longest: Duration) -> Option<u64> {
        self.slot.take_stuck_fetch(longest, self.now)
    }

    fn usable(&self) -> Option<u64> {
        self.slot.usable(self.now).map(Token::generation)
    }

    fn guards_issuer(&self) -> bool {
        self.slot.guards_issuer(self.now)
    }

    fn perform(&mut self, next: SlotAction) -> Action {
        let action = match next {
            SlotAction::Stamp(token) => Stamp(token.generation()),
            SlotAction::StampAndFetch(token) => StampAndFetch(token.generation()),
            SlotAction::Join => Join,
            SlotAction::Fetch => Fetch,
            SlotAction::Fail(error) => Fail(next_try(&error)),
        };
        if matches!(action, Fetch | StampAndFetch(_)) {
            assert!(self.slot.in_flight().is_none(), "a second fetch");
            self.fetches += 1;
            self.fetch_started = self.now;
            self.slot.start_fetch(self.fetches, self.fetches, self.now);
        }
        action
    }

    fn outcome(&mut self, result: Result<IssuedToken, Error>) -> Result<Token, Error> {
        assert_eq!(self.slot.take_fetch(self.fetches), Some(self.fetches), "no such fetch");
        self.tokens += 1;
        self.slot.complete(result, &self.policy, self.fetch_started, self.now, self.tokens)
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

fn next_try(error: &Error) -> u64 {
    u64::try_from(error.retry_after().unwrap().as_millis()).unwrap()
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
