//! What a slot remembers about rejections: how many came in a row, which secrets were rejected, and whether new tokens do not
//! end the rejections.

use std::time::Instant;

use crate::clock::Now;
use crate::refresh;
use crate::token::{IssuedToken, Token};

/// After this many rejections without an acceptance between them, a token is confirmed dead.
const CONFIRMING: u32 = 3;
/// How many rejected secrets a slot remembers.
const MAX_SECRETS: usize = 8;

/// The rejections of one key.
#[derive(Default)]
pub(super) struct Rejections {
    /// The generation of the token that the row is about.
    generation: u64,
    /// Its rejections since it was last accepted.
    in_a_row: u32,
    confirmed_at: Option<Instant>,
    /// The generation of the token under which a replay was rejected last; 0 if there is none.
    replay_rejected: u64,
    /// Tokens that were rejected and have not expired.
    rejected: Vec<Token>,
    pub(super) throttle: Option<Throttle>,
}

/// New tokens do not end the rejections of this key, so rejections start fetches at growing intervals.
///
/// One route may reject every token, the issuer may return a rejected token again, or two processes may revoke each other's
/// tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    /// How many fetches rejections have started at an interval.
    fetches: u32,
    last_fetch: Instant,
    last_rejection: Instant,
    /// The longest row of rejections that an acceptance has ended in this state.
    longest_row: u32,
    /// When a row of rejections last caused a fetch before the interval was over.
    early_fetch_at: Option<Instant>,
}

