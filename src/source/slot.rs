//! One key's state machine. Pure: time, random draws and flights are handed in, and nothing here waits.

use std::time::{Duration, Instant};

use http::HeaderValue;

use super::failure::{Failure, Losses};
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::message::Rejection;
use crate::provider::{FetchContext, FetchReason};
use crate::refresh::{self, Budget, Pause, RefreshPolicy};
use crate::token::{IssuedToken, Token};

/// Where random draws in `[0, 1]` come from.
#[derive(Debug)]
pub(super) enum Jitter {
    Random(fastrand::Rng),
    #[cfg(test)]
    Fixed(f64),
}

impl Jitter {
    fn draw(&mut self) -> f64 {
        match self {
            Self::Random(rng) => rng.f64(),
            #[cfg(test)]
            Self::Fixed(draw) => *draw,
        }
    }
}

/// The state of one key. `F` is the handle of a flight, of which the slot knows nothing but that it is there.
pub(super) struct Slot<F> {
    current: Option<Token>,
    /// The token whose refusal the flight in the air is to heal.
    aside: Option<Aside>,
    flight: Option<InAir<F>>,
    failure: Option<Failure>,
    /// Transient failures in a row.
    failures: u32,
    budget: Budget,
    losses: Losses,
    /// No early refresh before this much has passed since then.
    early: Option<(Instant, Duration)>,
    /// The generation whose refusal has ended a pause already.
    cut_short_for: Option<u64>,
    cleared_at: Option<Instant>,
    /// Whether the tokens were forgotten, and none was fetched since.
    forgotten: bool,
    jitter: Jitter,
    /// Out of the map: whoever still holds the slot looks its key up again.
    pub(super) evicted: bool,
}

struct Aside {
    token: Token,
    explicit: bool,
}

pub(super) struct InAir<F> {
    pub(super) id: u64,
    pub(super) handle: F,
    departed: Instant,
}

/// What a request for a token comes to.
#[derive(Debug)]
pub(super) enum Next {
    /// Stamp this token.
    Stamp(Token),
    /// Stamp this token, and start a flight.
    StampAndDepart(Token),
    /// Wait for the flight in the air.
    Join,
    /// Start a flight and wait for it.
    Depart,
    /// No token, and no flight before the pause is over.
    Fail(Error),
}

/// What a refusal comes to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Go on as with a request for a token.
    Renew(Next),
    /// The renewal budget is empty.
    Exhausted,
    /// The issuer is left alone until its pause is over.
    CoolingDown(Error),
}

/// A slot as a readiness probe sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) usable: Option<Token>,
    pub(super) stale: bool,
    pub(super) in_air: bool,
    pub(super) last_error: Option<Error>,
    pub(super) next_try: Option<Duration>,
}

impl<F> Slot<F> {
    pub(super) fn new(jitter: Jitter, now: Now) -> Self {
        Self {
            current: None,
            aside: None,
            flight: None,
            failure: None,
            failures: 0,
            losses: Losses::default(),
            budget: Budget::full(now.mono),
            early: None,
            cut_short_for: None,
            cleared_at: None,
            forgotten: false,
            jitter,
            evicted: false,
        }
    }

    pub(super) fn current(&self) -> Option<&Token> {
        self.current.as_ref()
    }

    pub(super) fn flight(&self) -> Option<&InAir<F>> {
        self.flight.as_ref()
    }

    pub(super) fn request(&mut self, now: Now) -> Next {
        self.next(true, now)
    }

    /// The same for who has waited already: the loss of the flight that it waited for is shown to nobody.
    pub(super) fn request_again(&mut self, now: Now) -> Next {
        self.next(false, now)
    }

    fn next(&mut self, first: bool, now: Now) -> Next {
        if let Some(token) = self.usable(now).cloned() {
            return if self.early_refresh_is_due(&token, now) {
                Next::StampAndDepart(token)
            } else {
                Next::Stamp(token)
            };
        }
        if self.flight.is_some() {
            return Next::Join;
        }
        let losses = || self.losses.pause(false, now).filter(|_| first);
        self.cooling_down(now).or_else(losses).map_or(Next::Depart, Next::Fail)
    }

