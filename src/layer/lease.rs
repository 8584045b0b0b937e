//! What one service keeps of the token that it stamped last.
//!
//! A cached token is counted wherever it is held, and so is its header value: cores that stamp the same token write the same
//! two counts for every request, and wait for each other. A service that is used again holds both by counts of its own, and
//! asks the source only whether the token is still the one to stamp.

use std::sync::Arc;

use http::HeaderValue;

use super::layer::Shared;
use crate::provider::TokenProvider;
use crate::source::Grant;

pub(super) struct Lease<P: TokenProvider> {
    shared: Arc<Shared<P>>,
    grant: Grant<P::Key>,
    header: HeaderValue,
}

/// The lease of one service, and none of its clones.
pub(super) enum Leased<P: TokenProvider> {
    /// A service that was cloned for one request alone would make a lease in vain.
    Unused,
    Used,
    Held(Arc<Lease<P>>),
}

/// The settings of the layer and a token, as one request holds them until its answer is read.
pub(super) enum Held<P: TokenProvider> {
    Granted(Arc<Shared<P>>, Grant<P::Key>),
    Lease(Arc<Lease<P>>),
}

impl<P: TokenProvider> Leased<P> {
    /// The lease, if what it holds is still to be stamped. Otherwise it ends here: a token that was withdrawn must not stay in
    /// memory until another one comes.
    pub(super) fn current(&mut self) -> Option<Arc<Lease<P>>> {
        let Self::Held(lease) = self else {
            return None;
        };
        if lease.shared.source.still_grants(lease.grant.token()) {
            return Some(Arc::clone(lease));
        }
        *self = Self::Used;
        None
    }

    /// Takes note of a request that was granted a fresh token.
    pub(super) fn granted(&mut self, shared: &Arc<Shared<P>>, grant: &Grant<P::Key>) {
        // Where there are many keys, the next request is another one's.
        if size_of::<P::Key>() > 0 {
            return;
        }
        *self = match self {
            Self::Unused => Self::Used,
            _ => Self::Held(Arc::new(Lease {
                shared: Arc::clone(shared),
                header: grant.token().header_value_of_its_own(),
                grant: grant.clone(),
            })),
        };
    }
}

impl<P: TokenProvider> Held<P> {
    pub(super) fn shared(&self) -> &Arc<Shared<P>> {
        match self {
            Self::Granted(shared, _) => shared,
            Self::Lease(lease) => &lease.shared,
        }
    }

    pub(super) fn grant(&self) -> &Grant<P::Key> {
        match self {
            Self::Granted(_, grant) => grant,
            Self::Lease(lease) => &lease.grant,
        }
    }

    pub(super) fn header(&self) -> &HeaderValue {
        match self {
            Self::Granted(_, grant) => grant.token().header_value(),
            Self::Lease(lease) => &lease.header,
        }
    }
}
