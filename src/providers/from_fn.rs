//! A provider made from a function.

use std::fmt;
use std::future::Future;

use crate::error::Error;
use crate::provider::{FetchContext, TokenProvider};
use crate::token::IssuedToken;

/// Makes a provider from a function, for one identity.
///
/// ```
/// use tower_bearer_auth::{IssuedToken, TokenSource, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer_auth::Error> {
/// let source = TokenSource::new(from_fn(|| async { IssuedToken::bearer("opaque-token") }));
/// assert_eq!(source.token().await?.expose_secret(), "opaque-token");
/// # Ok(()) }
/// ```
pub fn from_fn<F, Fut>(fetch: F) -> FromFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    FromFn { fetch, identity: () }
}

/// The provider that [`from_fn`] returns. `I` is what distinguishes its tokens, if they are shared with other processes.
#[derive(Clone)]
pub struct FromFn<F, I = ()> {
    fetch: F,
    #[cfg_attr(not(feature = "shared"), allow(dead_code, reason = "only `shared` reads it"))]
    pub(crate) identity: I,
}

#[cfg(feature = "shared")]
impl<F> FromFn<F> {
    pub(crate) fn with_identity<I>(self, identity: I) -> FromFn<F, I> {
        FromFn { fetch: self.fetch, identity }
    }
}

impl<F, I, Fut> TokenProvider for FromFn<F, I>
where
    I: Send + Sync + 'static,
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<IssuedToken, Error>> + Send,
{
    type Key = ();

    async fn fetch(&self, (): &(), _: &FetchContext) -> Result<IssuedToken, Error> {
        (self.fetch)().await
    }
}

impl<F, I> fmt::Debug for FromFn<F, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
