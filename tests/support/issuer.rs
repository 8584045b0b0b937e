//! An issuer in this process, for virtual time. It counts what it is asked, at its own end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tower_bearer_auth::{Error, FromFn, IssuedToken, from_fn};

/// How often the issuer was asked.
#[derive(Clone, Default)]
pub(crate) struct RequestCount(Arc<AtomicUsize>);

impl RequestCount {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A provider whose `n`-th token request, counted from 1, comes to what `answer` says.
pub(crate) fn issuer<F, Fut>(answer: F) -> (FromFn<impl Fn() -> Fut + Send + Sync + 'static>, RequestCount)
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    let asked = RequestCount::default();
    let count = asked.clone();
    (from_fn(move || answer(count.0.fetch_add(1, Ordering::SeqCst) + 1)), asked)
}

/// The `n`-th token: `token-n`, for half an hour.
pub(crate) fn token(n: usize) -> Result<IssuedToken, Error> {
    Ok(IssuedToken::bearer(format!("token-{n}"))?.expires_in(Duration::from_secs(1800)))
}
