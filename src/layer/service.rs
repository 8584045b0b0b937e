//! From a request to its first send.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::cached_grant::{GrantCache, GrantRef, SharedParts};
use super::future::ResponseFuture;
use super::replay::{self, Bodies, Empty, SavedHead};
use super::settings::{Route, Settings};
use crate::error::{BoxError, Error};
use crate::provider::TokenProvider;
use crate::source::{Lookup, TokenSource};

/// The service of a [`BearerAuthLayer`](crate::BearerAuthLayer).
///
/// It is ready when the inner service is ready. Readiness does not depend on a token.
///
/// A clone has the same settings and the same token source.
///
/// If `ready` or `call` does not compile, see [types and compile errors](crate::guide::types).
///
/// # Errors
///
/// | error | meaning |
/// | --- | --- |
/// | [`NotSent`](crate::NotSent) | the layer did not send the request; [`Error::find`] finds the reason through any wrapper |
/// | [`NotReplayed`](crate::NotReplayed) | the server rejected the request, and the replay was not sent: the credentials were rotated, or a second layer below had no token |
/// | any other | an error of the inner service; the request may have been sent |
///
/// If the inner service itself returns errors of this crate, for example because it contains a second `BearerAuth`,
/// their meaning is that of the service that made them.
#[must_use = "services do nothing unless you call them"]
pub struct BearerAuth<S, P: TokenProvider, R = Empty> {
    inner: S,
    shared: Arc<SharedParts<P>>,
    bodies: R,
    cache: GrantCache<P>,
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    pub(super) fn new(inner: S, settings: Arc<Settings<P>>, bodies: R) -> Self {
        Self { inner, shared: Arc::new(SharedParts::new(settings)), bodies, cache: GrantCache::Unused }
    }

    /// The token source.
    #[must_use]
    pub fn source(&self) -> &TokenSource<P> {
        &self.shared.settings.source
    }

    /// A reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner service.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes this service and returns the inner one.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, R, B, T> Service<Request<B>> for BearerAuth<S, P, R>
where
    S: Service<Request<B>, Response = Response<T>> + Clone,
    S::Error: Into<BoxError>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    type Response = Response<T>;
    type Error = BoxError;
    type Future = ResponseFuture<S, P, R, B, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.shared.settings;
        let key = match settings.route(&request) {
            Route::Stamp(key) => key,
            Route::PassThrough => {
                return ResponseFuture::not_stamped(self.inner.call(request), settings.audit_all);
            }
            Route::Strip => {
                settings.strip(request.headers_mut());
                return ResponseFuture::not_stamped(self.inner.call(request), settings.audit_all);
            }
            Route::Fail(error) => return self.fail(error),
        };
        let grant = match self.cache.current(&self.shared) {
            Some(cached) => GrantRef::Cached(cached),
            None => match settings.source.cached(&key) {
                Some(grant) => {
                    self.cache.record(&self.shared, &grant);
                    GrantRef::FromSource(Arc::clone(settings), grant)
                }
                None => match settings.source.lookup(key) {
                    Lookup::Granted(grant) => GrantRef::FromSource(Arc::clone(settings), grant),
                    Lookup::Wait(wait) => {
                        let settings = Arc::clone(settings);
                        return ResponseFuture::waiting(
                            settings,
                            self.bodies.clone(),
                            self.take_ready(),
                            request,
                            wait,
                        );
                    }
                    Lookup::Failed(error) => return self.fail(error),
                },
            },
        };
        let mut kept = None;
        if settings.may_replay() {
            // A request is moved only if its body must be replaced.
            if R::WRAPS {
                (request, kept) = replay::wrap(&self.bodies, request);
            } else {
                kept = self.bodies.keep(request.body());
            }
        }
        let Some(kept) = kept else {
            if let Err(error) = settings.stamp(request.headers_mut(), grant.header()) {
                return self.fail(error);
            }
            return ResponseFuture::sent(grant, self.bodies.clone(), self.inner.call(request));
        };
        let head = SavedHead::of(&request, settings.key_extension.get());
        if let Err(error) = settings.stamp(request.headers_mut(), grant.header()) {
            return self.fail(error);
        }
        let mut service = self.take_ready();
        let response = service.call(request);
        ResponseFuture::sent_with_copy(grant, self.bodies.clone(), response, service, head, kept)
    }
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    fn fail<B, T>(&mut self, error: Error) -> ResponseFuture<S, P, R, B, T>
    where
        S: Service<Request<B>, Response = Response<T>> + Clone,
        R: Bodies<B>,
    {
        // The ready service may hold a permit, for example of a `ConcurrencyLimit`. Release it: nothing is sent.
        drop(self.take_ready());
        ResponseFuture::not_sent(error)
    }

    /// Takes the ready service and leaves a clone in its place. Only the instance that was polled is ready.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

impl<S: Clone, P: TokenProvider, R: Clone> Clone for BearerAuth<S, P, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            bodies: self.bodies.clone(),
            cache: GrantCache::Unused,
        }
    }
}

impl<S: fmt::Debug, P: TokenProvider, R: fmt::Debug> fmt::Debug for BearerAuth<S, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .field("bodies", &self.bodies)
            .finish()
    }
}
