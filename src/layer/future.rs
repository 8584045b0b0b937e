//! From the first sending to the answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::answer::{self, Refused};
use super::audit::ReplayOutcome;
use super::copy::{Again, Copied, Head, Room};
use super::heal::{Healed, Healing};
use super::layer::Shared;
use super::lease::Held;
use super::replay::{self, Bodies};
use crate::error::{BoxError, Error, NotSent};
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::source::{Grant, TokenWait};

pin_project! {
    /// The future of a [`BearerAuth`](crate::BearerAuth) call. Polled after its answer it stays pending.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for a token, nothing was sent. Dropped later, the inner service's future is dropped with
    /// it: the request may have been applied. A token request that it waited for goes on either way.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ResponseFuture<S, P, R, B, T>
    where
        S: Service<Request<B>>,
        P: TokenProvider,
        R: Bodies<B>,
    {
        #[pin]
        state: State<S, P, R, B, T>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateReplace]
    enum State<S, P, R, B, T>
    where
        S: Service<Request<B>>,
        P: TokenProvider,
        R: Bodies<B>,
    {
        /// Nothing was sent, and the error is still to be told; or the answer was given.
        Ended { error: Option<Error> },
        Waiting { waiting: Box<Waiting<S, P, R, B>> },
        /// The one state that has the inner future in place: it is every request's. In two of them it would leave no
        /// niche for the tag, and the whole future would be larger and dearer to move.
        Sent { #[pin] response: S::Future, sent: Sending<P, R, R::Room<Again<S, R::Kept>>> },
        Healing { healing: Box<Healing<S, P, R, B, T>> },
        Resent { response: Pin<Box<S::Future>>, grant: Grant<P::Key>, shared: Arc<Shared<P>> },
    }
}

struct Waiting<S, P: TokenProvider, R, B> {
    shared: Arc<Shared<P>>,
    bodies: R,
    acquire: TokenWait<P>,
    service: S,
    request: Request<B>,
}

enum Sending<P: TokenProvider, R, A> {
    Stamped(Sent<P, R, A>),
    /// Without a token of ours.
    Passing {
        audit: bool,
    },
}

struct Sent<P: TokenProvider, R, A> {
    held: Held<P>,
    bodies: R,
    again: A,
}

impl<S, P, R, B, T> ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>>,
    P: TokenProvider,
    R: Bodies<B>,
{
    pub(super) fn failed(error: Error) -> Self {
        Self { state: State::Ended { error: Some(error) } }
    }

    pub(super) fn passing(response: S::Future, audit: bool) -> Self {
        Self { state: State::Sent { response, sent: Sending::Passing { audit } } }
    }

    pub(super) fn waiting(
        shared: Arc<Shared<P>>,
        bodies: R,
        service: S,
        request: Request<B>,
        acquire: TokenWait<P>,
    ) -> Self {
        let waiting = Box::new(Waiting { shared, bodies, acquire, service, request });
        Self { state: State::Waiting { waiting } }
    }

    pub(super) fn sent(held: Held<P>, bodies: R, response: S::Future) -> Self {
        let sent = Sending::Stamped(Sent { held, bodies, again: R::Room::empty() });
        Self { state: State::Sent { response, sent } }
    }

    pub(super) fn kept(held: Held<P>, bodies: R, response: S::Future, service: S, head: Head, kept: R::Kept) -> Self {
        let again = R::Room::with(Again { service, copy: Copied { head, kept } });
        Self { state: State::Sent { response, sent: Sending::Stamped(Sent { held, bodies, again }) } }
    }
}

impl<S, P, R, B, T> Future for ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Error: Into<BoxError>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    type Output = Result<Response<T>, BoxError>;

    // Only what every request passes through. The rest is in `step`, so that this stays small.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let StateProj::Sent { response, sent } = self.as_mut().project().state.project() else {
                match ready!(self.as_mut().step(cx)) {
                    Some(output) => {
                        self.end();
                        return Poll::Ready(output);
                    }
                    None => continue,
                }
            };
            let mut response = match ready!(response.poll(cx)) {
                Ok(response) => response,
                Err(error) => {
                    self.end();
                    return Poll::Ready(Err(error.into()));
                }
            };
            let held = match sent {
                Sending::Stamped(sent) => &sent.held,
                Sending::Passing { audit } => {
                    if *audit {
                        answer::add_not_stamped(&mut response);
                    }
                    self.end();
                    return Poll::Ready(Ok(response));
                }
            };
            let rejection = held.shared().rejection(&mut response, held.grant().token());
            let Some(refusal) = rejection else {
                if held.shared().audit {
                    held.shared().add_audit(&mut response, held.grant(), 1, ReplayOutcome::NotNeeded);
                }
                self.end();
                return Poll::Ready(Ok(response));
            };
            if let Some(response) = self.as_mut().refused(response, refusal) {
                return Poll::Ready(Ok(response));
            }
        }
    }
}

