//! How often a request was sent, and with which token.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::Arc;

use http::Response;

use crate::error::ErrorKind;

/// Which token a request was sent with, how often it was sent, and why.
///
/// Every response that was rejected or replayed has one in its extensions. With
/// [`audit_all`](crate::BearerAuthLayer::audit_all) every response has one.
///
/// ```
/// use tower_bearer_auth::Audit;
///
/// # let response = http::Response::new(());
/// if let Some(audit) = Audit::of(&response) {
///     println!("sent {} times, last with token generation {:?}", audit.sends, audit.generation);
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Audit {
    /// The generation of the token that the last send carried; `None` if the layer stamped no token.
    pub generation: Option<u64>,
    /// How often the request was sent: 1 or 2. With two layers in one stack, the replay of either layer counts.
    pub sends: u8,
    /// Whether the request was replayed, or why not.
    pub replay: ReplayOutcome,
    key: Option<Arc<dyn AnyKey>>,
}

impl Audit {
    pub(super) fn new<K>(key: Arc<K>, generation: u64, sends: u8, replay: ReplayOutcome) -> Self
    where
        K: Debug + Send + Sync + 'static,
    {
        Self { generation: Some(generation), sends, replay, key: Some(key) }
    }

    /// The audit of a request that carried no token of this layer.
    pub(super) fn not_stamped() -> Self {
        Self { generation: None, sends: 1, replay: ReplayOutcome::NotStamped, key: None }
    }

    /// This audit, in place of the one of a layer below, whose sends count too.
    pub(super) fn after(self, below: Option<&Self>) -> Self {
        Self { sends: below.map_or(self.sends, |below| below.sends.max(self.sends)), ..self }
    }

    /// The audit of `response`, if it has one.
    #[must_use]
    pub fn of<T>(response: &Response<T>) -> Option<&Self> {
        response.extensions().get()
    }

    /// The key that the request was sent as. `None` if the layer stamped no token, or if `K` is not the provider's
    /// [`Key`](crate::TokenProvider::Key).
    #[must_use]
    pub fn key<K: 'static>(&self) -> Option<&K> {
        self.key.as_deref()?.as_any().downcast_ref()
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("generation", &self.generation)
            .field("sends", &self.sends)
            .field("replay", &self.replay)
            .field("key", &self.key)
            .finish()
    }
}

/// A key of any type.
trait AnyKey: Debug + Send + Sync {
    fn as_any(&self) -> &dyn Any;
}

impl<K: Debug + Send + Sync + 'static> AnyKey for K {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Whether a request was replayed, or why not.
#[doc(alias = "retry")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayOutcome {
    /// The token was not rejected.
    NotNeeded,
    /// The layer stamped no token: the origin is foreign, the method is `TRACE`, the request has
    /// [`Unauthenticated`](crate::Unauthenticated) in its extensions, or it already had the header. Only the first of these four
    /// counts in [`SourceStats::not_stamped`](crate::SourceStats::not_stamped).
    NotStamped,
    /// The request was replayed, and the new token was not rejected.
    Replayed,
    /// The request was replayed, by this layer or by a second one in the stack, and was rejected again. There is no second
    /// replay.
    RejectedAgain,
    /// Replays are off: [`Mode::Never`](crate::replay::Mode::Never) or [`replay::Off`](crate::replay::Off).
    Off,
    /// There is no complete copy of the request. [`bodies`](crate::BearerAuthLayer::bodies) does not keep this body, or
    /// the body exceeds the limit.
    NoCopy,
    /// The rejection names no reason, and the request is not idempotent. The server may have applied it.
    NotSafe,
    /// The budget for refreshes after rejections is empty, because new tokens were rejected too, or new tokens have not ended
    /// the rejections and no refresh is due.
    BudgetExhausted,
    /// There is no new token because of an error of this kind.
    RefreshFailed(ErrorKind),
}

impl ReplayOutcome {
    /// The label and the error that telemetry reports for a rejected request. `None` if no token was rejected.
    pub(super) fn label(self) -> Option<(&'static str, Option<ErrorKind>)> {
        match self {
            Self::NotNeeded | Self::NotStamped => None,
            Self::Replayed => Some(("replayed", None)),
            Self::RejectedAgain => Some(("rejected_again", None)),
            Self::Off => Some(("off", None)),
            Self::NoCopy => Some(("no_copy", None)),
            Self::NotSafe => Some(("not_safe", None)),
            Self::BudgetExhausted => Some(("budget_exhausted", None)),
            Self::RefreshFailed(kind) => Some(("refresh_failed", Some(kind))),
        }
    }
}
