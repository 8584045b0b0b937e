//! From the first send to the response.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::audit::ReplayOutcome;
use super::cached_grant::GrantRef;
use super::deadline;
use super::replay::{self, Bodies, KeepCopy as _, Replayable, SavedHead, SavedRequest};
use super::replaying::{AfterRejection, Replayed, Replaying};
use super::response;
use super::sent_token::{Below, NoneBelow, SentToken};
use super::settings::Settings;
use crate::clock::SentAt;
use crate::error::{BoxError, Error, NotReplayed, NotSent};
use crate::message::Rejection;
use crate::provider::TokenProvider;
use crate::source::{Grant, TokenWait};

pin_project! {
    /// The response future of [`BearerAuth`](crate::BearerAuth).
    ///
    /// # Errors
    ///
    /// As [`BearerAuth`](crate::BearerAuth#errors).
    ///
    /// # Panics
    ///
    /// If it is polled after completion.
    ///
    /// # Cancel safety
    ///
    /// If you drop the future while it waits for its first token, the request was not sent. If you drop it later, the
    /// future of the inner service is dropped too, and the server may have applied the request. Neither cancels a fetch
    /// that other callers wait for.
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
        NotSent { error: Error },
        Waiting { waiting: Box<Waiting<S, P, R, B>> },
        // Every request passes this state, so the inner future is stored inline. A second state with an inline future
        // would leave no niche for the discriminant, and the whole future would be larger.
        Sent { #[pin] response: S::Future, sent: Sent<P, R, R::Storage<Replayable<S, R::Kept>>> },
        Replaying { replaying: Box<Replaying<S, P, R, B, T>> },
        Replayed { response: Pin<Box<S::Future>>, grant: Grant<P::Key>, settings: Arc<Settings<P>> },
        Complete,
    }
}

struct Waiting<S, P: TokenProvider, R, B> {
    settings: Arc<Settings<P>>,
    bodies: R,
    wait: TokenWait<P>,
    service: S,
    request: Request<B>,
}

/// What is kept of a sent request until its response is read.
enum Sent<P: TokenProvider, R, C> {
    Stamped(Stamped<P, R, C>),
    NotStamped { audit: bool },
}

struct Stamped<P: TokenProvider, R, C> {
    grant: GrantRef<P>,
    bodies: R,
    copy: C,
}

