use std::sync::Arc;
use std::thread;

use super::{CLONES, GrantCache, SharedParts};
use crate::error::Error;
use crate::layer::settings::Settings;
use crate::provider::{FetchContext, TokenProvider};
use crate::source::TokenSource;
use crate::token::IssuedToken;

struct Issuer;

impl TokenProvider for Issuer {
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        IssuedToken::bearer("token")
    }
}

fn shared() -> (TokenSource<Issuer>, SharedParts<Issuer>) {
    let source = TokenSource::new(Issuer);
    let shared = SharedParts::new(Arc::new(Settings::new(&source)));
    (source, shared)
}

fn warm_up(source: &TokenSource<Issuer>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(source.warm_up()).unwrap();
}

/// The first request of a clone.
fn stamp(source: &TokenSource<Issuer>, shared: &SharedParts<Issuer>) -> bool {
    let mut cache = GrantCache::Unused;
    if cache.current(shared).is_some() {
        return true;
    }
    let grant = source.cached(&()).unwrap();
    cache.record(shared, &grant);
    false
}

fn filled(shared: &SharedParts<Issuer>) -> usize {
    shared.cells.get().map_or(0, |cells| cells.iter().filter(|cell| cell.0.load().is_some()).count())
}

#[test]
fn a_service_that_is_cloned_rarely_has_no_cells() {
    let (source, shared) = shared();
    warm_up(&source);
    for _ in 1..CLONES {
        assert!(!stamp(&source, &shared));
        assert!(shared.cells.get().is_none());
    }
    assert!(!stamp(&source, &shared));
    assert!(stamp(&source, &shared), "the next clone on this thread uses the cell");
    assert_eq!(filled(&shared), 1);
}

// R50: no request of these threads may follow for hours.
#[test]
fn a_withdrawn_token_does_not_stay_in_the_cells_of_idle_threads() {
    let (source, shared) = shared();
    warm_up(&source);
    for _ in 0..CLONES {
        stamp(&source, &shared);
    }
    for _ in 0..4 {
        thread::scope(|scope| scope.spawn(|| stamp(&source, &shared)).join().unwrap());
    }
    assert!(filled(&shared) > 1);
    source.rotate();
    assert!(GrantCache::Unused.current(&shared).is_none());
    assert_eq!(filled(&shared), 0);
}

#[test]
fn a_cell_does_not_keep_the_settings_alive() {
    let (source, shared) = shared();
    warm_up(&source);
    for _ in 0..=CLONES {
        stamp(&source, &shared);
    }
    assert_eq!(filled(&shared), 1);
    let settings = Arc::downgrade(&shared.settings);
    drop(shared);
    assert!(settings.upgrade().is_none());
}
