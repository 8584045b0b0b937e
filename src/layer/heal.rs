//! Between a refusal and the second sending.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Sleep;
use tower_service::Service;

use super::audit::ReplayOutcome;
use super::copy::{Again, Copied};
use super::layer::Shared;
use super::replay::Bodies;
use crate::error::{BoxError, ErrorKind};
use crate::provider::TokenProvider;
use crate::rt;
use crate::source::{Grant, TokenWait};

/// A refused answer is read to its end, within these, so that its connection can be used again.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

pub(super) struct Healing<S, P: TokenProvider, R: Bodies<B>, B, T> {
    shared: Arc<Shared<P>>,
    bodies: R,
    refused: Grant<P::Key>,
    step: Step<S, P, R::Kept, B, T>,
}

enum Step<S, P: TokenProvider, K, B, T> {
    /// The answer is unread: it is the caller's if there is no new token.
    Renewing {
        acquire: TokenWait<P>,
        answer: Response<T>,
        again: Again<S, K>,
    },
    Renewed {
        grant: Grant<P::Key>,
        answer: Response<T>,
        again: Again<S, K>,
    },
    Draining {
        drain: Drain<T>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    /// The answer's body is gone; its connection needs a turn of the scheduler to get back to its pool.
    Yielding {
        turn: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    Readying {
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    /// The service is ready, and the new token has ended meanwhile.
    Restamping {
        acquire: TokenWait<P>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    Done,
}

pub(super) enum Healed<F, P: TokenProvider, T, E> {
    /// The caller gets the server's own answer.
    Keep(Response<T>),
    /// The inner service did not become ready again.
    Failed(E),
    Resent(F, Grant<P::Key>),
}

impl<S, P: TokenProvider, R: Bodies<B>, B, T> Healing<S, P, R, B, T> {
    /// The token is being renewed.
    pub(super) fn renewing(
        shared: Arc<Shared<P>>,
        bodies: R,
        answer: Response<T>,
        refused: Grant<P::Key>,
        again: Again<S, R::Kept>,
        acquire: TokenWait<P>,
    ) -> Self {
        Self { shared, bodies, refused, step: Step::Renewing { acquire, answer, again } }
    }

    /// There is a new token already.
    pub(super) fn renewed(
        shared: Arc<Shared<P>>,
        bodies: R,
        answer: Response<T>,
        refused: Grant<P::Key>,
        again: Again<S, R::Kept>,
        grant: Grant<P::Key>,
    ) -> Self {
        Self { shared, bodies, refused, step: Step::Renewed { grant, answer, again } }
    }

    pub(super) fn shared(&self) -> &Arc<Shared<P>> {
        &self.shared
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Healed<S::Future, P, T, BoxError>>
    where
        S: Service<Request<B>, Response = Response<T>>,
        S::Error: Into<BoxError>,
        T: Body,
    {
        let (shared, bodies) = (&self.shared, &self.bodies);
        loop {
            let renewed = match &mut self.step {
                Step::Renewing { acquire, .. } | Step::Restamping { acquire, .. } => {
                    Some(ready!(Pin::new(acquire).poll(cx)))
                }
                Step::Draining { drain, .. } => {
                    ready!(drain.poll(cx));
                    None
                }
                Step::Yielding { turn, .. } => {
                    ready!(turn.as_mut().poll(cx));
                    None
                }
                Step::Readying { service, .. } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        self.step = Step::Done;
                        return Poll::Ready(Healed::Failed(error.into()));
                    }
                    None
                }
                Step::Renewed { .. } => None,
                Step::Done => return Poll::Pending,
            };
            self.step = match (std::mem::replace(&mut self.step, Step::Done), renewed) {
                (Step::Renewing { answer, again, .. }, Some(Ok(grant))) => Step::Renewed { grant, answer, again },
                (Step::Renewing { answer, .. }, Some(Err(error))) => {
                    let why = ReplayOutcome::RefreshFailed(error.kind());
                    return Poll::Ready(Healed::Keep(shared.audited(answer, &self.refused, 1, why)));
                }
                (Step::Renewed { grant, answer, again }, _) => {
                    // A token that was put back is no new one.
                    if grant.token().generation() == self.refused.token().generation() {
                        let why = ReplayOutcome::RefreshFailed(ErrorKind::Other);
                        return Poll::Ready(Healed::Keep(shared.audited(answer, &self.refused, 1, why)));
                    }
                    let Again { service, copy: Copied { head, kept } } = again;
                    // Before the answer is let go: a head that has no room for the token is not sent.
                    let headers = head.headers().and_then(|mut headers| {
                        shared.stamp(&mut headers, grant.token().header_value()).is_ok().then_some(headers)
                    });
                    let Some((headers, body)) = headers.and_then(|headers| Some((headers, bodies.remake(kept)?)))
                    else {
                        let kept = shared.audited(answer, &self.refused, 1, ReplayOutcome::NoCopy);
                        return Poll::Ready(Healed::Keep(kept));
                    };
                    let request = head.into_request(headers, body);
                    Step::Draining { drain: Drain::new(answer.into_body()), grant, service, request }
                }
                (Step::Draining { drain, grant, service, request }, _) => {
                    drop(drain);
                    Step::Yielding { turn: Box::pin(tokio::task::yield_now()), grant, service, request }
                }
                (Step::Yielding { grant, service, request, .. }, _) => Step::Readying { grant, service, request },
                // Becoming ready may have taken longer than the token lives.
                (Step::Readying { grant, service, request }, _) => match shared.source.newest(&grant) {
                    Some(grant) => return Poll::Ready(resend(shared, grant, service, request)),
                    None => {
                        let acquire = shared.source.wait(grant.key().clone());
                        Step::Restamping { acquire, grant, service, request }
                    }
                },
                (Step::Restamping { grant, service, request, .. }, renewed) => {
                    let grant = match renewed {
                        Some(Ok(newer)) => newer,
                        // What was asked for with the old credentials is not sent, whatever becomes of the call.
                        _ if shared.source.was_rotated(&grant) => {
                            return Poll::Ready(Healed::Failed(NotSentAgain.into()));
                        }
                        // The first answer is gone: without a new token the server judges the old one.
                        _ => grant,
                    };
                    return Poll::Ready(resend(shared, grant, service, request));
                }
                (step, _) => step,
            };
        }
    }
}

fn resend<S, P, B, T>(
    shared: &Shared<P>,
    grant: Grant<P::Key>,
    mut service: S,
    mut request: Request<B>,
) -> Healed<S::Future, P, T, BoxError>
where
    S: Service<Request<B>, Response = Response<T>>,
    P: TokenProvider,
{
    shared.restamp(request.headers_mut(), grant.token().header_value());
    shared.source.report_replay();
    Healed::Resent(service.call(request), grant)
}

/// The request was refused, its answer is gone, and its credentials with it. No [`Error`](crate::Error) of this crate's, which
/// would say that nothing was sent.
#[derive(Debug)]
struct NotSentAgain;

impl fmt::Display for NotSentAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the request was refused, and was not sent again: the credentials were rotated meanwhile, and there is no new token",
        )
    }
}

impl std::error::Error for NotSentAgain {}

struct Drain<T> {
    body: Pin<Box<T>>,
    left: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T: Body> Drain<T> {
    fn new(body: T) -> Self {
        Self { body: Box::pin(body), left: DRAIN_BYTES, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // An endless row of empty frames has to come to an end as well.
                    let read = frame.data_ref().map_or(0, |data| data.remaining()).max(1);
                    match self.left.checked_sub(read) {
                        Some(left) => self.left = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        // Without timers there is no bound, and so no waiting.
        if rt::has_passed(&mut self.timer, DRAIN_TIME, cx).unwrap_or(true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
