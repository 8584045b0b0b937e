//! What a layer directly below contributes when a response is read, and the token that it gets for that.

use std::sync::Arc;

use super::cached_grant::GrantRef;
use super::settings::Settings;
use crate::clock::SentAt;
#[cfg(feature = "grpc")]
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::source::Grant;

/// A layer directly below whose response bodies, of type `T`, may show after the head whether the server accepts the token.
pub(crate) trait Below<T, P: TokenProvider> {
    /// Whether the head of the response does not show if the server accepts the token.
    fn is_undecided(body: &T) -> bool;

    /// When the request was sent, if that was recorded.
    fn sent_at(body: &T) -> Option<SentAt>;

    /// Gives the body the token of its request, if the response is not a rejection.
    fn give(body: &mut T, token: impl FnOnce() -> SentToken<P>);
}

/// There is no such layer.
pub(super) struct NoneBelow;

impl<T, P: TokenProvider> Below<T, P> for NoneBelow {
    #[inline(always)]
    fn is_undecided(_: &T) -> bool {
        false
    }

    fn sent_at(_: &T) -> Option<SentAt> {
        None
    }

    #[inline(always)]
    fn give(_: &mut T, _: impl FnOnce() -> SentToken<P>) {}
}

/// The token of a request whose response was already returned to the caller.
#[cfg_attr(not(feature = "grpc"), expect(dead_code, reason = "without `grpc` there is no layer below"))]
pub(crate) struct SentToken<P: TokenProvider> {
    grant: GrantRef<P>,
    is_replay: bool,
}

impl<P: TokenProvider> SentToken<P> {
    pub(super) fn of_first_send(grant: &GrantRef<P>) -> Self {
        Self { grant: grant.clone(), is_replay: false }
    }

    pub(super) fn of_replay(settings: &Arc<Settings<P>>, grant: &Grant<P::Key>) -> Self {
        Self { grant: GrantRef::FromSource(Arc::clone(settings), grant.clone()), is_replay: true }
    }

    /// The server accepted the token.
    #[cfg(feature = "grpc")]
    pub(crate) fn accept(&self) {
        self.grant.grant().token().accept();
    }

    /// The server rejected the token. It is too late for a replay.
    #[cfg(feature = "grpc")]
    pub(crate) fn reject(self) {
        let (source, grant) = (&self.grant.settings().source, self.grant.grant());
        let rejection = Rejection::InvalidToken;
        let outcome = if self.is_replay {
            source.report_rejected_again(grant, rejection);
            "rejected_again"
        } else {
            // The refresh is for later requests.
            drop(source.reject_grant(grant, rejection, Vec::new(), None));
            "too_late"
        };
        source.report_outcome(grant, outcome, None);
    }
}
