//! What is said of a source: its own statistics, and what an operator sees.

use std::time::Duration;

use super::dispatch::{Grant, Joined, Lookup};
use super::{Inner, TokenSource};
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::telemetry::{Event, InHand, Since, Span, Whose};
use crate::token::Token;

impl<P: TokenProvider> Inner<P> {
    #[expect(clippy::too_many_arguments, reason = "a landing has many sides, and one caller")]
    pub(super) fn tell_landing(
        &self,
        key: &P::Key,
        landed: &Result<Token, Error>,
        generation: u64,
        in_hand: Option<&Token>,
        took: Duration,
        now: Now,
        span: &Span,
    ) {
        let whose = Whose::key(key);
        let usable_for = |token: &Token| now.until(&token.deadlines().usable);
        let (outcome, minted, event) = match landed {
            Ok(token) if token.generation() == generation => {
                let expires_in = now.until(&token.deadlines().nominal);
                let usable_for = usable_for(token);
                ("minted", Some(generation), Event::Minted { whose, generation, expires_in, usable_for, took })
            }
            Ok(token) => {
                let (generation, usable_for) = (token.generation(), usable_for(token));
                ("kept", Some(generation), Event::Kept { whose, generation, usable_for, took })
            }
            Err(error) => {
                let in_hand = in_hand.map(|token| InHand {
                    generation: token.generation(),
                    age: age(token, now),
                    usable_for: usable_for(token),
                });
                ("failed", None, Event::Failed { whose, error, in_hand, took })
            }
        };
        span.landed(outcome, minted);
        self.telemetry.emit(event);
    }

    pub(super) fn tell_wait(&self, outcome: &'static str, since: &Since) {
        self.telemetry.emit(Event::Waited { outcome, took: since.until(|| self.clock.now().mono) });
    }
}

impl<P: TokenProvider> TokenSource<P> {
    pub(crate) fn report_not_stamped(&self, host: &str) {
        self.inner.stats.not_stamped();
        self.inner.telemetry.emit(Event::NotStamped { host });
    }

    pub(crate) fn report_replay(&self) {
        self.inner.stats.record(|stats| stats.replays += 1);
        self.inner.telemetry.emit(Event::Resent);
    }

    pub(crate) fn report_outcome(&self, grant: &Grant<P::Key>, outcome: &'static str, error: Option<ErrorKind>) {
        let (whose, generation) = (Whose::key(grant.key()), grant.token().generation());
        self.inner.telemetry.emit(Event::Settled { whose, generation, outcome, error });
    }

    /// The server refused the second sending as well, which renews nothing.
    pub(crate) fn report_rejected_again(&self, grant: &Grant<P::Key>, refusal: Rejection) {
        let now = self.inner.clock.now();
        self.count_refusal(grant, refusal, grant.token().is_accepted(), "none", now);
    }

    /// `accepted` is whether a server had taken the token before.
    pub(super) fn count_refusal(
        &self,
        grant: &Grant<P::Key>,
        refusal: Rejection,
        accepted: bool,
        renewal: &'static str,
        now: Now,
    ) {
        self.inner.stats.record(|stats| {
            stats.rejections += 1;
            stats.rejections_of_unaccepted += u64::from(!accepted);
            stats.budget_exhausted += u64::from(renewal == "declined");
        });
        let token = grant.token();
        self.inner.telemetry.emit(Event::Refused {
            whose: Whose::key(grant.key()),
            generation: token.generation(),
            age: age(token, now),
            token: match accepted {
                false => "unaccepted",
                true if now.reached(&token.deadlines().nominal) => "expired",
                true => "accepted",
            },
            first: token.refused_first(),
            explicit: refusal == Rejection::InvalidToken,
            renewal,
        });
    }
}

/// What a refusal has set off, in a word.
pub(super) fn word_for<K>(entered: &Lookup<K, Joined<K>>) -> &'static str {
    match entered {
        Lookup::Granted(_) => "ready",
        Lookup::Wait(_) => "under_way",
        Lookup::Failed(_) => "failed",
    }
}

fn age(token: &Token, now: Now) -> Duration {
    now.mono.saturating_duration_since(token.deadlines().began.mono)
}
