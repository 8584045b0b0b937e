//! The copy of a request from which a replay is made.

use http::Request;

use super::SavedHead;

/// What a replay needs: the service and the request.
pub(crate) struct Replayable<S, K> {
    pub(crate) service: S,
    pub(crate) request: SavedRequest<K>,
}

/// A request before it was stamped. `body` is what the new body is made from.
pub(crate) struct SavedRequest<K> {
    pub(crate) head: SavedHead,
    pub(crate) body: K,
}

/// A saved request after its rejection.
pub(crate) struct Restored<S, K> {
    pub(crate) service: S,
    pub(crate) request: Request<K>,
}

impl<S, K> Replayable<S, K> {
    /// `None` if the head cannot be restored.
    pub(crate) fn restore(self) -> Option<Restored<S, K>> {
        let Self { service, request: SavedRequest { head, body } } = self;
        Some(Restored { service, request: head.restore()?.map(|()| body) })
    }
}

/// Storage for the copy of a request while its response is awaited.
pub(crate) trait KeepCopy<C> {
    /// Without a copy.
    fn empty() -> Self;

    /// With a copy.
    fn with(copy: C) -> Self;

    /// The copy, if there is one.
    fn take(self) -> Option<C>;
}

impl<C> KeepCopy<C> for Option<C> {
    fn empty() -> Self {
        None
    }

    fn with(copy: C) -> Self {
        Some(copy)
    }

    fn take(self) -> Self {
        self
    }
}

/// Storage for a setting that never keeps a copy. It needs no space in the response future, which callers move.
#[derive(Debug)]
pub(crate) struct KeepNothing;

impl<C> KeepCopy<C> for KeepNothing {
    fn empty() -> Self {
        Self
    }

    fn with(_: C) -> Self {
        Self
    }

    fn take(self) -> Option<C> {
        None
    }
}
