//! What an answer says, and what a refusal comes to.

use std::sync::Arc;

use http::Response;

use super::audit::{Audit, Replay};
use super::copy::{Again, Head};
use super::heal::Healing;
use super::layer::Shared;
use super::replay::{Bodies, When};
use crate::api::{Refusal, ResponseHead};
use crate::provider::TokenProvider;
use crate::source::{Grant, Renewal};
use crate::token::Token;

/// What a refusal comes to: the answer is the caller's, or healing begins.
pub(super) enum Refused<S, P: TokenProvider, R: Bodies<B>, B, T> {
    Return(Response<T>),
    Heal(Box<Healing<S, P, R, B, T>>),
}

/// Of a request that carried no token of ours.
pub(super) fn add_not_stamped<P: TokenProvider, T>(response: &mut Response<T>) {
    let audit = Audit::<P::Key> { generation: None, key: None, sends: 1, replay: Replay::NotStamped };
    response.extensions_mut().insert(audit);
}

impl<P: TokenProvider> Shared<P> {
    /// What the answer says of `token`, which is marked where the server took it.
    pub(super) fn refusal<T>(&self, response: &Response<T>, token: &Token) -> Refusal {
        let head = ResponseHead::of(response);
        // Most answers have none, and that is known without a call.
        let below = response.extensions();
        let refusal = if below.is_empty() { None } else { below.get::<Refusal>().copied() };
        let refusal = refusal.unwrap_or_else(|| self.source.provider().refusal(&head));
        if refusal == Refusal::NotRefused && !token.is_accepted() && head.accepts() {
            token.accept();
        }
        refusal
    }

    /// What to do where the token of a first sending was refused.
    pub(super) fn refused<S, R, B, T>(
        self: &Arc<Self>,
        bodies: R,
        response: Response<T>,
        refusal: Refusal,
        grant: Grant<P::Key>,
        again: Option<Again<S, R::Kept>>,
    ) -> Refused<S, P, R, B, T>
    where
        R: Bodies<B>,
    {
        let (again, why_not) = match again {
            None if self.when == When::Never || R::OFF => (None, Replay::Off),
            None => (None, Replay::NoCopy),
            Some(again) if !bodies.is_whole(&again.copy.kept) => (None, Replay::NoCopy),
            Some(again) if self.when.allows(refusal, || self.is_idempotent(&again.copy.head)) => {
                (Some(again), Replay::Made)
            }
            Some(_) => (None, Replay::NotSafe),
        };
        let renewal = self.source.refuse(&grant, refusal, again.is_some());
        let Some(again) = again else {
            return Refused::Return(self.audited(response, &grant, 1, why_not));
        };
        match renewal {
            Renewal::Exhausted => Refused::Return(self.audited(response, &grant, 1, Replay::BudgetExhausted)),
            Renewal::Failed(error) => {
                Refused::Return(self.audited(response, &grant, 1, Replay::RenewalFailed(error.kind())))
            }
            Renewal::Ready(newer) => {
                Refused::Heal(Box::new(Healing::renewed(Arc::clone(self), bodies, response, grant, again, newer)))
            }
            Renewal::Wait(acquire) => {
                Refused::Heal(Box::new(Healing::renewing(Arc::clone(self), bodies, response, grant, again, acquire)))
            }
        }
    }

    /// Reads the answer to the second sending. A refusal spends nothing and rejects nothing: it is shown.
    pub(super) fn read_second<T>(&self, response: Response<T>, grant: &Grant<P::Key>) -> Response<T> {
        let refusal = self.refusal(&response, grant.token());
        if refusal == Refusal::NotRefused {
            return self.audited(response, grant, 2, Replay::Made);
        }
        self.source.refused_again(grant, refusal);
        self.audited(response, grant, 2, Replay::RefusedAgain)
    }

    fn is_idempotent(&self, head: &Head) -> bool {
        head.headers().is_some_and(|headers| self.source.provider().idempotent(&head.borrowed(&headers)))
    }

    pub(super) fn audited<T>(
        &self,
        mut response: Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        replay: Replay,
    ) -> Response<T> {
        replay.tell(&self.source, grant);
        self.add_audit(&mut response, grant, sends, replay);
        response
    }

    pub(super) fn add_audit<T>(&self, response: &mut Response<T>, grant: &Grant<P::Key>, sends: u8, replay: Replay) {
        let generation = Some(grant.token().generation());
        response.extensions_mut().insert(Audit { generation, key: Some(grant.key().clone()), sends, replay });
    }
}
