//! The service below the main one. It reads a response body ahead, and marks a rejection.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::body::{GrpcBody, ReadAhead};
use crate::clock::SentAt;
use crate::message::{GRPC_TIMEOUT, Rejection, ResponseHead, has_grpc_body};
use crate::provider::TokenProvider;
use crate::rt;

/// The service below the main one.
pub(super) struct WatchService<S, P> {
    pub(super) inner: S,
    pub(super) hold_head: Option<Duration>,
    provider: PhantomData<fn() -> P>,
}

impl<S, P> WatchService<S, P> {
    pub(super) fn new(inner: S, hold_head: Option<Duration>) -> Self {
        Self { inner, hold_head, provider: PhantomData }
    }
}

impl<S, P, B, T> Service<Request<B>> for WatchService<S, P>
where
    S: Service<Request<B>, Response = Response<T>>,
    P: TokenProvider,
    T: Body,
{
    type Response = Response<GrpcBody<T, P>>;
    type Error = S::Error;
    type Future = WatchFuture<S::Future, T, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let sent_at = request.headers().contains_key(&GRPC_TIMEOUT).then(SentAt::now);
        let response = self.inner.call(request);
        WatchFuture { sent_at, hold_head: self.hold_head, state: State::Calling { response }, provider: PhantomData }
    }
}

impl<S: Clone, P> Clone for WatchService<S, P> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.hold_head)
    }
}

impl<S: fmt::Debug, P> fmt::Debug for WatchService<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

pin_project! {
    pub(super) struct WatchFuture<F, T, P>
    where
        T: Body,
    {
        sent_at: Option<SentAt>,
        hold_head: Option<Duration>,
        #[pin]
        state: State<F, T>,
        provider: PhantomData<fn() -> P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, T>
    where
        T: Body,
    {
        Calling { #[pin] response: F },
        // `None` after the future has completed.
        HeldHead { held: Option<HeldHead<T>> },
    }
}

/// A response whose body was polled.
struct HeldHead<T: Body> {
    head: response::Parts,
    ahead: ReadAhead<T>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F, T, E, P> Future for WatchFuture<F, T, P>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: Body,
    P: TokenProvider,
{
    type Output = Result<Response<GrpcBody<T, P>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { response } => {
                    let response = match ready!(response.poll(cx)) {
                        Ok(response) if has_grpc_body(&ResponseHead::of(&response)) => response,
                        outcome => {
                            this.state.set(State::HeldHead { held: None });
                            let passed_on = |body| GrpcBody::passed_on(body, *this.sent_at);
                            return Poll::Ready(outcome.map(|response| response.map(passed_on)));
                        }
                    };
                    let (head, body) = response.into_parts();
                    let held = HeldHead { head, ahead: ReadAhead::new(body), timer: None };
                    this.state.set(State::HeldHead { held: Some(held) });
                }
                StateProj::HeldHead { held } => {
                    let Some(HeldHead { ahead, timer, .. }) = held else {
                        panic!("`WatchFuture` polled after completion");
                    };
                    if ahead.poll(cx).is_pending()
                        && let Some(time) = *this.hold_head
                        // Without timers the wait has no limit, so do not wait.
                        && !rt::has_passed(timer, time, cx).unwrap_or(true)
                    {
                        return Poll::Pending;
                    }
                    let Some(HeldHead { head, ahead, .. }) = held.take() else { continue };
                    let is_rejection = ahead.is_rejection();
                    let mut response = Response::from_parts(head, GrpcBody::watched(ahead, *this.sent_at));
                    if is_rejection {
                        Rejection::mark(&mut response, Some(Rejection::InvalidToken));
                    }
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}
