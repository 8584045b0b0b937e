//! Plays on the pure slot, rule by rule. The expected numbers are written out from the rules by hand.

mod failure;
mod handles;
mod lifetime;
mod rejection;

use super::*;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * 86_400;

/// One slot, and what happens to it at which millisecond since the start, on both clocks.
struct Play {
    slot: Slot<u64>,
    policy: RefreshPolicy,
    start: Now,
    now: Now,
    departed: Now,
    flights: u64,
    tokens: u64,
}

/// What a slot said to a request or to a refusal, with the generation, or the ms until the next try.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Stamp(u64),
    StampAndDepart(u64),
    Join,
    Depart,
    Fail(u64),
    Exhausted,
    CoolingDown(u64),
}
use Said::{CoolingDown, Depart, Exhausted, Fail, Join, Stamp, StampAndDepart};

impl Play {
    fn new(draw: f64) -> Self {
        let start = Now::for_tests();
        Self {
            slot: Slot::new(Jitter::Fixed(draw), start),
            policy: RefreshPolicy::new(),
            start,
            now: start,
            departed: start,
            flights: 0,
            tokens: 0,
        }
    }

    /// A slot that asked for a token of `seconds` at 0 ms and has it at 0 ms.
    fn with_token(draw: f64, seconds: u64) -> Self {
        let mut play = Self::new(draw);
        assert_eq!(play.ask(), Depart);
        assert_eq!(play.lands("first", seconds * 1_000), 1);
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

    /// Both clocks go on as they are, or jump by so many seconds.
    fn jump(&mut self, mono: i64, wall: i64) -> &mut Self {
        let moved = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        self.now.mono = if mono < 0 { self.now.mono - moved(mono) } else { self.now.mono + moved(mono) };
        self.now.wall = if wall < 0 { self.now.wall - moved(wall) } else { self.now.wall + moved(wall) };
        self
    }

    /// A request. A flight that the slot asks for departs.
    fn ask(&mut self) -> Said {
        let next = self.slot.request(self.now);
        self.follow(next)
    }

    fn refuse(&mut self, generation: u64, refusal: Rejection) -> Said {
        match self.slot.refuse(generation, refusal, self.now) {
            Verdict::Renew(next) => self.follow(next),
            Verdict::Exhausted => Exhausted,
            Verdict::CoolingDown(error) => CoolingDown(next_try(&error)),
        }
    }

    /// The flight that became stale.
    fn forget(&mut self, credentials_changed: bool) -> Option<u64> {
        self.slot.forget(credentials_changed, self.now)
    }

    fn is_stuck(&mut self, longest: Duration) -> Option<u64> {
        self.slot.end_stuck_flight(longest, self.now)
    }

    fn usable(&self) -> Option<u64> {
        self.slot.usable(self.now).map(Token::generation)
    }

    fn guards_issuer(&self) -> bool {
        self.slot.guards_issuer(self.now)
    }

    fn follow(&mut self, next: Next) -> Said {
        let said = match next {
            Next::Stamp(token) => Stamp(token.generation()),
            Next::StampAndDepart(token) => StampAndDepart(token.generation()),
            Next::Join => Join,
            Next::Depart => Depart,
            Next::Fail(error) => Fail(next_try(&error)),
        };
        if matches!(said, Depart | StampAndDepart(_)) {
            assert!(self.slot.flight().is_none(), "a second flight");
            self.flights += 1;
            self.departed = self.now;
            self.slot.depart(self.flights, self.flights, self.now);
        }
        said
    }

    fn outcome(&mut self, result: Result<IssuedToken, Error>) -> Result<Token, Error> {
        assert_eq!(self.slot.end_flight(self.flights), Some(self.flights), "no such flight");
        self.tokens += 1;
        self.slot.land(result, &self.policy, self.departed, self.now, self.tokens)
    }

    fn lands_late_or_not(&mut self, secret: &str, ms: u64) -> Result<Token, Error> {
        self.outcome(Ok(IssuedToken::bearer(secret).unwrap().expires_in(Duration::from_millis(ms))))
    }

    /// The flight brings a token. The generation that its waiters get.
    fn lands(&mut self, secret: &str, ms: u64) -> u64 {
        let token = self.lands_late_or_not(secret, ms).unwrap();
        assert!(!token.is_late());
        token.generation()
    }

    /// The flight fails. The ms until the next try, as its waiters are told.
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
