//! The provider's headers for API requests. They may change with each fetch.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};

use crate::provider::TokenProvider;
use crate::source::TokenSource;

/// The headers, as they were read after a number of fetches.
pub(super) struct ApiHeaders {
    latest: ArcSwap<Read>,
    /// Whether there are any. The names do not change.
    any: bool,
}

struct Read {
    fetches: u64,
    headers: HeaderMap,
}

impl ApiHeaders {
    pub(super) fn read<P: TokenProvider>(source: &TokenSource<P>, token_header: &HeaderName) -> Self {
        let read = Read::from(source, token_header);
        Self { any: !read.headers.is_empty(), latest: ArcSwap::from_pointee(read) }
    }

    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// Calls `with` with the headers. If a fetch has completed since they were read, they are read again: the fetch may have
    /// loaded new values.
    pub(super) fn with<P: TokenProvider, T>(
        &self,
        source: &TokenSource<P>,
        token_header: &HeaderName,
        with: impl FnOnce(&HeaderMap) -> T,
    ) -> T {
        let latest = self.latest.load();
        if latest.fetches == source.completed_fetches() {
            return with(&latest.headers);
        }
        let read = Arc::new(Read::from(source, token_header));
        self.latest.store(Arc::clone(&read));
        with(&read.headers)
    }
}

impl Read {
    fn from<P: TokenProvider>(source: &TokenSource<P>, token_header: &HeaderName) -> Self {
        // Counted first: a fetch that completes now makes the next request read them again.
        let fetches = source.completed_fetches();
        let mut headers = source.provider().api_headers();
        headers.remove(token_header);
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        Self { fetches, headers }
    }
}

impl Clone for ApiHeaders {
    fn clone(&self) -> Self {
        Self { latest: ArcSwap::new(self.latest.load_full()), any: self.any }
    }
}