impl<S, P, R, B, T> ResponseFuture<S, P, R, B, T>
where
    S: Service<Request<B>>,
    P: TokenProvider,
    R: Bodies<B>,
{
    /// The request is not sent.
    pub(super) fn not_sent(error: Error) -> Self {
        Self { state: State::NotSent { error } }
    }

    /// The request was sent without a token of this layer.
    pub(super) fn not_stamped(response: S::Future, audit: bool) -> Self {
        Self { state: State::Sent { response, sent: Sent::NotStamped { audit } } }
    }

    /// The request waits for a token.
    pub(super) fn waiting(
        settings: Arc<Settings<P>>,
        bodies: R,
        service: S,
        request: Request<B>,
        wait: TokenWait<P>,
    ) -> Self {
        let waiting = Box::new(Waiting { settings, bodies, wait, service, request });
        Self { state: State::Waiting { waiting } }
    }

    /// The request was sent, and no copy is kept.
    pub(super) fn sent(grant: GrantRef<P>, bodies: R, response: S::Future) -> Self {
        let sent = Sent::Stamped(Stamped { grant, bodies, copy: R::Storage::empty() });
        Self { state: State::Sent { response, sent } }
    }

    /// The request was sent, and a copy is kept.
    pub(super) fn sent_with_copy(
        grant: GrantRef<P>,
        bodies: R,
        response: S::Future,
        service: S,
        head: SavedHead,
        body: R::Kept,
    ) -> Self {
        let copy = R::Storage::with(Replayable { service, request: SavedRequest { head, body } });
        Self { state: State::Sent { response, sent: Sent::Stamped(Stamped { grant, bodies, copy }) } }
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_above::<NoneBelow>(cx)
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
    /// The same as `poll`, for a service whose inner service is that of the layer `W`.
    // This handles the state that every request passes. The other states are in `step`, so that this function stays
    // small.
    #[inline(always)]
    pub(crate) fn poll_above<W: Below<T, P>>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<T>, BoxError>> {
        loop {
            let StateProj::Sent { response, sent } = self.as_mut().project().state.project() else {
                match ready!(self.as_mut().step::<W>(cx)) {
                    Some(output) => {
                        self.complete();
                        return Poll::Ready(output);
                    }
                    None => continue,
                }
            };
            let mut response = match ready!(response.poll(cx)) {
                Ok(response) => response,
                Err(error) => {
                    self.complete();
                    return Poll::Ready(Err(error.into()));
                }
            };
            let grant = match sent {
                Sent::Stamped(stamped) => &stamped.grant,
                Sent::NotStamped { audit } => {
                    if *audit {
                        response::audit_not_stamped(&mut response);
                    }
                    self.complete();
                    return Poll::Ready(Ok(response));
                }
            };
            let settings = grant.settings();
            let Some(rejection) = settings.rejection::<W, T>(&mut response, grant.grant().token()) else {
                W::give(response.body_mut(), || SentToken::of_first_send(grant));
                if settings.audit_all {
                    settings.add_audit(&mut response, grant.grant(), 1, ReplayOutcome::NotNeeded);
                }
                self.complete();
                return Poll::Ready(Ok(response));
            };
            let sent_at = W::sent_at(response.body());
            if let Some(response) = self.as_mut().rejected(response, rejection, sent_at) {
                return Poll::Ready(Ok(response));
            }
        }
    }

    /// Drops the token and the copy now, because the caller may keep the completed future.
    fn complete(self: Pin<&mut Self>) {
        self.project().state.set(State::Complete);
    }

    #[cold]
    /// Polls any state but `Sent`. Returns `None` when the state has changed.
    fn step<W: Below<T, P>>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Response<T>, BoxError>>> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::NotSent { error } => Poll::Ready(Some(Err(NotSent::new(error.clone()).into()))),
            StateProj::Waiting { waiting } => {
                let Waiting { wait, request, .. } = &mut **waiting;
                // Not in `call`: the function of a cached token would be longer.
                wait.ask_deadline(|| deadline::begin(request));
                let grant = ready!(Pin::new(wait).poll(cx));
                if let StateReplace::Waiting { waiting } = state.as_mut().project_replace(State::Complete) {
                    match grant.and_then(|grant| waiting.send(grant)) {
                        Ok(sent) => state.set(sent),
                        Err(error) => return Poll::Ready(Some(Err(NotSent::new(error).into()))),
                    }
                }
                Poll::Ready(None)
            }
            StateProj::Sent { .. } => Poll::Ready(None),
            StateProj::Replaying { replaying } => {
                match ready!(replaying.poll(cx)) {
                    Replayed::Return(response) => return Poll::Ready(Some(Ok(response))),
                    Replayed::Failed(error) => return Poll::Ready(Some(Err(error))),
                    Replayed::Sent(response, grant) => {
                        let settings = Arc::clone(replaying.settings());
                        let response = Box::pin(response);
                        state.set(State::Replayed { response, grant, settings });
                    }
                }
                Poll::Ready(None)
            }
            StateProj::Replayed { response, grant, settings } => {
                Poll::Ready(Some(match ready!(response.as_mut().poll(cx)) {
                    Ok(response) => Ok(settings.after_replay::<W, T>(response, grant)),
                    Err(error) => Err(replay_failed(error.into())),
                }))
            }
            StateProj::Complete => panic!("`ResponseFuture` polled after completion"),
        }
    }

    #[cold]
    /// The first send was rejected. Returns the response for the caller, or `None` if a replay has started.
    fn rejected(
        self: Pin<&mut Self>,
        response: Response<T>,
        rejection: Rejection,
        sent_at: Option<SentAt>,
    ) -> Option<Response<T>> {
        let mut state = self.project().state;
        // This drops the first response future before anything else happens.
        let StateReplace::Sent { sent: Sent::Stamped(stamped), .. } = state.as_mut().project_replace(State::Complete)
        else {
            return Some(response);
        };
        let Stamped { grant, bodies, copy } = stamped;
        match Replaying::start(&grant, bodies, response, rejection, copy.take(), sent_at) {
            AfterRejection::Return(response) => Some(response),
            AfterRejection::Replay(replaying) => {
                state.set(State::Replaying { replaying });
                None
            }
        }
    }
}

/// A second layer below returns a `NotSent` if it does not send a replay. The request was sent once, so the caller must not
/// find that error.
fn replay_failed(error: BoxError) -> BoxError {
    match Error::find(&*error) {
        Some(not_sent) => NotReplayed::not_sent(not_sent.clone()).into(),
        None => error,
    }
}

impl<S, P: TokenProvider, R: Bodies<B>, B> Waiting<S, P, R, B> {
    /// Sends the request.
    fn send<T>(self, grant: Grant<P::Key>) -> Result<State<S, P, R, B, T>, Error>
    where
        S: Service<Request<B>>,
    {
        let Self { settings, bodies, wait, mut service, mut request } = self;
        deadline::after_wait(&mut request)?;
        // The same code is in `BearerAuth::call`. A shared function would move each request once more.
        let mut kept = None;
        if settings.may_replay() {
            if R::WRAPS {
                (request, kept) = replay::wrap(&bodies, request);
            } else {
                kept = bodies.keep(request.body());
            }
        }
        let saved = kept.map(|body| SavedRequest {
            head: SavedHead::of(&request, settings.key_extension.get()).after(wait.waited()),
            body,
        });
        settings.stamp(request.headers_mut(), grant.token().header_value())?;
        let response = service.call(request);
        let copy = saved.map_or_else(R::Storage::empty, |request| R::Storage::with(Replayable { service, request }));
        let grant = GrantRef::FromSource(settings, grant);
        Ok(State::Sent { response, sent: Sent::Stamped(Stamped { grant, bodies, copy }) })
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
