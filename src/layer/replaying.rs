//! From a rejection to the replay.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf as _;
use http::header::WWW_AUTHENTICATE;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Sleep;
use tower_service::Service;

use super::audit::{Audit, ReplayOutcome};
use super::cached_grant::GrantRef;
use super::deadline;
use super::replay::{Bodies, Mode, Replayable, Restored};
use super::settings::Settings;
use crate::clock::{Deadline, SentAt};
use crate::error::{BoxError, ErrorKind, NotReplayed};
use crate::message::{Rejection, ReplayMarker};
use crate::provider::TokenProvider;
use crate::rt;
use crate::source::{BudgetExhausted, Grant, Lookup, TokenWait, Waited};

/// The body of a rejection is read to its end within these limits, so that its connection can be reused.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// What happens after a rejection.
pub(super) enum AfterRejection<S, P: TokenProvider, R: Bodies<B>, B, T> {
    /// The caller gets the rejection.
    Return(Response<T>),
    Replay(Box<Replaying<S, P, R, B, T>>),
}

/// Waits for a new token, drains the rejection, and waits until the service is ready again.
pub(super) struct Replaying<S, P: TokenProvider, R: Bodies<B>, B, T> {
    settings: Arc<Settings<P>>,
    bodies: R,
    rejected: Grant<P::Key>,
    /// The waits of the request so far.
    waited: Waited,
    /// When the request must have a new token.
    deadline: Option<Deadline>,
    step: Step<S, P, R::Kept, B, T>,
}

