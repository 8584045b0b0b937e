//! What a response says of how it came about.

use crate::error::ErrorKind;
use crate::provider::TokenProvider;
use crate::source::{Grant, TokenSource};

/// Under which token a request was sent, how often, and why.
///
/// It is in the extensions of every response that was refused or that answers a second sending, and under
/// [`audit(true)`](crate::BearerAuthLayer::audit) of every response. `K` is the provider's key type.
///
/// ```
/// # let response = http::Response::new(());
/// if let Some(audit) = response.extensions().get::<tower_bearer_auth::Audit>() {
///     println!("sent {} times, last under token generation {:?}", audit.sends, audit.generation);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit<K = ()> {
    /// The generation of the token that the last sending carried; `None` if it carried none of ours.
    pub generation: Option<u64>,
    /// As whom it was sent; `None` if it carried no token of ours.
    pub key: Option<K>,
    /// How often the request went to the inner service: 1 or 2.
    pub sends: u8,
    /// Whether it was sent again, or why not.
    pub replay: Replay,
}

/// Whether a request was sent again, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replay {
    /// The token was not refused.
    NotNeeded,
    /// The request carried no token of ours: a foreign origin, or a header that was there already.
    NotStamped,
    /// It was sent again, and the new token was not refused.
    Made,
    /// It was sent again, and the new token was refused as well. It is not renewed a second time.
    RefusedAgain,
    /// Replay is off.
    Off,
    /// There is no faithful copy: the body could not be kept, or went past the limit.
    NoCopy,
    /// The refusal was bare and the request is not known to be idempotent: the server may have applied it.
    NotSafe,
    /// The renewal budget is empty: new tokens were refused as well.
    BudgetExhausted,
    /// There is no new token, because of an error of this kind.
    RenewalFailed(ErrorKind),
}

impl Replay {
    /// Says what a refused request has come to. Of one that was not refused there is nothing to say.
    pub(super) fn tell<P: TokenProvider>(&self, source: &TokenSource<P>, grant: &Grant<P::Key>) {
        let (outcome, error) = match self {
            Self::NotNeeded | Self::NotStamped => return,
            Self::Made => ("healed", None),
            Self::RefusedAgain => ("refused_again", None),
            Self::Off => ("off", None),
            Self::NoCopy => ("no_copy", None),
            Self::NotSafe => ("not_safe", None),
            Self::BudgetExhausted => ("budget_exhausted", None),
            Self::RenewalFailed(kind) => ("renewal_failed", Some(*kind)),
        };
        source.settled(grant, outcome, error);
    }
}
