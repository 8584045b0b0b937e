//! The settings that say how a body is kept.

use std::convert::Infallible;

use http::Request;
use http_body::Body;

use super::saved::{KeepCopy, KeepNothing};

/// How a body is kept for a replay.
///
/// [`Off`], [`Empty`], [`Cloned`] and [`Buffered`](super::Buffered) implement it. Other crates cannot.
// The implementations are `do_not_recommend`, so that the compiler prints this message. It would otherwise print only
// that the body type is not `Default`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot keep a body of type `{B}` for a replay",
    label = "cannot keep a body of type `{B}`",
    note = "`replay::Empty`, the default, needs a body that implements `Body` and `Default`",
    note = "`.bodies(replay::Off)` takes every body type; `Cloned` takes those that implement `Clone`; `Buffered` takes streams"
)]
#[expect(private_bounds, reason = "the private trait seals this one and has the items that are not public")]
pub trait Bodies<B>: Clone + KeepBody<B> {}

/// The methods of a [`Bodies`].
#[diagnostic::on_unimplemented(
    message = "other crates cannot implement `replay::Bodies`, here for `{Self}` and a body of type `{B}`",
    note = "use `replay::Off`, `replay::Empty`, `replay::Cloned` or `replay::Buffered`"
)]
pub(crate) trait KeepBody<B> {
    /// What the body of a replay is made from.
    type Kept;

    /// Where a copy is stored. A setting that keeps nothing needs no space in the future.
    type Storage<C>: KeepCopy<C>;

    /// Whether nothing is ever kept.
    const OFF: bool = false;

    /// Whether the layer calls [`wrap`](Self::wrap), which moves the request. Otherwise it calls [`keep`](Self::keep).
    const WRAPS: bool = false;

    /// Keeps a copy of a body, and leaves the body in the request.
    fn keep(&self, body: &B) -> Option<Self::Kept> {
        let _ = body;
        None
    }

    /// Replaces a body with one that is kept while it is sent.
    fn wrap(&self, body: B) -> (B, Option<Self::Kept>) {
        (body, None)
    }

    /// Whether a replay is possible now. The result can change while the body is sent.
    fn is_complete(&self, kept: &Self::Kept) -> bool {
        let _ = kept;
        true
    }

    /// The body of the replay, if the copy is complete.
    fn restore(&self, kept: Self::Kept) -> Option<B>;
}

/// Replaces the body of a request, see [`KeepBody::wrap`].
pub(crate) fn wrap<B, R: Bodies<B>>(bodies: &R, request: Request<B>) -> (Request<B>, Option<R::Kept>) {
    let (head, body) = request.into_parts();
    let (body, kept) = bodies.wrap(body);
    (Request::from_parts(head, body), kept)
}

/// Keeps nothing, so no request is replayed. This costs the least and works with any body type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

/// Keeps bodies that report that they are empty, as the bodies of most `GET` requests do. This is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Empty;

/// Keeps a clone of the body. Use it for `Full<Bytes>`, `String` and other types that hold all of their bytes.
///
/// A clone must hold the same bytes as the original. Do not use it with a type that is a handle to a shared stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl<B> KeepBody<B> for Off {
    type Kept = Infallible;
    type Storage<C> = KeepNothing;

    const OFF: bool = true;

    fn restore(&self, kept: Infallible) -> Option<B> {
        match kept {}
    }
}

impl<B> Bodies<B> for Off {}

impl<B: Body + Default> KeepBody<B> for Empty {
    type Kept = ();
    type Storage<C> = Option<C>;

    fn keep(&self, body: &B) -> Option<()> {
        body.is_end_stream().then_some(())
    }

    fn restore(&self, (): ()) -> Option<B> {
        // The default value of some body types is not empty. The replay would then have another body.
        Some(B::default()).filter(B::is_end_stream)
    }
}

#[diagnostic::do_not_recommend]
impl<B: Body + Default> Bodies<B> for Empty {}

impl<B: Clone> KeepBody<B> for Cloned {
    type Kept = B;
    type Storage<C> = Option<C>;

    fn keep(&self, body: &B) -> Option<B> {
        Some(body.clone())
    }

    fn restore(&self, kept: B) -> Option<B> {
        Some(kept)
    }
}

#[diagnostic::do_not_recommend]
impl<B: Clone> Bodies<B> for Cloned {}
