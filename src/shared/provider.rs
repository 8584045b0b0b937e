//! The provider that shares the tokens of another one.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::client::Client;
use super::flow::Flow;
use super::identity::Shareable;
use super::store::TokenStore;
use crate::error::Error;
use crate::message::{Origins, Rejection, RequestHead, ResponseHead};
use crate::provider::{FetchContext, TokenProvider};
use crate::token::IssuedToken;

/// Shares the tokens of `P` with other processes, through `S`. It is a provider itself, so everything above it stays the
/// same.
///
/// A fetch takes the token of another process if [`FetchContext::wants`] it. Otherwise one process gets a lease and calls the
/// issuer for all of them, and the others wait for its token. With a healthy store and issuer, any number of processes make
/// 1 + ceil(T / (L - window)) token requests in a time T, where L is the lifetime of a token.
///
/// # Failures
///
/// - **The store fails, or takes longer than 500 ms for a call.** The fetch calls the issuer, as without a store. For 5 seconds
///   no other fetch uses the store. See [`OnStoreFailure`](super::OnStoreFailure).
/// - **The issuer fails.** The others learn that from the store, and do not call it for 1 second, or for the issuer's
///   `Retry-After` up to 60 seconds. After a permanent failure they do not call it for 2.5 to 60 seconds, as
///   [`Error::permanent`] says. [`rotate`](crate::TokenSource::rotate) ends that.
/// - **The process with the lease dies.** Its lease ends after a third of the source's
///   [`fetch_timeout`](crate::TokenSourceBuilder::fetch_timeout), and after 4 seconds at most. Requests with a usable token do
///   not wait for that.
/// - **The process with the lease cannot reach the issuer.** The processes without a token wait until its token request times
///   out. Then one of them tries. A timeout without a response is not shared, because it may be a failure of one process.
/// - **A lease does not end.** The store says that it lives longer than any lease can. This counts as a failure of the store.
/// - **A record does not open.** It was sealed with another key, changed, or cut short. It counts as missing.
///
/// `Debug` prints the label of the provider and the namespace.
pub struct Shared<P, S> {
    pub(super) provider: P,
    pub(super) client: Arc<Client<S>>,
    pub(super) namespace: String,
}

impl<P: Shareable, S: TokenStore> TokenProvider for Shared<P, S> {
    type Key = P::Key;

    async fn fetch(&self, key: &Self::Key, cx: &FetchContext) -> Result<IssuedToken, Error> {
        crate::rt::current()?;
        let Self { provider, client, namespace } = self;
        Flow { provider, client, namespace, key, cx }.run().await
    }

    fn key(&self, request: &RequestHead<'_>) -> Result<Self::Key, Error> {
        self.provider.key(request)
    }

    fn header(&self) -> HeaderName {
        self.provider.header()
    }

    fn api_headers(&self) -> HeaderMap {
        self.provider.api_headers()
    }

    fn origins(&self) -> Origins {
        self.provider.origins()
    }

    fn rejection(&self, response: &ResponseHead<'_>) -> Option<Rejection> {
        self.provider.rejection(response)
    }

    fn is_idempotent(&self, request: &RequestHead<'_>) -> bool {
        self.provider.is_idempotent(request)
    }

    fn label(&self) -> &str {
        self.provider.label()
    }
}

impl<P: TokenProvider, S> fmt::Debug for Shared<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("provider", &self.provider.label())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
