//! From a request to its first sending.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, MaxSizeReached};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::copy::Head;
use super::future::ResponseFuture;
use super::layer::Shared;
use super::lease::{Held, Leased};
use super::replay::{self, Bodies, Empty, Mode};
use crate::error::{BoxError, Error, ErrorKind};
use crate::message::{Destination, RequestHead, TokenRequestMarker};
use crate::provider::TokenProvider;
use crate::source::{Lookup, TokenSource};

/// The service that [`BearerAuthLayer`](crate::BearerAuthLayer) makes.
///
/// Its error is [`Error`] where no byte of the request reached the inner service, and the inner service's own error
/// otherwise; [`Error::find`] tells them apart. (An inner service whose own errors are of this type, such as a second layer of
/// this crate below, speaks for itself alone.)
#[must_use]
pub struct BearerAuth<S, P: TokenProvider, R = Empty> {
    inner: S,
    shared: Arc<Shared<P>>,
    bodies: R,
    leased: Leased<P>,
}

enum Route<K> {
    Stamp(K),
    Pass,
    Refuse(Error),
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared<P>>, bodies: R) -> Self {
        Self { inner, shared, bodies, leased: Leased::Unused }
    }

    /// The source that this service asks for tokens.
    #[must_use]
    pub fn source(&self) -> &TokenSource<P> {
        &self.shared.source
    }

    /// The inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service and drops the rest.
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
        let shared = &self.shared;
        let key = match shared.route(&request) {
            Route::Stamp(key) => key,
            Route::Pass => return ResponseFuture::passing(self.inner.call(request), shared.audit),
            Route::Refuse(error) => return self.fail(error),
        };
        let held = match self.leased.current() {
            Some(lease) => Held::Lease(lease),
            None => match shared.source.cached(&key) {
                Some(grant) => {
                    self.leased.granted(shared, &grant);
                    Held::Granted(Arc::clone(shared), grant)
                }
                None => match shared.source.lookup(key) {
                    Lookup::Granted(grant) => Held::Granted(Arc::clone(shared), grant),
                    Lookup::Wait(wait) => {
                        let shared = Arc::clone(shared);
                        return ResponseFuture::waiting(shared, self.bodies.clone(), self.take_ready(), request, wait);
                    }
                    Lookup::Failed(error) => return self.fail(error),
                },
            },
        };
        let mut kept = None;
        if shared.keeps() {
            // A request whose body is only looked at is not moved.
            if R::WRAPS {
                (request, kept) = replay::wrap(&self.bodies, request);
            } else {
                kept = self.bodies.look(request.body());
            }
        }
        let Some(kept) = kept else {
            if let Err(error) = shared.stamp(request.headers_mut(), held.header()) {
                return self.fail(error);
            }
            return ResponseFuture::sent(held, self.bodies.clone(), self.inner.call(request));
        };
        let head = Head::of(&request);
        if let Err(error) = shared.stamp(request.headers_mut(), held.header()) {
            return self.fail(error);
        }
        let mut service = self.take_ready();
        let response = service.call(request);
        ResponseFuture::kept(held, self.bodies.clone(), response, service, head, kept)
    }
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    fn fail<B, T>(&mut self, error: Error) -> ResponseFuture<S, P, R, B, T>
    where
        S: Service<Request<B>, Response = Response<T>> + Clone,
        R: Bodies<B>,
    {
        // A permit that stayed with an idle handle would be missing everywhere else.
        drop(self.take_ready());
        ResponseFuture::failed(error)
    }

    /// The service that was polled ready moves out, and its clone stays: readiness belongs to the one that was polled.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

impl<P: TokenProvider> Shared<P> {
    // Not inlined, it would take 15 instructions more for each request.
    #[inline(always)]
    fn route<B>(&self, request: &Request<B>) -> Route<P::Key> {
        let head = RequestHead::of(request);
        if head.extensions().get::<TokenRequestMarker>().is_some() {
            return Route::Pass;
        }
        match self.origins.check(head.uri()) {
            Destination::Allowed => {}
            Destination::Foreign => {
                self.source.report_not_stamped(head.uri().host().unwrap_or_default());
                return Route::Pass;
            }
            Destination::NothingAllowed => return Route::Refuse(nothing_allowed()),
            Destination::Insecure => return Route::Refuse(insecure()),
        }
        if self.if_not_present && head.headers().contains_key(&self.header) {
            return Route::Pass;
        }
        match self.source.provider().key(&head) {
            Ok(key) => Route::Stamp(key),
            Err(error) => Route::Refuse(error),
        }
    }

    /// Whether there may be a second sending, for which something has to be kept.
    pub(super) fn keeps(&self) -> bool {
        self.when != Mode::Never
    }

    /// A map of headers holds some ten thousand names, and panics past that unless it is asked first.
    // Not inlined, it would take 47 instructions more for each request.
    #[inline(always)]
    pub(super) fn stamp(&self, headers: &mut HeaderMap, value: &HeaderValue) -> Result<(), Error> {
        if !self.api_headers.is_empty() {
            self.stamp_api_headers(headers)?;
        }
        // The constant takes some 40 instructions less than a name that may be any.
        let stamped = if self.header == AUTHORIZATION {
            headers.try_insert(AUTHORIZATION, value.clone())
        } else {
            headers.try_insert(&self.header, value.clone())
        };
        if stamped.is_ok() { Ok(()) } else { self.replace(headers, value) }
    }

    /// Even what replaces a value needs room for one more.
    fn replace(&self, headers: &mut HeaderMap, value: &HeaderValue) -> Result<(), Error> {
        headers.remove(&self.header);
        headers.try_insert(&self.header, value.clone()).map(drop).map_err(no_room)
    }

    fn stamp_api_headers(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        for name in self.api_headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &self.api_headers {
            headers.try_append(name.clone(), value.clone()).map_err(no_room)?;
        }
        Ok(())
    }

    /// Puts another token in the place of the one that was stamped.
    pub(super) fn restamp(&self, headers: &mut HeaderMap, value: &HeaderValue) {
        if let Some(stamped) = headers.get_mut(&self.header) {
            *stamped = value.clone();
        }
    }
}

fn nothing_allowed() -> Error {
    Error::new(ErrorKind::NoOrigin, "no origin is allowed to receive the token")
        .with_hint("name the API's origin with allow_origin")
}

fn insecure() -> Error {
    Error::new(ErrorKind::InsecureUrl, "the token would go out in clear text to a host that has https")
        .with_hint("ask for the https URL")
}

fn no_room(_: MaxSizeReached) -> Error {
    Error::new(ErrorKind::InvalidRequest, "the request has no room for the token's header")
        .with_hint("send fewer headers")
}

impl<S: Clone, P: TokenProvider, R: Clone> Clone for BearerAuth<S, P, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            bodies: self.bodies.clone(),
            leased: Leased::Unused,
        }
    }
}

impl<S: fmt::Debug, P: TokenProvider, R: fmt::Debug> fmt::Debug for BearerAuth<S, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("inner", &self.inner)
            .field("settings", &self.shared)
            .field("bodies", &self.bodies)
            .finish()
    }
}
