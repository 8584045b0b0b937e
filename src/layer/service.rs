//! From a request to its first sending.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::MaxSizeReached;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::future::ResponseFuture;
use super::layer::Shared;
use super::replay::{Bodies, Empty, When};
use crate::api::{Destination, RequestHead, TokenCall};
use crate::error::{BoxError, Error, ErrorKind};
use crate::provider::TokenProvider;
use crate::source::{Asked, Grant, TokenSource};
use crate::token::Token;

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
}

/// Everything that a second sending needs.
pub(super) struct Again<S, K> {
    pub(super) service: S,
    pub(super) head: Parts,
    pub(super) kept: K,
}

enum Route<K> {
    Stamp(K),
    Pass,
    Refuse(Error),
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared<P>>, bodies: R) -> Self {
        Self { inner, shared, bodies }
    }

    /// The source that this service asks for tokens.
    #[must_use]
    pub fn source(&self) -> &TokenSource<P> {
        &self.shared.source
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        let key = match shared.route(&request) {
            Route::Stamp(key) => key,
            Route::Pass => return ResponseFuture::passing(Arc::clone(shared), self.inner.call(request)),
            Route::Refuse(error) => return self.fail(error),
        };
        match shared.source.ask(key) {
            Asked::Granted(grant) => self.send(request, grant),
            Asked::Wait(acquire) => {
                let shared = Arc::clone(shared);
                ResponseFuture::waiting(shared, self.bodies.clone(), self.take_ready(), request, acquire)
            }
            Asked::Failed(error) => self.fail(error),
        }
    }
}

impl<S, P: TokenProvider, R> BearerAuth<S, P, R> {
    fn send<B, T>(&mut self, request: Request<B>, grant: Grant<P::Key>) -> ResponseFuture<S, P, R, B, T>
    where
        S: Service<Request<B>, Response = Response<T>> + Clone,
        R: Bodies<B>,
    {
        let (mut request, copy) = self.shared.keep(&self.bodies, request);
        if let Err(error) = self.shared.stamp(request.headers_mut(), grant.token()) {
            return self.fail(error);
        }
        let (response, again) = match copy {
            None => (self.inner.call(request), None),
            Some((head, kept)) => {
                let mut service = self.take_ready();
                (service.call(request), Some(Again { service, head, kept }))
            }
        };
        ResponseFuture::sent(Arc::clone(&self.shared), self.bodies.clone(), response, grant, again)
    }

    fn fail<B, T>(&mut self, error: Error) -> ResponseFuture<S, P, R, B, T>
    where
        S: Service<Request<B>, Response = Response<T>> + Clone,
        R: Bodies<B>,
    {
        // A permit that stayed with an idle handle would be missing everywhere else.
        drop(self.take_ready());
        ResponseFuture::failed(Arc::clone(&self.shared), error)
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
    fn route<B>(&self, request: &Request<B>) -> Route<P::Key> {
        let head = RequestHead::of(request);
        if head.extensions().get::<TokenCall>().is_some() {
            return Route::Pass;
        }
        match self.origins.check(head.uri()) {
            Destination::Allowed => {}
            Destination::Foreign => {
                self.source.pass_foreign(head.uri().host().unwrap_or_default());
                return Route::Pass;
            }
            Destination::NothingAllowed => {
                return Route::Refuse(
                    Error::new(ErrorKind::NoOrigin, "no origin is allowed to receive the token")
                        .with_hint("name the API's origin with allow_origin"),
                );
            }
            Destination::Insecure => {
                return Route::Refuse(
                    Error::new(ErrorKind::InsecureUrl, "the token would go out in clear text to a host that has https")
                        .with_hint("ask for the https URL"),
                );
            }
        }
        if self.if_not_present && head.headers().contains_key(&self.header) {
            return Route::Pass;
        }
        match self.source.provider().key(&head) {
            Ok(key) => Route::Stamp(key),
            Err(error) => Route::Refuse(error),
        }
    }

    /// Keeps what a second sending needs, if there may be one. A request that is not kept is not moved.
    pub(super) fn keep<B, R: Bodies<B>>(
        &self,
        bodies: &R,
        request: Request<B>,
    ) -> (Request<B>, Option<(Parts, R::Kept)>) {
        if R::OFF || self.when == When::Never {
            return (request, None);
        }
        let (head, body) = request.into_parts();
        let (body, kept) = bodies.keep(body);
        let copy = kept.map(|kept| (copy_of(&head), kept));
        (Request::from_parts(head, body), copy)
    }

    /// A map of headers holds some ten thousand, and panics past that unless it is asked first.
    pub(super) fn stamp(&self, headers: &mut HeaderMap, token: &Token) -> Result<(), Error> {
        if !self.api_headers.is_empty() {
            self.stamp_api_headers(headers)?;
        }
        let value = token.header_value();
        if headers.try_insert(self.header.clone(), value.clone()).is_err() {
            // Even what replaces a value needs room for one more.
            headers.remove(&self.header);
            headers.try_insert(self.header.clone(), value.clone()).map_err(no_room)?;
        }
        Ok(())
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
    pub(super) fn restamp(&self, headers: &mut HeaderMap, token: &Token) {
        if let Some(value) = headers.get_mut(&self.header) {
            *value = token.header_value().clone();
        }
    }
}

fn no_room(_: MaxSizeReached) -> Error {
    Error::new(ErrorKind::InvalidRequest, "the request has no room for the token's header")
        .with_hint("send fewer headers")
}

fn copy_of(head: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.headers = head.headers.clone();
    copy.extensions = head.extensions.clone();
    copy
}

impl<S: Clone, P: TokenProvider, R: Clone> Clone for BearerAuth<S, P, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared), bodies: self.bodies.clone() }
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