/// The steps, in order.
enum Step<S, P: TokenProvider, K, B, T> {
    /// Waits for a new token. The rejection is unread: the caller gets it if there is no new token.
    Refreshing {
        wait: TokenWait<P>,
        response: Response<T>,
        restored: Restored<S, K>,
    },
    Refreshed {
        grant: Grant<P::Key>,
        response: Response<T>,
        restored: Restored<S, K>,
    },
    Draining {
        drain: Drain<T>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    /// The body of the rejection is dropped. Lets the task of its connection run, which returns the connection to the
    /// pool. Without it, 8 tasks with 1000 replays over HTTP/1.1 open 16 connections instead of 8 on one thread, and 8 or 9
    /// on two threads (`tests/middleware/replaying_sockets.rs`).
    Yielding {
        yielded: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    Readying {
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    /// The service is ready, but the new token has expired or was withdrawn meanwhile. Waits for the next one.
    Restamping {
        wait: TokenWait<P>,
        grant: Grant<P::Key>,
        service: S,
        request: Request<B>,
    },
    Complete,
}

/// How a replay starts or ends.
pub(super) enum Replayed<F, P: TokenProvider, T> {
    /// There is no replay. The caller gets the rejection.
    Return(Response<T>),
    /// There is no replay, and the rejection is already dropped.
    Failed(BoxError),
    Sent(F, Grant<P::Key>),
}

impl<S, P: TokenProvider, R: Bodies<B>, B, T> Replaying<S, P, R, B, T> {
    /// Reports a rejected token to the source, and starts a replay if there is a complete copy and the mode allows it.
    pub(super) fn start(
        grant: &GrantRef<P>,
        bodies: R,
        response: Response<T>,
        rejection: Rejection,
        replayable: Option<Replayable<S, R::Kept>>,
        sent_at: Option<SentAt>,
    ) -> AfterRejection<S, P, R, B, T> {
        let (settings, rejected) = (grant.settings(), grant.grant().clone());
        let replayed_below = Audit::of(&response).is_some_and(|audit| audit.sends > 1);
        let waited = replayable.as_ref().map(|copy| copy.request.head.waited());
        let (restored, outcome) = match replayable {
            // Two layers in one stack send a request at most twice.
            _ if replayed_below => (None, ReplayOutcome::RejectedAgain),
            Some(copy) if copy.request.head.is_replay() => (None, ReplayOutcome::RejectedAgain),
            None if settings.mode == Mode::Never || R::OFF => (None, ReplayOutcome::Off),
            None => (None, ReplayOutcome::NoCopy),
            Some(copy) if !bodies.is_complete(&copy.request.body) => (None, ReplayOutcome::NoCopy),
            Some(copy) => match copy.restore() {
                None => (None, ReplayOutcome::NoCopy),
                Some(copy) if settings.mode.allows(rejection, || settings.is_idempotent(&copy.request)) => {
                    (Some(copy), ReplayOutcome::Replayed)
                }
                Some(_) => (None, ReplayOutcome::NotSafe),
            },
        };
        let deadline = restored.as_ref().and_then(|copy| deadline::of_sent(&copy.request, sent_at));
        let (restored, outcome) = match deadline {
            Some(deadline) if deadline.left().is_zero() => (None, ReplayOutcome::RefreshFailed(ErrorKind::Timeout)),
            _ => (restored, outcome),
        };
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().cloned().collect();
        let waited = waited.filter(|_| restored.is_some());
        let lookup = settings.source.reject_grant(&rejected, rejection, challenges, waited);
        let waited = waited.unwrap_or_default();
        let (step, outcome) = match (restored, lookup) {
            (None, _) => (Err(response), outcome),
            (Some(_), Err(BudgetExhausted)) => (Err(response), ReplayOutcome::BudgetExhausted),
            (Some(_), Ok(Lookup::Failed(error))) => (Err(response), ReplayOutcome::RefreshFailed(error.kind())),
            (Some(restored), Ok(Lookup::Granted(grant))) => {
                (Ok(Step::Refreshed { grant, response, restored }), outcome)
            }
            (Some(restored), Ok(Lookup::Wait(wait))) => {
                (Ok(Step::Refreshing { wait: wait.until(deadline), response, restored }), outcome)
            }
        };
        match step {
            Ok(step) => {
                let settings = Arc::clone(settings);
                AfterRejection::Replay(Box::new(Self { settings, bodies, rejected, waited, deadline, step }))
            }
            Err(response) => AfterRejection::Return(settings.audited(response, &rejected, 1, outcome)),
        }
    }

    pub(super) fn settings(&self) -> &Arc<Settings<P>> {
        &self.settings
    }

    /// # Panics
    ///
    /// If it is polled after completion.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Replayed<S::Future, P, T>>
    where
        S: Service<Request<B>, Response = Response<T>>,
        S::Error: Into<BoxError>,
        T: Body,
    {
        let (settings, bodies) = (&self.settings, &self.bodies);
        loop {
            let token = match &mut self.step {
                Step::Refreshing { wait, .. } | Step::Restamping { wait, .. } => {
                    let result = ready!(Pin::new(&mut *wait).poll(cx));
                    self.waited = wait.waited();
                    Some(result)
                }
                Step::Draining { drain, .. } => {
                    ready!(drain.poll(cx));
                    None
                }
                Step::Yielding { yielded, .. } => {
                    ready!(yielded.as_mut().poll(cx));
                    None
                }
                Step::Readying { service, .. } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        self.step = Step::Complete;
                        return Poll::Ready(Replayed::Failed(error.into()));
                    }
                    None
                }
                Step::Refreshed { .. } => None,
                Step::Complete => panic!("`Replaying` polled after completion"),
            };
            self.step = match (mem::replace(&mut self.step, Step::Complete), token) {
                (Step::Refreshing { response, restored, .. }, Some(Ok(grant))) => {
                    Step::Refreshed { grant, response, restored }
                }
                (Step::Refreshing { response, .. }, Some(Err(error))) => {
                    let outcome = ReplayOutcome::RefreshFailed(error.kind());
                    return Poll::Ready(Replayed::Return(settings.audited(response, &self.rejected, 1, outcome)));
                }
                (Step::Refreshed { grant, response, restored }, _) => {
                    // If a fetch fails, the source returns a token that was rejected without a reason once more. A
                    // replay needs a new one.
                    if grant.token().generation() == self.rejected.token().generation() {
                        let outcome = ReplayOutcome::RefreshFailed(ErrorKind::Other);
                        return Poll::Ready(Replayed::Return(settings.audited(response, &self.rejected, 1, outcome)));
                    }
                    let Restored { service, request } = restored;
                    let (parts, body) = request.into_parts();
                    // Build the request before the rejection is dropped. If that fails, the caller gets the rejection.
                    let request = bodies.restore(body).and_then(|body| {
                        let mut request = Request::from_parts(parts, body);
                        settings.stamp(request.headers_mut(), grant.token().header_value()).is_ok().then_some(request)
                    });
                    let Some(request) = request else {
                        let response = settings.audited(response, &self.rejected, 1, ReplayOutcome::NoCopy);
                        return Poll::Ready(Replayed::Return(response));
                    };
                    let drain = Drain::new(response.into_body(), self.deadline);
                    Step::Draining { drain, grant, service, request }
                }
                (Step::Draining { drain, grant, service, request }, _) => {
                    drop(drain);
                    Step::Yielding { yielded: Box::pin(tokio::task::yield_now()), grant, service, request }
                }
                (Step::Yielding { grant, service, request, .. }, _) => Step::Readying { grant, service, request },
                // The token may have expired while the service became ready.
                (Step::Readying { grant, service, request }, _) => match settings.source.newest(&grant, &self.rejected)
                {
                    Some(grant) => {
                        return Poll::Ready(replay(settings, grant, service, request, self.deadline));
                    }
                    None => {
                        let wait = settings.source.wait(grant.key().clone()).after(self.waited).until(self.deadline);
                        Step::Restamping { wait, grant, service, request }
                    }
                },
                (Step::Restamping { grant, service, request, .. }, token) => {
                    let grant = match token {
                        Some(Ok(newer)) if newer.token().generation() != self.rejected.token().generation() => newer,
                        // A token of the old credentials must not be sent, so the call fails.
                        Some(Err(error)) if settings.source.is_withdrawn(&grant) => {
                            return Poll::Ready(Replayed::Failed(NotReplayed::rotated(error).into()));
                        }
                        // The rejection is dropped, so only the server can still respond. Send the expired token.
                        _ => grant,
                    };
                    return Poll::Ready(replay(settings, grant, service, request, self.deadline));
                }
                (step, _) => step,
            };
        }
    }
}

fn replay<S, P, B, T>(
    settings: &Settings<P>,
    grant: Grant<P::Key>,
    mut service: S,
    mut request: Request<B>,
    deadline: Option<Deadline>,
) -> Replayed<S::Future, P, T>
where
    S: Service<Request<B>, Response = Response<T>>,
    P: TokenProvider,
{
    settings.restamp(request.headers_mut(), grant.token().header_value());
    deadline::write(&mut request, deadline);
    request.extensions_mut().insert(ReplayMarker);
    settings.source.report_replay();
    Replayed::Sent(service.call(request), grant)
}

/// Reads a body to its end, within the limits.
struct Drain<T> {
    body: Pin<Box<T>>,
    left: usize,
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T: Body> Drain<T> {
    fn new(body: T, deadline: Option<Deadline>) -> Self {
        let time = deadline.map_or(DRAIN_TIME, |deadline| deadline.left().min(DRAIN_TIME));
        Self { body: Box::pin(body), left: DRAIN_BYTES, time, timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // An empty frame counts as one byte, so that an endless series of them ends too.
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
        // Without timers the wait has no limit, so do not wait.
        if rt::has_passed(&mut self.timer, self.time, cx).unwrap_or(true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
