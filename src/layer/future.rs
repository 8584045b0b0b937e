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

use super::audit::{Audit, Replay};
use super::copy::{Again, Copied, Head, Room};
use super::heal::{Healed, Healing};
use super::layer::Shared;
use super::lease::Held;
use super::replay::{Bodies, When};
use crate::api::{Refusal, ResponseHead};
use crate::error::{BoxError, Error};
use crate::provider::TokenProvider;
use crate::source::{Acquire, Grant, Renewal};
use crate::token::Token;

pin_project! {
    /// The future of a [`BearerAuth`](crate::BearerAuth) call.
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
        bodies: Option<R>,
        #[pin]
        state: State<S, P, R, B, T>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, P, R, B, T>
    where
        S: Service<Request<B>>,
        P: TokenProvider,
        R: Bodies<B>,
    {
        /// Nothing was sent.
        Failed { error: Option<Error> },
        /// Sent without a token of ours.
        Passing { #[pin] response: S::Future, shared: Arc<Shared<P>> },
        Waiting { waiting: Option<Box<Waiting<S, P, B>>> },
        Sent { #[pin] response: S::Future, sent: Option<Sent<P, R::Room<Again<S, R::Kept>>>> },
        Healing { healing: Box<Healing<S, P, R::Kept, B, T>>, shared: Arc<Shared<P>> },
        Resent { #[pin] response: S::Future, grant: Option<Grant<P::Key>>, shared: Arc<Shared<P>> },
    }
}

struct Waiting<S, P: TokenProvider, B> {
    shared: Arc<Shared<P>>,
    acquire: Acquire<P>,
    service: S,
    request: Request<B>,
}

struct Sent<P: TokenProvider, A> {
    held: Held<P>,
    again: A,
}

impl<S, P, R, B, T> ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>>,
    P: TokenProvider,
    R: Bodies<B>,
{
    pub(super) fn failed(error: Error) -> Self {
        Self { bodies: None, state: State::Failed { error: Some(error) } }
    }

    pub(super) fn passing(shared: Arc<Shared<P>>, response: S::Future) -> Self {
        Self { bodies: None, state: State::Passing { response, shared } }
    }

    pub(super) fn waiting(
        shared: Arc<Shared<P>>,
        bodies: R,
        service: S,
        request: Request<B>,
        acquire: Acquire<P>,
    ) -> Self {
        let waiting = Some(Box::new(Waiting { shared, acquire, service, request }));
        Self { bodies: Some(bodies), state: State::Waiting { waiting } }
    }

    pub(super) fn sent(held: Held<P>, bodies: R, response: S::Future, again: Option<Again<S, R::Kept>>) -> Self {
        let sent = Some(Sent { held, again: R::Room::put(again) });
        Self { bodies: Some(bodies), state: State::Sent { response, sent } }
    }
}

/// What an answer comes to.
enum Read<S, P: TokenProvider, K, B, T> {
    Return(Response<T>),
    Heal(Box<Healing<S, P, K, B, T>>),
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Failed { error } => match error.take() {
                    Some(error) => return Poll::Ready(Err(error.into())),
                    None => return Poll::Pending,
                },
                StateProj::Passing { response, shared } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    return Poll::Ready(Ok(shared.passed(response)));
                }
                StateProj::Waiting { waiting } => {
                    let Some(wait) = waiting else {
                        return Poll::Pending;
                    };
                    let grant = ready!(Pin::new(&mut wait.acquire).poll(cx));
                    let (Some(wait), Some(bodies)) = (waiting.take(), this.bodies.as_ref()) else {
                        return Poll::Pending;
                    };
                    let grant = grant?;
                    let Waiting { shared, acquire: _, mut service, request } = *wait;
                    let (mut request, kept) = shared.keep(bodies, request);
                    let copy = kept.map(|kept| Copied { head: Head::of(&request), kept });
                    shared.stamp(request.headers_mut(), grant.token().header_value())?;
                    let response = service.call(request);
                    let again = R::Room::put(copy.map(|copy| Again { service, copy }));
                    let held = Held::Granted(shared, grant);
                    this.state.set(State::Sent { response, sent: Some(Sent { held, again }) });
                }
                StateProj::Sent { response, sent } => {
                    let response = match ready!(response.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => {
                            // The copy goes, whoever keeps the future.
                            *sent = None;
                            return Poll::Ready(Err(error.into()));
                        }
                    };
                    let Some(Sent { held, .. }) = sent.as_ref() else {
                        return Poll::Pending;
                    };
                    let refusal = held.shared().refusal(&response, held.grant().token());
                    if refusal == Refusal::NotRefused {
                        let response = held.shared().taken(response, held.grant());
                        // Dropped where it is: taken out, the copy would be moved for nothing.
                        *sent = None;
                        return Poll::Ready(Ok(response));
                    }
                    let (Some(Sent { held, again }), Some(bodies)) = (sent.take(), this.bodies.as_ref()) else {
                        return Poll::Pending;
                    };
                    let shared = held.shared();
                    match shared.refused(bodies, response, refusal, held.grant().clone(), again.take()) {
                        Read::Return(response) => return Poll::Ready(Ok(response)),
                        // Sets the first response future free before anything else happens.
                        Read::Heal(healing) => {
                            let shared = Arc::clone(shared);
                            this.state.set(State::Healing { healing, shared });
                        }
                    }
                }
                StateProj::Healing { healing, shared } => {
                    let Some(bodies) = this.bodies.as_ref() else {
                        return Poll::Pending;
                    };
                    match ready!(healing.poll(shared, bodies, cx)) {
                        Healed::Keep(response) => return Poll::Ready(Ok(response)),
                        Healed::Failed(error) => return Poll::Ready(Err(error)),
                        Healed::Resent(response, grant) => {
                            let shared = Arc::clone(shared);
                            this.state.set(State::Resent { response, grant: Some(grant), shared });
                        }
                    }
                }
                StateProj::Resent { response, grant, shared } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    let Some(grant) = grant.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(shared.read_second(response, &grant)));
                }
            }
        }
    }
}

