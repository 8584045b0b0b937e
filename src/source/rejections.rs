//! What a slot remembers about rejections: how many came in a row, which secrets were rejected, and whether the tokens of the
//! key are rejected and accepted in turn.

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
    pub(super) alternating: Option<Alternating>,
}

/// The tokens of the key are rejected and accepted in turn, for example because one route rejects every token. A new token
/// does not end those rejections, so they cause few fetches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternating {
    /// How many fetches rejections have caused in this state.
    fetches: u32,
    last_fetch: Instant,
    last_rejection: Instant,
    /// The longest row of rejections that an acceptance has ended in this state.
    longest_row: u32,
    /// When a row of rejections last caused a fetch before the interval was over.
    renewed_at: Option<Instant>,
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
        if let Some(alternating) = &mut self.alternating {
            alternating.last_rejection = now.mono;
        }
        self.remember(token, now);
        self.begin_if_alternating(token, now);
    }

    /// An acceptance has ended the row.
    fn end_row(&mut self) {
        if let Some(alternating) = &mut self.alternating {
            alternating.longest_row = alternating.longest_row.max(self.in_a_row);
        }
        self.in_a_row = 0;
        self.confirmed_at = None;
    }

    /// `token`, the current one, is replaced.
    pub(super) fn replaced(&mut self, token: &Token, now: Now) {
        self.begin_if_alternating(token, now);
        if self.generation == token.generation() && !token.is_rejected() {
            self.end_row();
        }
    }

    /// Adds a rejection of `token`, the current one, by the response to a replay.
    pub(super) fn add_replay(&mut self, token: &Token, now: Now) {
        self.replay_rejected = token.generation();
        self.add(token, now);
    }

    /// Begins the alternating state if a replay under `token` was rejected and another response accepted the token.
    fn begin_if_alternating(&mut self, token: &Token, now: Now) {
        if self.replay_rejected == token.generation() && token.is_accepted() {
            self.begin_alternating(token.deadlines().fetched_at.mono, now);
        }
    }

    /// `last_fetch` is when the last fetch began.
    pub(super) fn begin_alternating(&mut self, last_fetch: Instant, now: Now) {
        self.replay_rejected = 0;
        self.alternating.get_or_insert(Alternating {
            fetches: 0,
            last_fetch,
            last_rejection: now.mono,
            longest_row: 0,
            renewed_at: None,
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

    /// In the alternating state: whether a rejection of `token` may start a fetch now.
    pub(super) fn fetch_is_due(&self, token: &Token, now: Now) -> bool {
        let Some(alternating) = &self.alternating else {
            return true;
        };
        let interval = refresh::alternating_interval(alternating.fetches);
        refresh::passed(alternating.last_fetch, interval, now.mono) || self.renewal_is_due(alternating, token, now)
    }

    fn renewal_is_due(&self, alternating: &Alternating, token: &Token, now: Now) -> bool {
        let dead_since = self.confirmed_at.filter(|_| self.is_dead(token));
        let lately = alternating
            .renewed_at
            .is_some_and(|at| !refresh::passed(at, refresh::ALTERNATING_RENEWAL_INTERVAL, now.mono));
        let dead_for = dead_since.map(|since| now.mono.saturating_duration_since(since));
        !lately && refresh::is_revoked(self.in_a_row, alternating.longest_row, dead_for)
    }

    /// A rejection of `token` starts a fetch.
    pub(super) fn fetch_starts(&mut self, token: &Token, now: Now) {
        let Some(mut alternating) = self.alternating else {
            return;
        };
        let interval = refresh::alternating_interval(alternating.fetches);
        if refresh::passed(alternating.last_fetch, interval, now.mono) {
            alternating.fetches = alternating.fetches.saturating_add(1);
        }
        if self.renewal_is_due(&alternating, token, now) {
            alternating.renewed_at = Some(now.mono);
        }
        self.alternating = Some(alternating);
    }

    /// Any fetch of the key starts.
    pub(super) fn any_fetch_starts(&mut self, now: Now) {
        if let Some(alternating) = &mut self.alternating {
            alternating.last_fetch = now.mono;
        }
    }

    /// Ends the alternating state after a time without a rejection.
    pub(super) fn settle(&mut self, now: Now) {
        let over = |state: &mut Alternating| refresh::passed(state.last_rejection, refresh::ALTERNATING_END, now.mono);
        if self.alternating.take_if(over).is_some() {
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
        self.rejected.is_empty() && self.alternating.is_none() && self.in_a_row == 0 && self.replay_rejected == 0
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

/// Whether `token` was rejected, not accepted since, and has not expired.
fn still_counts(token: &Token, now: Now) -> bool {
    token.is_rejected() && !now.reached(&token.deadlines().expires_at)
}
