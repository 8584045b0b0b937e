//! What an answer says, and what a refusal comes to.

use std::sync::Arc;

use http::Response;
use http::header::WWW_AUTHENTICATE;

use super::audit::{Audit, ReplayOutcome};
use super::copy::{Again, Head};
use super::heal::Healing;
use super::layer::Shared;
use super::replay::{Bodies, Mode};
use crate::message::{Rejection, ResponseHead, accepts, take_mark};
use crate::provider::TokenProvider;
use crate::source::{BudgetExhausted, Grant, Lookup};
use crate::token::Token;

/// What a refusal comes to: the answer is the caller's, or healing begins.
pub(super) enum Refused<S, P: TokenProvider, R: Bodies<B>, B, T> {
    Return(Response<T>),
    Heal(Box<Healing<S, P, R, B, T>>),
}

/// Of a request that carried no token of ours.
pub(super) fn add_not_stamped<T>(response: &mut Response<T>) {
    response.extensions_mut().insert(Audit::not_stamped());
}

impl<P: TokenProvider> Shared<P> {
    /// What the answer says of `token`, which is marked where the server took it.
    pub(super) fn rejection<T>(&self, response: &mut Response<T>, token: &Token) -> Option<Rejection> {
        let mark = take_mark(response.extensions_mut());
        let head = ResponseHead::of(response);
        let refusal = mark.unwrap_or_else(|| self.source.provider().rejection(&head));
        if refusal.is_none() && !token.is_accepted() && accepts(&head) {
            token.accept();
        }
        refusal
    }

    /// What to do where the token of a first sending was refused.
    pub(super) fn refused<S, R, B, T>(
        self: &Arc<Self>,
        bodies: R,
        response: Response<T>,
        refusal: Rejection,
        grant: Grant<P::Key>,
        again: Option<Again<S, R::Kept>>,
    ) -> Refused<S, P, R, B, T>
    where
        R: Bodies<B>,
    {
        let (again, why_not) = match again {
            None if self.when == Mode::Never || R::OFF => (None, ReplayOutcome::Off),
            None => (None, ReplayOutcome::NoCopy),
            Some(again) if !bodies.is_whole(&again.copy.kept) => (None, ReplayOutcome::NoCopy),
            Some(again) if self.when.allows(refusal, || self.is_idempotent(&again.copy.head)) => {
                (Some(again), ReplayOutcome::Made)
            }
            Some(_) => (None, ReplayOutcome::NotSafe),
        };
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().cloned().collect();
        let renewal = self.source.reject_grant(&grant, refusal, challenges, again.is_some());
        let Some(again) = again else {
            return Refused::Return(self.audited(response, &grant, 1, why_not));
        };
        match renewal {
            Err(BudgetExhausted) => Refused::Return(self.audited(response, &grant, 1, ReplayOutcome::BudgetExhausted)),
            Ok(Lookup::Failed(error)) => {
                Refused::Return(self.audited(response, &grant, 1, ReplayOutcome::RefreshFailed(error.kind())))
            }
            Ok(Lookup::Granted(newer)) => {
                Refused::Heal(Box::new(Healing::renewed(Arc::clone(self), bodies, response, grant, again, newer)))
            }
            Ok(Lookup::Wait(acquire)) => {
                Refused::Heal(Box::new(Healing::renewing(Arc::clone(self), bodies, response, grant, again, acquire)))
            }
        }
    }

    /// Reads the answer to the second sending. A refusal spends nothing and rejects nothing: it is shown.
    pub(super) fn read_second<T>(&self, mut response: Response<T>, grant: &Grant<P::Key>) -> Response<T> {
        let Some(refusal) = self.rejection(&mut response, grant.token()) else {
            return self.audited(response, grant, 2, ReplayOutcome::Made);
        };
        self.source.report_rejected_again(grant, refusal);
        self.audited(response, grant, 2, ReplayOutcome::RejectedAgain)
    }

    fn is_idempotent(&self, head: &Head) -> bool {
        head.headers().is_some_and(|headers| self.source.provider().is_idempotent(&head.borrowed(&headers)))
    }

    pub(super) fn audited<T>(
        &self,
        mut response: Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        replay: ReplayOutcome,
    ) -> Response<T> {
        if let Some((outcome, error)) = replay.label() {
            self.source.report_outcome(grant, outcome, error);
        }
        self.add_audit(&mut response, grant, sends, replay);
        response
    }

    pub(super) fn add_audit<T>(
        &self,
        response: &mut Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        replay: ReplayOutcome,
    ) {
        let audit = Audit::new(grant.shared_key(), grant.token().generation(), sends, replay);
        response.extensions_mut().insert(audit);
    }
}
