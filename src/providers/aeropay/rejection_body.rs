//! A body that was looked at and passes on as if it had not been.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use zeroize::Zeroizing;

/// A body in more pieces is passed on unread: frames without data would come to no end.
const MOST_FRAMES: usize = 1024;

pin_project! {
    /// The body of an answer that went through a [`RejectionLayer`](super::RejectionLayer): the inner body's own frames, in
    /// their order, and its error and trailers, whether it was read ahead or not.
    pub struct RejectionBody<B>
    where
        B: Body,
    {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B>
    where
        B: Body,
    {
        Untouched { #[pin] body: B },
        ReadAhead { ahead: Ahead<B> },
    }
}

/// What has been read, and the rest.
struct Ahead<B: Body> {
    frames: VecDeque<Frame<B::Data>>,
    error: Option<B::Error>,
    /// None where the body has ended.
    rest: Option<Pin<Box<B>>>,
}

impl<B: Body> RejectionBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self { state: State::Untouched { body } }
    }
}

impl<B: Body> Ahead<B> {
    fn left(&self) -> u64 {
        self.frames.iter().filter_map(|frame| frame.data_ref()).map(|data| data.remaining() as u64).sum()
    }
}

impl<B: Body> Body for RejectionBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let ahead = match self.project().state.project() {
            StateProj::Untouched { body } => return body.poll_frame(cx),
            StateProj::ReadAhead { ahead } => ahead,
        };
        if let Some(frame) = ahead.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = ahead.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match &mut ahead.rest {
            Some(rest) => rest.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Untouched { body } => body.is_end_stream(),
            State::ReadAhead { ahead } => {
                ahead.frames.is_empty()
                    && ahead.error.is_none()
                    && ahead.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = match &self.state {
            State::Untouched { body } => return body.size_hint(),
            State::ReadAhead { ahead } => ahead,
        };
        let rest = ahead.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.size_hint());
        let left = ahead.left();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(rest.lower().saturating_add(left));
        hint
    }
}

impl<B: Body> fmt::Debug for RejectionBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectionBody").finish_non_exhaustive()
    }
}

/// Reads a body ahead, up to the length that its head declares, and keeps every frame.
pub(super) struct Peek<B: Body> {
    ahead: Ahead<B>,
    // What the body says is the caller's: this copy of it is wiped.
    json: Zeroizing<Vec<u8>>,
    length: usize,
    /// What is there cannot be read without taking it apart, or is not what was declared.
    unreadable: bool,
}

impl<B: Body> Peek<B> {
    pub(super) fn new(body: B, length: usize) -> Self {
        let ahead = Ahead { frames: VecDeque::new(), error: None, rest: Some(Box::pin(body)) };
        Self { ahead, json: Zeroizing::new(Vec::with_capacity(length)), length, unreadable: false }
    }

    /// Ready when there is nothing more to read ahead: the declared length, the end, an error.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.json.len() < self.length && !self.unreadable {
            let Some(rest) = &mut self.ahead.rest else {
                return Poll::Ready(());
            };
            match ready!(rest.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => self.keep(frame),
                Some(Err(error)) => {
                    self.ahead.error = Some(error);
                    return Poll::Ready(());
                }
                None => self.ahead.rest = None,
            }
        }
        Poll::Ready(())
    }

    fn keep(&mut self, frame: Frame<B::Data>) {
        if let Some(data) = frame.data_ref() {
            let bytes = data.chunk();
            self.unreadable = bytes.len() != data.remaining() || bytes.len() > self.length - self.json.len();
            if !self.unreadable {
                self.json.extend_from_slice(bytes);
            }
        }
        self.ahead.frames.push_back(frame);
        self.unreadable |= self.ahead.frames.len() > MOST_FRAMES;
    }

    /// The body, if all of it is there.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.unreadable && self.json.len() == self.length).then_some(self.json.as_slice())
    }

    pub(super) fn into_body(self) -> RejectionBody<B> {
        RejectionBody { state: State::ReadAhead { ahead: self.ahead } }
    }
}