    /// What the next fetch is told. `challenges` are those of the response that rejected the token.
    pub(super) fn fetch_context(&self, challenges: Vec<HeaderValue>) -> FetchContext {
        match (&self.aside, &self.current) {
            (Some(aside), _) => FetchContext::new(FetchReason::Rejected, Some(aside.token.clone()), challenges),
            (None, Some(current)) => FetchContext::new(FetchReason::Expiring, Some(current.clone()), challenges),
            (None, None) if self.forgotten => FetchContext::new(FetchReason::Rotated, None, challenges),
            (None, None) => FetchContext::default(),
        }
    }

    pub(super) fn depart(&mut self, id: u64, handle: F, now: Now) {
        self.flight = Some(InAir { id, handle, departed: now.mono });
    }

    /// Takes the flight out of the air, if it is the one meant.
    pub(super) fn end_flight(&mut self, id: u64) -> Option<F> {
        self.flight.take_if(|flight| flight.id == id).map(|flight| flight.handle)
    }

    /// Takes out a flight that somebody needs and that is in the air longer than any can be: its runtime is not being
    /// driven. Beside a usable token it may stay there until somebody drives it.
    pub(super) fn end_stuck_flight(&mut self, longest: Duration, now: Now) -> Option<F> {
        if self.usable(now).is_some() {
            return None;
        }
        self.flight
            .take_if(|flight| now.mono.saturating_duration_since(flight.departed) > longest)
            .map(|flight| flight.handle)
    }

