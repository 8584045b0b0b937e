//! The end of a fetch.

use std::time::Instant;

use super::in_flight::{InFlight, Progress};
use super::{Slot, is_usable};
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::refresh::{self, Backoff, RefreshPolicy};
use crate::source::failure::Failure;
use crate::source::replacement::Replacement;
use crate::token::{IssuedToken, Token};

impl<F> Slot<F> {
    /// Removes the running fetch, if it is the one with this id. Wakes the callers that wait for its end.
    pub(in crate::source) fn take_fetch(&mut self, id: u64) -> Option<InFlight<F>> {
        let fetch = self.in_flight.take_if(|fetch| fetch.id == id)?;
        if let Some(rare) = &mut self.rare {
            rare.wake_waiters();
        }
        Some(*fetch)
    }

    /// Records that a fetch was cancelled with its runtime. A series of runtimes that end must not cause a token
    /// request each.
    pub(in crate::source) fn cancel(&mut self, now: Now) {
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable_until));
        let draw = self.jitter.draw();
        let cancelled = self.rare().cancelled.get_or_insert_default();
        cancelled.add(Backoff::transient(cancelled.in_a_row(), usable_for, draw), now);
    }

    /// Records the result of `fetch`. Returns what every waiter of the fetch gets.
    pub(in crate::source) fn complete(
        &mut self,
        fetch: &InFlight<F>,
        result: Result<IssuedToken, Error>,
        policy: &RefreshPolicy,
        started: Now,
        now: Now,
        generation: u64,
    ) -> Result<Token, Error> {
        // A rotation that is due takes effect at the next look, because it must end the backoff of this fetch too.
        self.settle_tokens(now);
        if let Some(rare) = &mut self.rare {
            rare.cancelled = None;
        }
        let issued = match result {
            Ok(issued) => issued,
            Err(error) => return Err(self.fail(error, fetch.started(), now)),
        };
        let minted = issued.minted_at(started, now);
        let deadlines = policy.deadlines(issued.lifetime(), minted, now, self.jitter.draw());
        if now.reached(&deadlines.expires_at) {
            let error = Error::new(ErrorKind::Unavailable, "the token had expired when it arrived")
                .with_hint("a token request takes longer than a token lives");
            return Err(self.fail(error, fetch.started(), now));
        }
        if let Some(rare) = self.rare.as_mut().filter(|rare| rare.rejections.has_rejected(&issued, now)) {
            rare.rejections.begin_throttle(fetch.started(), now);
            let error = Error::new(ErrorKind::Unavailable, "the issuer returned the rejected token again").with_hint(
                "either the issuer has not processed the revocation of the token, or the API rejects a valid token",
            );
            return Err(self.fail(error, fetch.started(), now));
        }
        if let Some(rare) = &mut self.rare {
            rare.clear_failures();
        }
        let usable_for = now.until(&deadlines.usable_until);
        if let Some(current) = self.usable(now).cloned() {
            let current_for = now.until(&current.deadlines().usable_until);
            let too_short = !fetch.is_after_rejection() && refresh::too_short(usable_for, current_for);
            if too_short || issued.same_secret(&current) {
                self.rare().early = Some((now.mono, refresh::early_backoff(current_for)));
                return Ok(current);
            }
        }
        // Beside an outdated fetch there is no current token: it was removed, and no other fetch has stored one.
        let for_waiters = fetch.progress() == Progress::Outdated || usable_for.is_zero();
        let token = Token::new(issued, generation, deadlines, for_waiters);
        if for_waiters {
            return Ok(token);
        }
        self.adopt(token.clone(), fetch.keeps_replaced(), now);
        Ok(token)
    }

    fn adopt(&mut self, token: Token, keeps_replaced: bool, now: Now) {
        let replaced = self.current.replace(token).filter(|token| is_usable(token, now));
        if let Some(rare) = &mut self.rare {
            rare.invalidation.token_is_stored();
            rare.removed_token = None;
            rare.early = None;
            let kept = rare.replacement.take().filter(|replacement| replacement.new_is_current());
            if let Some(replaced) = replaced {
                rare.rejections.replaced(&replaced, now);
                if keeps_replaced && !rare.rejections.is_dead(&replaced) {
                    // A token that a server has accepted is the better one to keep.
                    let kept = kept.map(|kept| kept.other().clone()).filter(|_| !replaced.is_accepted());
                    rare.replacement = Some(Replacement::new(kept.unwrap_or(replaced), now));
                }
            }
        } else if let Some(replaced) = replaced.filter(|_| keeps_replaced) {
            self.rare().replacement = Some(Replacement::new(replaced, now));
        }
        self.prune(now);
    }

    fn fail(&mut self, error: Error, began: Instant, now: Now) -> Error {
        let usable_for = self.usable(now).map(|token| now.until(&token.deadlines().usable_until));
        let held = self.held(now);
        let rare = self.rare.get_or_insert_default();
        let failure = Failure::new(error, &mut rare.failures, began, usable_for, &mut self.jitter, now);
        let shared = failure.shared(held, now);
        rare.set_failure(Some(failure));
        shared
    }
}
