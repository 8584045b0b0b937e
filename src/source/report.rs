//! What is said of a source: its own statistics, and what an operator sees.

use std::time::Duration;

use super::dispatch::{Entered, Grant};
use super::{Inner, TokenSource};
use crate::api::Refusal;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::observe::{Event, InHand, Since, Span, Whose};
use crate::provider::TokenProvider;
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
        self.eyes.saw(event);
    }

    pub(super) fn tell_wait(&self, outcome: &'static str, since: &Since) {
        self.eyes.saw(Event::Waited { outcome, took: since.until(|| self.clock.now().mono) });
    }
}

impl<P: TokenProvider> TokenSource<P> {
    pub(crate) fn pass_foreign(&self, host: &str) {
        self.inner.stats.not_stamped();
        self.inner.eyes.saw(Event::NotStamped { host });
    }

    pub(crate) fn count_replay(&self) {
        self.inner.stats.record(|stats| stats.replays += 1);
        self.inner.eyes.saw(Event::Resent);
    }

    pub(crate) fn settled(&self, grant: &Grant<P::Key>, outcome: &'static str, error: Option<ErrorKind>) {
        let (whose, generation) = (Whose::key(grant.key()), grant.token().generation());
        self.inner.eyes.saw(Event::Settled { whose, generation, outcome, error });
    }

    /// The server refused the second sending as well, which renews nothing.
    pub(crate) fn refused_again(&self, grant: &Grant<P::Key>, refusal: Refusal) {
        let now = self.inner.clock.now();
        self.count_refusal(grant, refusal, grant.token().is_accepted(), "none", now);
    }

    /// `accepted` is whether a server had taken the token before.
    pub(super) fn count_refusal(
        &self,
        grant: &Grant<P::Key>,
        refusal: Refusal,
        accepted: bool,
        renewal: &'static str,
        now: Now,
    ) {
        self.inner.stats.record(|stats| {
            stats.refusals += 1;
            stats.refusals_of_unaccepted += u64::from(!accepted);
            stats.renewals_declined += u64::from(renewal == "declined");
        });
        let token = grant.token();
        self.inner.eyes.saw(Event::Refused {
            whose: Whose::key(grant.key()),
            generation: token.generation(),
            age: age(token, now),
            token: match accepted {
                false => "unaccepted",
                true if now.reached(&token.deadlines().nominal) => "expired",
                true => "accepted",
            },
            first: token.refused_first(),
            explicit: refusal == Refusal::Explicit,
            renewal,
        });
    }
}

/// What a refusal has set off, in a word.
pub(super) fn word_for<K>(entered: &Entered<K>) -> &'static str {
    match entered {
        Entered::Granted(_) => "ready",
        Entered::Wait { .. } => "under_way",
        Entered::Failed(_) => "failed",
    }
}

fn age(token: &Token, now: Now) -> Duration {
    now.mono.saturating_duration_since(token.deadlines().began.mono)
}