    /// A flight ended without an outcome. Runtimes that end one after the other must not mean one token request each; the
    /// first loss keeps nobody waiting.
    pub(super) fn lose(&mut self, now: Now) {
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable));
        self.losses.add(Pause::transient(self.losses.in_a_row(), usable_for, self.jitter.draw()), now);
    }

    /// Takes in what a flight brought. The outcome is for everyone who waited for it.
    pub(super) fn land(
        &mut self,
        result: Result<IssuedToken, Error>,
        policy: &RefreshPolicy,
        began: Now,
        now: Now,
        generation: u64,
    ) -> Result<Token, Error> {
        self.losses = Losses::default();
        let issued = match result {
            Ok(issued) => issued,
            Err(error) => return Err(self.fail(error, now)),
        };
        let deadlines = policy.deadlines(issued.lifetime(), began, now, self.jitter.draw());
        if now.reached(&deadlines.nominal) {
            let error = Error::new(ErrorKind::Unavailable, "the token had expired when it arrived");
            return Err(self.fail(error.with_hint("the issuer takes longer to answer than its tokens live"), now));
        }
        if self.aside.as_ref().is_some_and(|aside| issued.same_secret(&aside.token)) {
            let error = Error::new(ErrorKind::Unavailable, "the issuer handed out the refused token again").with_hint(
                "the issuer does not know yet that the token was withdrawn, or the API is wrong to refuse it",
            );
            return Err(self.fail(error, now));
        }
        self.failure = None;
        self.failures = 0;
        self.aside = None;
        let usable_for = now.until(&deadlines.usable);
        if let Some(current) = self.usable(now).cloned() {
            let current_for = now.until(&current.deadlines().usable);
            if issued.same_secret(&current) || refresh::too_short(usable_for, current_for) {
                self.early = Some((now.mono, refresh::early_pause(current_for)));
                return Ok(current);
            }
        }
        if usable_for.is_zero() {
            return Ok(Token::new(issued, generation, deadlines, true));
        }
        let token = Token::new(issued, generation, deadlines, false);
        self.early = None;
        self.forgotten = false;
        self.current = Some(token.clone());
        Ok(token)
    }

    /// The server refused the token of `generation`.
    pub(super) fn refuse(&mut self, generation: u64, refusal: Rejection, now: Now) -> Verdict {
        let Some(current) = self.usable(now).filter(|current| current.generation() == generation).cloned() else {
            if let Some(aside) = self.aside.as_mut().filter(|aside| aside.token.generation() == generation) {
                aside.explicit |= refusal == Rejection::InvalidToken;
            }
            return Verdict::Renew(self.request(now));
        };
        let cut = match &self.failure {
            Some(failure) if failure.runs(true, now) => {
                if !failure.may_be_cut || self.cut_short_for == Some(generation) {
                    return Verdict::CoolingDown(failure.shared(true, now));
                }
                true
            }
            _ => false,
        };
        if !self.budget.take(current.is_accepted(), now.mono) {
            return Verdict::Exhausted;
        }
        if cut {
            self.cut_short_for = Some(generation);
            self.failure = None;
        }
        self.current = None;
        self.aside = Some(Aside { token: current, explicit: refusal == Rejection::InvalidToken });
        Verdict::Renew(self.request(now))
    }

    /// Forgets every token, and takes the flight out of the air. Nothing that is current now is stamped again.
    pub(super) fn forget(&mut self, credentials_changed: bool, now: Now) -> Option<F> {
        self.forget_tokens(credentials_changed, now);
        self.flight.take().map(|flight| flight.handle)
    }

    /// The same, but for the flight, which is the one that asks for it.
    pub(super) fn forget_tokens(&mut self, credentials_changed: bool, now: Now) {
        self.current = None;
        self.aside = None;
        self.early = None;
        self.forgotten = true;
        // A loop of invalidations must not remove the issuer's protection.
        let lately = self.cleared_at.is_some_and(|at| !refresh::passed(at, Duration::from_secs(1), now.mono));
        if credentials_changed || !lately {
            self.losses = Losses::default();
            self.failure = None;
            self.failures = 0;
            self.cleared_at = Some(now.mono);
        }
    }

    pub(super) fn view(&self, now: Now) -> View {
        let usable = self.usable(now).cloned();
        let next_try = self.failure.as_ref().map(|failure| failure.remaining(usable.is_some(), now));
        View {
            stale: usable.as_ref().is_some_and(|token| in_window(token, now)),
            usable,
            in_air: self.flight.is_some(),
            last_error: self.failure.as_ref().map(|failure| failure.error.clone()),
            next_try: next_try.filter(|left| !left.is_zero()),
        }
    }

    /// Whether throwing the slot away would forget how to protect the issuer.
    pub(super) fn guards_issuer(&self, now: Now) -> bool {
        !self.budget.is_full(now.mono) || self.cooling_down(now).is_some() || self.losses.pause(false, now).is_some()
    }

    pub(super) fn usable(&self, now: Now) -> Option<&Token> {
        self.current.as_ref().filter(|token| is_usable(token, now))
    }

    fn early_refresh_is_due(&self, token: &Token, now: Now) -> bool {
        self.flight.is_none()
            && in_window(token, now)
            && self.early.is_none_or(|(since, length)| refresh::passed(since, length, now.mono))
            && !self.failure.as_ref().is_some_and(|failure| failure.runs(true, now))
            && self.losses.pause(true, now).is_none()
    }

    fn cooling_down(&self, now: Now) -> Option<Error> {
        let with_token = self.usable(now).is_some();
        self.failure.as_ref().filter(|failure| failure.runs(with_token, now)).map(|f| f.shared(with_token, now))
    }

    fn fail(&mut self, error: Error, now: Now) -> Error {
        if let Some(aside) = self.aside.take() {
            // A bare 401 while the issuer is down must not become a full outage.
            if !aside.explicit {
                self.current = Some(aside.token);
            }
        }
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable));
        let mut pause = if error.is_transient() {
            let pause = Pause::transient(self.failures, usable_for, self.jitter.draw());
            self.failures = self.failures.saturating_add(1);
            pause
        } else {
            Pause::permanent(self.jitter.draw())
        };
        if let Some(asked) = error.retry_after() {
            pause = pause.at_least(asked, self.jitter.draw());
        }
        let may_be_cut = error.is_transient() && error.retry_after().is_none();
        let failure = Failure { error, at: now.mono, pause, may_be_cut };
        let shared = failure.shared(usable_for.is_some(), now);
        self.failure = Some(failure);
        shared
    }
}

pub(super) fn is_usable(token: &Token, now: Now) -> bool {
    let deadlines = token.deadlines();
    !now.reached(&deadlines.usable) && !refresh::went_back(deadlines.began.mono, now.mono)
}

/// Whether a token may be stamped without asking the slot: usable, and not due for renewal.
#[inline]
pub(super) fn is_fresh(token: &Token, now: Now) -> bool {
    !now.reached(token.fresh_until()) && !refresh::went_back(token.deadlines().began.mono, now.mono)
}

fn in_window(token: &Token, now: Now) -> bool {
    token.deadlines().refresh.is_some_and(|start| now.reached(&start))
}

impl<F> std::fmt::Debug for Slot<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("current", &self.current)
            .field("in_air", &self.flight.as_ref().map(|flight| flight.id))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
