//! The methods of [`Settings`] that read a response and add its audit.

use std::sync::Arc;

use http::Response;

use super::audit::{Audit, ReplayOutcome};
use super::sent_token::{Below, SentToken};
use super::settings::Settings;
use crate::message::{Rejection, ResponseHead, accepts, take_mark};
use crate::provider::TokenProvider;
use crate::source::Grant;
use crate::token::Token;

/// Adds the audit of a request that was sent without a token of this layer.
pub(super) fn audit_not_stamped<T>(response: &mut Response<T>) {
    let audit = Audit::not_stamped().after(Audit::of(response));
    response.extensions_mut().insert(audit);
}

impl<P: TokenProvider> Settings<P> {
    /// Whether `response` rejects `token`. A token that the server accepts is marked as accepted.
    // Without inlining, each request takes 12 instructions more.
    #[inline(always)]
    pub(super) fn rejection<W: Below<T, P>, T>(&self, response: &mut Response<T>, token: &Token) -> Option<Rejection> {
        let mark = take_mark(response.extensions_mut());
        let head = ResponseHead::of(response);
        let rejection = match mark {
            Some(rejection) => rejection,
            None => self.rejection_of(&head),
        };
        if rejection.is_none()
            && !token.is_accepted_since_rejection()
            && accepts(&head)
            && !W::is_undecided(response.body())
        {
            token.accept();
        }
        rejection
    }

    fn rejection_of(&self, head: &ResponseHead<'_>) -> Option<Rejection> {
        let by_function = self.rejected_when.as_ref().and_then(|rejected_when| rejected_when(head));
        by_function.or_else(|| self.source.provider().rejection(head))
    }

    /// Reads the response to a replay. A second rejection is only reported: it uses no budget and starts no fetch.
    pub(super) fn after_replay<W: Below<T, P>, T>(
        self: &Arc<Self>,
        mut response: Response<T>,
        grant: &Grant<P::Key>,
    ) -> Response<T> {
        let Some(rejection) = self.rejection::<W, T>(&mut response, grant.token()) else {
            W::give(response.body_mut(), || SentToken::of_replay(self, grant));
            return self.audited(response, grant, 2, ReplayOutcome::Replayed);
        };
        self.source.report_rejected_again(grant, rejection);
        self.audited(response, grant, 2, ReplayOutcome::RejectedAgain)
    }

    /// Reports the outcome and adds the audit.
    pub(super) fn audited<T>(
        &self,
        mut response: Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        outcome: ReplayOutcome,
    ) -> Response<T> {
        if let Some((label, error)) = outcome.label() {
            self.source.report_outcome(grant, label, error);
        }
        self.add_audit(&mut response, grant, sends, outcome);
        response
    }

    pub(super) fn add_audit<T>(
        &self,
        response: &mut Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        outcome: ReplayOutcome,
    ) {
        let audit = Audit::new(grant.shared_key(), grant.token().generation(), sends, outcome);
        let audit = audit.after(Audit::of(response));
        response.extensions_mut().insert(audit);
    }
}