impl<S, P, R, B, T> ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Error: Into<BoxError>,
    P: TokenProvider,
    R: Bodies<B>,
    T: Body,
{
    /// The answer is there: token and copy go, whoever keeps the future.
    fn end(self: Pin<&mut Self>) {
        self.project().state.set(State::Ended { error: None });
    }

    /// Goes on in any state but `Sent`. `None` where the state has changed.
    fn step(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Response<T>, BoxError>>> {
        let mut this = self.project();
        match this.state.as_mut().project() {
            StateProj::Ended { error } => match error.take() {
                Some(error) => Poll::Ready(Some(Err(NotSent::new(error).into()))),
                None => Poll::Pending,
            },
            StateProj::Waiting { waiting } => {
                let grant = ready!(Pin::new(&mut waiting.acquire).poll(cx));
                let ended = State::Ended { error: None };
                let StateReplace::Waiting { waiting } = this.state.as_mut().project_replace(ended) else {
                    return Poll::Pending;
                };
                match grant.and_then(|grant| waiting.send(grant)) {
                    Ok(sent) => this.state.set(sent),
                    Err(error) => return Poll::Ready(Some(Err(NotSent::new(error).into()))),
                }
                Poll::Ready(None)
            }
            StateProj::Sent { .. } => Poll::Ready(None),
            StateProj::Healing { healing } => {
                match ready!(healing.poll(cx)) {
                    Healed::Keep(response) => return Poll::Ready(Some(Ok(response))),
                    Healed::Failed(error) => return Poll::Ready(Some(Err(error))),
                    Healed::Resent(response, grant) => {
                        let shared = Arc::clone(healing.shared());
                        let response = Box::pin(response);
                        this.state.set(State::Resent { response, grant, shared });
                    }
                }
                Poll::Ready(None)
            }
            StateProj::Resent { response, grant, shared } => {
                let response = ready!(response.as_mut().poll(cx)).map(|response| shared.read_second(response, grant));
                Poll::Ready(Some(response.map_err(Into::into)))
            }
        }
    }

    /// The token of a first sending was refused. The answer is the caller's, or `None` where healing has begun.
    fn refused(self: Pin<&mut Self>, response: Response<T>, refusal: Rejection) -> Option<Response<T>> {
        let mut state = self.project().state;
        // Sets the first response future free before anything else happens.
        let StateReplace::Sent { sent: Sending::Stamped(sent), .. } =
            state.as_mut().project_replace(State::Ended { error: None })
        else {
            return Some(response);
        };
        let Sent { held, bodies, again } = sent;
        match held.shared().refused(bodies, response, refusal, held.grant().clone(), again.take()) {
            Refused::Return(response) => Some(response),
            Refused::Heal(healing) => {
                state.set(State::Healing { healing });
                None
            }
        }
    }
}

impl<S, P: TokenProvider, R: Bodies<B>, B> Waiting<S, P, R, B> {
    /// Sends the request that waited for a token.
    fn send<T>(self, grant: Grant<P::Key>) -> Result<State<S, P, R, B, T>, Error>
    where
        S: Service<Request<B>>,
    {
        let Self { shared, bodies, acquire: _, mut service, mut request } = self;
        // As in `BearerAuth::call`: a function for both would move each request once more.
        let mut kept = None;
        if shared.keeps() {
            if R::WRAPS {
                (request, kept) = replay::wrap(&bodies, request);
            } else {
                kept = bodies.look(request.body());
            }
        }
        let copy = kept.map(|kept| Copied { head: Head::of(&request), kept });
        shared.stamp(request.headers_mut(), grant.token().header_value())?;
        let response = service.call(request);
        let again = copy.map_or_else(R::Room::empty, |copy| R::Room::with(Again { service, copy }));
        let held = Held::Granted(shared, grant);
        Ok(State::Sent { response, sent: Sending::Stamped(Sent { held, bodies, again }) })
    }
}

impl<S, P, R, B, T> fmt::Debug for ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>>,
    P: TokenProvider,
    R: Bodies<B>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
