//! The tokens that services keep between their requests.
//!
//! A token and its header value have reference counts. If many threads stamp the same token, each request writes the
//! same counts, and the CPU cores wait for each other's cache lines. So a service that is used again keeps a copy with
//! counts of its own. Services that are cloned for each request share such copies, one for each group of threads. For each
//! request the layer only checks that the source would still return the same token.

use std::array;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::settings::Settings;
use crate::provider::TokenProvider;
use crate::source::{Grant, number_of_this_thread};

/// A grant, a header value and the settings under one reference count.
pub(super) struct CachedGrant<P: TokenProvider> {
    settings: Arc<Settings<P>>,
    grant: Grant<P::Key>,
    header: HeaderValue,
}

impl<P: TokenProvider> CachedGrant<P> {
    fn new(settings: &Arc<Settings<P>>, grant: &Grant<P::Key>) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            header: grant.token().unshared_header_value(),
            grant: grant.clone(),
        })
    }

    /// Whether the source would return the same token again. If so, this counts as a hit.
    fn is_current(&self) -> bool {
        self.settings.source.still_grants(self.grant.token())
    }
}

/// The cached grant of one service. A clone of the service starts without one.
pub(super) enum GrantCache<P: TokenProvider> {
    /// The service has not stamped a token yet. Many services are cloned for one request, and a cache of their own would
    /// slow them down.
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

/// What a service and its clones share.
pub(super) struct SharedParts<P: TokenProvider> {
    pub(super) settings: Arc<Settings<P>>,
    /// How many clones have stamped a token of the source, until there are cells.
    clones: AtomicUsize,
    cells: OnceLock<Box<[GrantCell<P>; CELLS]>>,
}

const CELLS: usize = 16;
/// Cells are created when this many clones have stamped their first token. Most services are cloned rarely.
const CLONES: usize = 3;

/// The cached grant of the threads whose number has the same remainder. The alignment keeps two cells out of one cache line.
#[repr(align(128))]
struct GrantCell<P: TokenProvider>(ArcSwapOption<CachedGrant<P>>);

impl<P: TokenProvider> SharedParts<P> {
    pub(super) fn new(settings: Arc<Settings<P>>) -> Self {
        Self { settings, clones: AtomicUsize::new(0), cells: OnceLock::new() }
    }

    /// The cached grant of this thread, if its token is still current. Otherwise this drops the grants of all threads, so that
    /// a withdrawn token does not stay in memory for a thread that is idle.
    fn current(&self) -> Option<Arc<CachedGrant<P>>> {
        let cells = self.cells.get()?;
        let cell = cells.get(number_of_this_thread() % CELLS)?.0.load();
        let cached = cell.as_ref()?;
        if cached.is_current() {
            return Some(Arc::clone(cached));
        }
        cells.iter().for_each(|cell| cell.0.store(None));
        None
    }

    fn record(&self, grant: &Grant<P::Key>) {
        if self.cells.get().is_none() && self.clones.fetch_add(1, Ordering::Relaxed) + 1 < CLONES {
            return;
        }
        let cells = self.cells.get_or_init(|| Box::new(array::from_fn(|_| GrantCell(ArcSwapOption::const_empty()))));
        if let Some(cell) = cells.get(number_of_this_thread() % CELLS) {
            cell.0.store(Some(CachedGrant::new(&self.settings, grant)));
        }
    }
}

impl<P: TokenProvider> GrantCache<P> {
    /// Whether there are several keys. Then nothing is cached here, because the next request probably has another key.
    const IS_KEYED: bool = size_of::<P::Key>() > 0;

    /// The cached grant, if its token is still current. Otherwise this drops the grant, so that a withdrawn token does
    /// not stay in memory.
    #[inline]
    pub(super) fn current(&mut self, shared: &SharedParts<P>) -> Option<Arc<CachedGrant<P>>> {
        if Self::IS_KEYED {
            return None;
        }
        let Self::Cached(cached) = self else {
            return self.of_thread(shared);
        };
        if cached.is_current() {
            return Some(Arc::clone(cached));
        }
        *self = Self::Used;
        None
    }

    /// The cached grant of this thread, for a service that has not stamped a token yet.
    #[inline(never)]
    fn of_thread(&mut self, shared: &SharedParts<P>) -> Option<Arc<CachedGrant<P>>> {
        let Self::Unused = self else { return None };
        let cached = shared.current()?;
        *self = Self::Used;
        Some(cached)
    }

    /// Records a grant that came from the source's cache.
    pub(super) fn record(&mut self, shared: &SharedParts<P>, grant: &Grant<P::Key>) {
        if Self::IS_KEYED {
            return;
        }
        *self = match self {
            Self::Unused => {
                shared.record(grant);
                Self::Used
            }
            _ => Self::Cached(CachedGrant::new(&shared.settings, grant)),
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

#[cfg(test)]
mod tests;