impl<P: TokenProvider> Shared<P> {
    /// What the answer says of `token`, which is marked where the server took it.
    fn refusal<T>(&self, response: &Response<T>, token: &Token) -> Refusal {
        let head = ResponseHead::of(response);
        let refusal = response.extensions().get::<Refusal>().copied();
        let refusal = refusal.unwrap_or_else(|| self.source.provider().refusal(&head));
        if refusal == Refusal::NotRefused && !token.is_accepted() && head.accepts() {
            token.accept();
        }
        refusal
    }

    fn passed<T>(&self, mut response: Response<T>) -> Response<T> {
        if self.audit {
            let audit = Audit::<P::Key> { generation: None, key: None, sends: 1, replay: Replay::NotStamped };
            response.extensions_mut().insert(audit);
        }
        response
    }

    /// The answer to a first sending, whose token was not refused.
    fn taken<T>(&self, response: Response<T>, grant: &Grant<P::Key>) -> Response<T> {
        if self.audit { self.audited(response, grant, 1, Replay::NotNeeded) } else { response }
    }

    /// What to do where the token of a first sending was refused.
    fn refused<S, R, B, T>(
        &self,
        bodies: &R,
        response: Response<T>,
        refusal: Refusal,
        grant: Grant<P::Key>,
        again: Option<Again<S, R::Kept>>,
    ) -> Read<S, P, R::Kept, B, T>
    where
        R: Bodies<B>,
    {
        let (again, why_not) = match again {
            None if self.when == When::Never || R::OFF => (None, Replay::Off),
            None => (None, Replay::NoCopy),
            Some(again) if !bodies.is_whole(&again.copy.kept) => (None, Replay::NoCopy),
            Some(again) if self.when.allows(refusal, || self.is_idempotent(&again.copy.head)) => {
                (Some(again), Replay::Made)
            }
            Some(_) => (None, Replay::NotSafe),
        };
        let renewal = self.source.refuse(&grant, refusal, again.is_some());
        let Some(again) = again else {
            return Read::Return(self.audited(response, &grant, 1, why_not));
        };
        match renewal {
            Renewal::Exhausted => Read::Return(self.audited(response, &grant, 1, Replay::BudgetExhausted)),
            Renewal::Failed(error) => {
                Read::Return(self.audited(response, &grant, 1, Replay::RenewalFailed(error.kind())))
            }
            Renewal::Ready(newer) => Read::Heal(Box::new(Healing::renewed(response, grant, again, newer))),
            Renewal::Wait(acquire) => Read::Heal(Box::new(Healing::renewing(response, grant, again, acquire))),
        }
    }

    /// Reads the answer to the second sending. A refusal spends nothing and rejects nothing: it is shown.
    fn read_second<T>(&self, response: Response<T>, grant: &Grant<P::Key>) -> Response<T> {
        let refusal = self.refusal(&response, grant.token());
        if refusal == Refusal::NotRefused {
            return self.audited(response, grant, 2, Replay::Made);
        }
        self.source.refused_again(grant, refusal);
        self.audited(response, grant, 2, Replay::RefusedAgain)
    }

    fn is_idempotent(&self, head: &Head) -> bool {
        self.source.provider().idempotent(&head.borrowed())
    }

    pub(super) fn audited<T>(
        &self,
        mut response: Response<T>,
        grant: &Grant<P::Key>,
        sends: u8,
        replay: Replay,
    ) -> Response<T> {
        replay.tell(&self.source, grant);
        let generation = Some(grant.token().generation());
        response.extensions_mut().insert(Audit { generation, key: Some(grant.key().clone()), sends, replay });
        response
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
