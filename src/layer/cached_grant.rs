//! The token that one service keeps between its requests.
//!
//! A token and its header value have reference counts. If many threads stamp the same token, each request writes the
//! same two counts, and the CPU cores wait for each other's cache lines. So a service that is used again keeps a copy
//! with counts of its own. For each request it only checks that the source would still return the same token.

use std::sync::Arc;

use http::HeaderValue;

use super::settings::Settings;
use crate::provider::TokenProvider;
use crate::source::Grant;

/// A grant, a header value and the settings under one reference count, which belongs to one service.
pub(super) struct CachedGrant<P: TokenProvider> {
    settings: Arc<Settings<P>>,
    grant: Grant<P::Key>,
    header: HeaderValue,
}

/// The cached grant of one service. A clone of the service starts without one.
pub(super) enum GrantCache<P: TokenProvider> {
    /// The service has not stamped a token yet. Many services are cloned for one request, and caching would slow them
    /// down.
    Unused,
    /// The service has stamped a token, and caches the next one.
    Used,
    Cached(Arc<CachedGrant<P>>),
}

/// The settings and the grant of one request, from the first send until the response is read.
pub(super) enum GrantRef<P: TokenProvider> {
    FromSource(Arc<Settings<P>>, Grant<P::Key>),
    Cached(Arc<CachedGrant<P>>),
}

impl<P: TokenProvider> GrantCache<P> {
    /// The cached grant, if its token is still current. Otherwise this drops the grant, so that a withdrawn token does
    /// not stay in memory.
    pub(super) fn current(&mut self) -> Option<Arc<CachedGrant<P>>> {
        let Self::Cached(cached) = self else {
            return None;
        };
        if cached.settings.source.still_grants(cached.grant.token()) {
            return Some(Arc::clone(cached));
        }
        *self = Self::Used;
        None
    }

    /// Records a grant that came from the source's cache.
    pub(super) fn record(&mut self, settings: &Arc<Settings<P>>, grant: &Grant<P::Key>) {
        // With several keys, the next request probably has another key.
        if size_of::<P::Key>() > 0 {
            return;
        }
        *self = match self {
            Self::Unused => Self::Used,
            _ => Self::Cached(Arc::new(CachedGrant {
                settings: Arc::clone(settings),
                header: grant.token().unshared_header_value(),
                grant: grant.clone(),
            })),
        };
    }
}

impl<P: TokenProvider> Clone for GrantRef<P> {
    fn clone(&self) -> Self {
        match self {
            Self::FromSource(settings, grant) => Self::FromSource(Arc::clone(settings), grant.clone()),
            Self::Cached(cached) => Self::Cached(Arc::clone(cached)),
        }
    }
}

impl<P: TokenProvider> GrantRef<P> {
    pub(super) fn settings(&self) -> &Arc<Settings<P>> {
        match self {
            Self::FromSource(settings, _) => settings,
            Self::Cached(cached) => &cached.settings,
        }
    }

    pub(super) fn grant(&self) -> &Grant<P::Key> {
        match self {
            Self::FromSource(_, grant) => grant,
            Self::Cached(cached) => &cached.grant,
        }
    }

    pub(super) fn header(&self) -> &HeaderValue {
        match self {
            Self::FromSource(_, grant) => grant.token().header_value(),
            Self::Cached(cached) => &cached.header,
        }
    }
}