impl Rejections {
    /// Adds a rejection of `token`, the current one.
    pub(super) fn add(&mut self, token: &Token, now: Now) {
        let accepted = token.reject();
        if self.generation != token.generation() {
            self.generation = token.generation();
            self.in_a_row = 0;
            self.confirmed_at = None;
        } else if accepted {
            self.end_row();
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row == CONFIRMING {
            self.confirmed_at = Some(now.mono);
        }
        if let Some(throttle) = &mut self.throttle {
            throttle.last_rejection = now.mono;
        }
        self.remember(token, now);
        self.throttle_if_new_token_fails(token, now);
    }

    /// An acceptance has ended the row.
    fn end_row(&mut self) {
        if let Some(throttle) = &mut self.throttle {
            throttle.longest_row = throttle.longest_row.max(self.in_a_row);
        }
        self.in_a_row = 0;
        self.confirmed_at = None;
    }

    /// `token`, the current one, is replaced.
    pub(super) fn replaced(&mut self, token: &Token, now: Now) {
        self.throttle_if_new_token_fails(token, now);
        if self.generation == token.generation() && !token.is_rejected() {
            self.end_row();
        }
    }

    /// Adds a rejection of `token`, the current one, by the response to a replay.
    pub(super) fn add_replay(&mut self, token: &Token, now: Now) {
        self.replay_rejected = token.generation();
        self.add(token, now);
    }

    /// Throttles the fetches if a replay under `token` was rejected and another response accepted the token.
    fn throttle_if_new_token_fails(&mut self, token: &Token, now: Now) {
        if self.replay_rejected == token.generation() && token.is_accepted() {
            self.begin_throttle(token.deadlines().fetched_at.mono, now);
        }
    }

    /// `last_fetch` is when the last fetch began.
    pub(super) fn begin_throttle(&mut self, last_fetch: Instant, now: Now) {
        self.replay_rejected = 0;
        self.throttle.get_or_insert(Throttle {
            fetches: 0,
            last_fetch,
            last_rejection: now.mono,
            longest_row: 0,
            early_fetch_at: None,
        });
    }

    /// Whether `token` is confirmed dead.
    pub(super) fn is_dead(&self, token: &Token) -> bool {
        self.confirmed_at.is_some() && self.generation == token.generation() && token.is_rejected()
    }

    /// Whether `issued` has a secret that was rejected and not accepted since. A rejected token that has expired does not
    /// count: its issuer may always return the same secret.
    pub(super) fn has_rejected(&self, issued: &IssuedToken, now: Now) -> bool {
        self.rejected.iter().any(|token| still_counts(token, now) && issued.same_secret(token))
    }

    /// The tokens that were rejected and not accepted since.
    pub(super) fn rejected(&self, now: Now) -> Vec<Token> {
        self.rejected.iter().filter(|token| still_counts(token, now)).cloned().collect()
    }

    /// Whether the throttle lets a rejection of `token` start a fetch now.
    pub(super) fn fetch_is_due(&self, token: &Token, now: Now) -> bool {
        let Some(throttle) = &self.throttle else {
            return true;
        };
        let interval = refresh::throttle_interval(throttle.fetches);
        refresh::passed(throttle.last_fetch, interval, now.mono) || self.early_fetch_is_due(throttle, token, now)
    }

    fn early_fetch_is_due(&self, throttle: &Throttle, token: &Token, now: Now) -> bool {
        let dead_since = self.confirmed_at.filter(|_| self.is_dead(token));
        let lately =
            throttle.early_fetch_at.is_some_and(|at| !refresh::passed(at, refresh::THROTTLE_EARLY_INTERVAL, now.mono));
        let dead_for = dead_since.map(|since| now.mono.saturating_duration_since(since));
        !lately && refresh::is_revoked(self.in_a_row, throttle.longest_row, dead_for)
    }

    /// A rejection of `token` starts a fetch.
    pub(super) fn rejection_starts_fetch(&mut self, token: &Token, now: Now) {
        let Some(mut throttle) = self.throttle else {
            return;
        };
        let interval = refresh::throttle_interval(throttle.fetches);
        if refresh::passed(throttle.last_fetch, interval, now.mono) {
            throttle.fetches = throttle.fetches.saturating_add(1);
        }
        if self.early_fetch_is_due(&throttle, token, now) {
            throttle.early_fetch_at = Some(now.mono);
        }
        self.throttle = Some(throttle);
    }

    /// Any fetch of the key starts.
    pub(super) fn fetch_starts(&mut self, now: Now) {
        if let Some(throttle) = &mut self.throttle {
            throttle.last_fetch = now.mono;
        }
    }

    /// Ends the throttle after a time without a rejection.
    pub(super) fn settle(&mut self, now: Now) {
        let over = |state: &mut Throttle| refresh::passed(state.last_rejection, refresh::THROTTLE_END, now.mono);
        if self.throttle.take_if(over).is_some() {
            self.replay_rejected = 0;
        }
    }

    /// `rotate` or `invalidate` removed the current token.
    pub(super) fn forget(&mut self, credentials_changed: bool) {
        self.generation = 0;
        self.in_a_row = 0;
        self.confirmed_at = None;
        if credentials_changed {
            *self = Self::default();
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.rejected.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rejected.is_empty() && self.throttle.is_none() && self.in_a_row == 0 && self.replay_rejected == 0
    }

    /// Forgets what no longer matters beside `current`.
    pub(super) fn prune(&mut self, current: Option<&Token>, now: Now) {
        self.settle(now);
        self.rejected.retain(|token| still_counts(token, now));
        let generation = current.map_or(0, Token::generation);
        if self.replay_rejected != generation {
            self.replay_rejected = 0;
        }
        if self.generation != generation {
            self.forget(false);
        } else if current.is_none_or(|token| !token.is_rejected()) {
            self.end_row();
        }
    }

    fn remember(&mut self, token: &Token, now: Now) {
        if self.rejected.iter().any(|rejected| rejected.generation() == token.generation()) {
            return;
        }
        self.rejected.retain(|token| still_counts(token, now));
        if self.rejected.len() == MAX_SECRETS {
            self.rejected.remove(0);
        }
        self.rejected.push(token.clone());
    }
}

/// Whether `token` was rejected and not accepted since, and was still stamped otherwise. After that, its secret is better than
/// none: it may be rejected on one route alone.
fn still_counts(token: &Token, now: Now) -> bool {
    token.is_rejected() && !now.reached(&token.deadlines().usable_until)
}
