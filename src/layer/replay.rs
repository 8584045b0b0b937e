//! Whether a refused request is sent again, and how its body is kept for that.
//!
//! Two settings, apart from each other: [`bodies`](crate::BearerAuthLayer::bodies) says how a faithful copy is kept,
//! [`replay`](crate::BearerAuthLayer::replay) whether it may be sent. Without a faithful copy nothing is sent again.
//! [The guide](crate::guide::replay) has every case in a table, and what it means for payments.
//!
//! | | bodies that say they are empty | bodies that can be cloned | streams |
//! |---|---|---|---|
//! | [`Off`] | - | - | - |
//! | [`Empty`] | kept | - | - |
//! | [`Cloned`] | kept | kept | a type that is `Clone` |
//! | [`Buffered`] | kept | kept | kept up to a limit, while it passes through |

use std::convert::Infallible;

use http::Request;
use http_body::Body;

#[doc(hidden)]
pub use super::buffered::Recorded;
pub use super::buffered::{Buffered, ReplayBody};
use super::copy::{NoRoom, Room};
use crate::message::Rejection;

/// Whether a refused request may be sent again, once, with a new token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Never. The answer goes to the caller; the next request has a new token.
    Never,
    /// After an explicit refusal, always: the server says that it was the token, for which RFC 6750 section 3.1 lets a
    /// client ask for a new one and try again. After a bare 401, only if the request is idempotent or carries an
    /// `Idempotency-Key` (RFC 9110 section 9.2.2). By RFC 9110 section 15.5.2 no 401 was applied; gateways break that rule,
    /// and so this crate trusts it only where the server names the token.
    #[default]
    Safe,
    /// After every refusal. A request that a gateway let through before it said 401 is then applied twice.
    Always,
}

impl Mode {
    pub(super) fn allows(self, refusal: Rejection, idempotent: impl FnOnce() -> bool) -> bool {
        match (self, refusal) {
            (Self::Never, _) => false,
            (Self::Always, _) | (Self::Safe, Rejection::InvalidToken) => true,
            (Self::Safe, _) => idempotent(),
        }
    }
}

#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep a body of type `{B}`",
    note = "`replay::Empty`, the default, needs a body that is `Default`; `.bodies(replay::Off)` takes every body"
)]
/// How a body is kept for a second sending. Implemented by [`Off`], [`Empty`], [`Cloned`] and [`Buffered`].
pub trait Bodies<B>: Clone + sealed::Sealed {
    #[doc(hidden)]
    type Kept;

    /// Whether nothing is ever kept.
    #[doc(hidden)]
    const OFF: bool = false;

    /// Where a copy waits for the answer: what is never kept takes no room.
    #[doc(hidden)]
    type Room<C>: Room<C>;

    /// What a second sending needs of a body, where that can be had by looking at it.
    #[doc(hidden)]
    fn look(&self, body: &B) -> Option<Self::Kept> {
        let _ = body;
        None
    }

    /// Whether a body has to be replaced so that it is kept, by [`wrap`](Self::wrap). Otherwise the request is not moved.
    #[doc(hidden)]
    const WRAPS: bool = false;

    #[doc(hidden)]
    fn wrap(&self, body: B) -> (B, Option<Self::Kept>) {
        (body, None)
    }

    /// Whether a second sending could be made now; what passes through meanwhile may change that.
    #[doc(hidden)]
    fn is_whole(&self, kept: &Self::Kept) -> bool {
        let _ = kept;
        true
    }

    /// The body of the second sending, if the copy is whole.
    #[doc(hidden)]
    fn remake(&self, kept: Self::Kept) -> Option<B>;
}

/// A request whose body is kept while it passes through.
pub(super) fn wrap<B, R: Bodies<B>>(bodies: &R, request: Request<B>) -> (Request<B>, Option<R::Kept>) {
    let (head, body) = request.into_parts();
    let (body, kept) = bodies.wrap(body);
    (Request::from_parts(head, body), kept)
}

pub(super) mod sealed {
    #[expect(unnameable_types, reason = "that is what seals the trait")]
    pub trait Sealed {}
}

/// Keeps nothing: no request is ever sent again. The cheapest, and for any body type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

/// Keeps bodies that say that they are empty, which is what most `GET`s have. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Empty;

/// Keeps a clone: for `Full<Bytes>`, `String` and the like, whose clone holds the same bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl sealed::Sealed for Off {}
impl sealed::Sealed for Empty {}
impl sealed::Sealed for Cloned {}

impl<B> Bodies<B> for Off {
    type Kept = Infallible;
    type Room<C> = NoRoom;

    const OFF: bool = true;

    fn remake(&self, kept: Infallible) -> Option<B> {
        match kept {}
    }
}

impl<B: Body + Default> Bodies<B> for Empty {
    type Kept = ();
    type Room<C> = Option<C>;

    fn look(&self, body: &B) -> Option<()> {
        body.is_end_stream().then_some(())
    }

    fn remake(&self, (): ()) -> Option<B> {
        // A type whose default is not empty would turn an empty request into another one.
        Some(B::default()).filter(B::is_end_stream)
    }
}

impl<B: Clone> Bodies<B> for Cloned {
    type Kept = B;
    type Room<C> = Option<C>;

    fn look(&self, body: &B) -> Option<B> {
        Some(body.clone())
    }

    fn remake(&self, kept: B) -> Option<B> {
        Some(kept)
    }
}
