//! A response body that is watched for a status in its trailers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::clock::SentAt;
use crate::layer::{Below, SentToken};
use crate::message::GrpcStatus;
use crate::provider::TokenProvider;

pin_project! {
    /// The response body of a [`GrpcService`](super::GrpcService): the frames, the trailers and the error of the inner body,
    /// without a change.
    ///
    /// If you drop it before its trailers, their status has no effect on the token. Until its trailers it keeps the token source
    /// alive.
    pub struct GrpcBody<T, P>
    where
        T: Body,
        P: TokenProvider,
    {
        sent_at: Option<SentAt>,
        #[pin]
        state: State<T, P>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<T, P>
    where
        T: Body,
        P: TokenProvider,
    {
        PassedOn { #[pin] body: T },
        Watched { ahead: ReadAhead<T>, watch: Watch<P> },
    }
}

/// What a watched body has shown about the token.
struct Watch<P: TokenProvider> {
    /// Whether no message and no trailers have come yet. What comes later in a stream shows nothing about a token that was
    /// checked at its start.
    undecided: bool,
    /// The token, until the trailers.
    token: Option<SentToken<P>>,
}

impl<P: TokenProvider> Watch<P> {
    fn observe<D: Buf>(&mut self, frame: Option<&Frame<D>>) {
        match frame.map(Seen::of) {
            Some(Seen::Nothing) => {}
            Some(Seen::Message) => {
                if std::mem::take(&mut self.undecided)
                    && let Some(token) = &self.token
                {
                    token.accept();
                }
            }
            Some(Seen::Status(GrpcStatus::Unauthenticated)) => {
                if let Some(token) = self.token.take() {
                    token.reject();
                }
            }
            Some(Seen::Status(GrpcStatus::Ok)) => {
                if let Some(token) = self.token.take()
                    && self.undecided
                {
                    token.accept();
                }
            }
            Some(Seen::Status(GrpcStatus::Other)) | None => self.token = None,
        }
    }
}

/// What a frame shows.
enum Seen {
    /// No bytes, or one empty message.
    Nothing,
    Message,
    Status(GrpcStatus),
}

impl Seen {
    fn of<D: Buf>(frame: &Frame<D>) -> Self {
        if let Some(trailers) = frame.trailers_ref() {
            return Self::Status(GrpcStatus::of_trailers(trailers));
        }
        match frame.data_ref() {
            Some(data) if data.has_remaining() && !is_empty_message(data) => Self::Message,
            _ => Self::Nothing,
        }
    }
}

/// Whether the data is a message that is not compressed and has a length of 0 (gRPC over HTTP/2, `Length-Prefixed-Message`).
fn is_empty_message<D: Buf>(data: &D) -> bool {
    data.remaining() == 5 && data.chunk() == [0; 5]
}

/// The result of a poll: a frame, an error, or the end.
type Polled<T> = Option<Result<Frame<<T as Body>::Data>, <T as Body>::Error>>;

/// A body and what it has returned already.
pub(super) struct ReadAhead<T: Body> {
    body: Pin<Box<T>>,
    first: Option<Polled<T>>,
    second: Option<Polled<T>>,
}

impl<T: Body> ReadAhead<T> {
    pub(super) fn new(body: T) -> Self {
        Self { body: Box::pin(body), first: None, second: None }
    }

    /// Polls the body once, and once more after data. Ready if there is something to pass on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let first = ready!(self.body.as_mut().poll_frame(cx));
        let is_data = matches!(&first, Some(Ok(frame)) if frame.is_data());
        self.first = Some(first);
        if is_data && let Poll::Ready(polled) = self.body.as_mut().poll_frame(cx) {
            self.second = Some(polled);
        }
        Poll::Ready(())
    }

    fn has_message(&self) -> bool {
        self.frames().any(|frame| matches!(Seen::of(frame), Seen::Message))
    }

    fn status(&self) -> Option<GrpcStatus> {
        self.frames().find_map(|frame| match Seen::of(frame) {
            Seen::Status(status) => Some(status),
            Seen::Nothing | Seen::Message => None,
        })
    }

    /// Whether the call ended with status 16, and without a message.
    pub(super) fn is_rejection(&self) -> bool {
        self.status() == Some(GrpcStatus::Unauthenticated) && !self.has_message()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Polled<T>> {
        match self.first.take().or_else(|| self.second.take()) {
            Some(polled) => Poll::Ready(polled),
            None => self.body.as_mut().poll_frame(cx),
        }
    }

    fn frames(&self) -> impl Iterator<Item = &Frame<T::Data>> {
        [&self.first, &self.second].into_iter().filter_map(|polled| polled.as_ref()?.as_ref()?.as_ref().ok())
    }
}

impl<T: Body, P: TokenProvider> GrpcBody<T, P> {
    /// A body that is not watched.
    pub(super) fn passed_on(body: T, sent_at: Option<SentAt>) -> Self {
        Self { sent_at, state: State::PassedOn { body } }
    }

    pub(super) fn watched(ahead: ReadAhead<T>, sent_at: Option<SentAt>) -> Self {
        let undecided = !ahead.has_message() && ahead.status() != Some(GrpcStatus::Ok);
        Self { sent_at, state: State::Watched { ahead, watch: Watch { undecided, token: None } } }
    }
}

/// Marks the main layer's future as that of a [`GrpcService`](super::GrpcService).
pub(super) struct Watching;

impl<T: Body, P: TokenProvider> Below<GrpcBody<T, P>, P> for Watching {
    fn is_undecided(body: &GrpcBody<T, P>) -> bool {
        matches!(&body.state, State::Watched { watch, .. } if watch.undecided)
    }

    fn sent_at(body: &GrpcBody<T, P>) -> Option<SentAt> {
        body.sent_at
    }

    fn give(body: &mut GrpcBody<T, P>, token: impl FnOnce() -> SentToken<P>) {
        let State::Watched { ahead, watch } = &mut body.state else { return };
        match ahead.status() {
            // It came after a message. The caller may drop the body before it reads that far.
            Some(GrpcStatus::Unauthenticated) => token().reject(),
            Some(_) => {}
            None => watch.token = Some(token()),
        }
    }
}

impl<T: Body, P: TokenProvider> Body for GrpcBody<T, P> {
    type Data = T::Data;
    type Error = T::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled<T>> {
        let (ahead, watch) = match self.project().state.project() {
            StateProj::PassedOn { body } => return body.poll_frame(cx),
            StateProj::Watched { ahead, watch } => (ahead, watch),
        };
        let polled = ready!(ahead.poll_frame(cx));
        watch.observe(polled.as_ref().and_then(|frame| frame.as_ref().ok()));
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::PassedOn { body } => body.is_end_stream(),
            State::Watched { ahead, .. } => {
                let returned = |polled: &Option<Polled<T>>| !matches!(polled, Some(Some(_)));
                returned(&ahead.first) && returned(&ahead.second) && ahead.body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = match &self.state {
            State::PassedOn { body } => return body.size_hint(),
            State::Watched { ahead, .. } => ahead,
        };
        let read: u64 = ahead.frames().filter_map(|frame| frame.data_ref()).map(|data| data.remaining() as u64).sum();
        let rest = ahead.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

impl<T: Body, P: TokenProvider> fmt::Debug for GrpcBody<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcBody").finish_non_exhaustive()
    }
}
