//! The main service and the one below it, together.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::{GrpcBody, Watching};
use super::watch::WatchService;
use crate::error::BoxError;
use crate::layer::replay::{Bodies, Empty};
use crate::layer::{BearerAuth, ResponseFuture};
use crate::provider::TokenProvider;

/// The service of a [`GrpcLayer`](super::GrpcLayer). It behaves like [`BearerAuth`], and returns the same errors.
#[must_use = "services do nothing unless you call them"]
pub struct GrpcService<S, P: TokenProvider, R = Empty> {
    pub(super) auth: BearerAuth<WatchService<S, P>, P, R>,
}

impl<S, P: TokenProvider, R> GrpcService<S, P, R> {
    /// A reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.auth.get_ref().inner
    }

    /// A mutable reference to the inner service.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.auth.get_mut().inner
    }

    /// Consumes this service and returns the inner one.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.auth.into_inner().inner
    }
}

impl<S, P, R, B, T> Service<Request<B>> for GrpcService<S, P, R>
where
    S: Service<Request<B>, Response = Response<T>> + Clone,
    S::Error: Into<BoxError>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    type Response = Response<GrpcBody<T, P>>;
    type Error = BoxError;
    type Future = GrpcFuture<S, P, R, B, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.auth.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        GrpcFuture { response: self.auth.call(request) }
    }
}

impl<S: Clone, P: TokenProvider, R: Clone> Clone for GrpcService<S, P, R> {
    fn clone(&self) -> Self {
        Self { auth: self.auth.clone() }
    }
}

impl<S: fmt::Debug, P: TokenProvider, R: fmt::Debug> fmt::Debug for GrpcService<S, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GrpcService").field(&self.auth).finish()
    }
}

pin_project! {
    /// The response future of a [`GrpcService`]. It behaves like [`ResponseFuture`].
    ///
    /// # Panics
    ///
    /// If it is polled after completion.
    ///
    /// # Cancel safety
    ///
    /// As for [`ResponseFuture`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct GrpcFuture<S, P, R, B, T>
    where
        S: Service<Request<B>, Response = Response<T>>,
        P: TokenProvider,
        R: Bodies<B>,
        T: Body,
    {
        #[pin]
        response: ResponseFuture<WatchService<S, P>, P, R, B, GrpcBody<T, P>>,
    }
}

impl<S, P, R, B, T> Future for GrpcFuture<S, P, R, B, T>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Error: Into<BoxError>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    type Output = Result<Response<GrpcBody<T, P>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().response.poll_above::<Watching>(cx)
    }
}

impl<S, P, R, B, T> fmt::Debug for GrpcFuture<S, P, R, B, T>
where
    S: Service<Request<B>, Response = Response<T>>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcFuture").finish_non_exhaustive()
    }
}
